/// Maximum number of choices for all inputs of a request. It is below the length of the queen's
/// queue, so that one request cannot fill it.
pub(super) const MAX_TOTAL_CHOICES: u32 = 128;

/// Words for the effort, as in OpenAI's API.
pub(super) const EFFORTS: [&str; 7] = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
