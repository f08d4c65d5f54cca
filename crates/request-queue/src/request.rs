use std::time::Duration;

use input_validation::{ModelRef, RequestId};
use queen_contract::Priority;

use crate::{ClientKey, Deadline};

/// A request as the queue sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedRequest {
    pub id: RequestId,
    pub model: ModelRef,
    pub priority: Priority,
    pub client: ClientKey,
    /// When it arrived, as a duration since the start of the queen.
    pub arrived: Duration,
    pub deadline: Deadline,
}

/// A request's number by arrival. It is kept while the request runs, so that requests that lose
/// their workers return in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub(crate) u64);

/// Whether a request that [`RequestQueue::offer`](crate::RequestQueue::offer) presents leaves the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    Take,
    Keep,
}
