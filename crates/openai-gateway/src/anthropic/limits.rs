/// Least number of tokens for thinking, as in Anthropic's API.
pub(super) const MIN_BUDGET: i64 = 1024;
/// Words for the effort.
pub(super) const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];
