/// Maximum number of choices for all inputs of a request. It is below the length of the queen's
/// queue, so that one request cannot fill it.
pub(super) const MAX_TOTAL_CHOICES: u32 = 128;
