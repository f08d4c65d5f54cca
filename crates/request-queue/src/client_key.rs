/// Identifies the client of a request. Requests with the same key share one turn.
///
/// The default is the key of all clients that present none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(u64);

impl ClientKey {
    /// `hash` is of what the client presents, which the queue does not keep.
    pub fn new(hash: u64) -> Self {
        Self(hash)
    }
}
