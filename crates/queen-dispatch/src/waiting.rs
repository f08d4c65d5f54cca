//! What clients receive while their requests wait.

use queen_contract::{Waiting, WaitingReason};
use scheduler::WaitReason;

/// Returns what a client receives.
pub(crate) fn describe(waiting: scheduler::Waiting) -> Waiting {
    let scheduler::Waiting {
        reason,
        position,
        waiting,
        estimate,
    } = waiting;
    let (kind, mut message) = match reason {
        WaitReason::Busy { .. } => (WaitingReason::Busy, "all workers are busy".to_owned()),
        WaitReason::Loading => (
            WaitingReason::Loading,
            "waiting for a worker to load the model".to_owned(),
        ),
        WaitReason::Waking => (
            WaitingReason::Waking,
            "waiting for a node that is asleep to wake up".to_owned(),
        ),
        WaitReason::Memory => (
            WaitingReason::Memory,
            "waiting for memory that other models use".to_owned(),
        ),
        WaitReason::Backoff { remaining } => {
            let seconds = remaining.as_secs_f64().ceil();
            let message = format!("the last spawn failed; next attempt in {seconds} s");
            (WaitingReason::Backoff, message)
        }
        WaitReason::Policy => (
            WaitingReason::Policy,
            "the policy permits none of the workers that are free".to_owned(),
        ),
    };
    if kind == WaitingReason::Busy || waiting > 1 {
        message = format!("{message}; position {position} of {waiting} in the queue");
    }
    let estimated_seconds = estimate.map(|time| time.as_secs_f64().ceil() as u64);
    if let Some(seconds) = estimated_seconds {
        message = format!("{message}; about {seconds} s");
    }
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Waiting {
        reason: kind,
        position: count(position),
        waiting: count(waiting),
        estimated_seconds,
        message,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_message_has_the_position_and_the_estimate_where_they_say_something() {
        let message = |reason, position, waiting, millis: Option<u64>| {
            let described = describe(scheduler::Waiting {
                reason,
                position,
                waiting,
                estimate: millis.map(Duration::from_millis),
            });
            assert_eq!(described.position as usize, position);
            assert_eq!(described.waiting as usize, waiting);
            described.message
        };
        let busy = WaitReason::Busy { waiting: 3 };
        let remaining = Duration::from_millis(1500);
        for (text, expected) in [
            (
                message(busy, 2, 3, Some(11_001)),
                "all workers are busy; position 2 of 3 in the queue; about 12 s",
            ),
            (
                message(busy, 1, 1, None),
                "all workers are busy; position 1 of 1 in the queue",
            ),
            (
                message(WaitReason::Loading, 1, 1, None),
                "waiting for a worker to load the model",
            ),
            (
                message(WaitReason::Loading, 1, 2, Some(3000)),
                "waiting for a worker to load the model; position 1 of 2 in the queue; about 3 s",
            ),
            (
                message(WaitReason::Memory, 1, 1, None),
                "waiting for memory that other models use",
            ),
            (
                message(WaitReason::Backoff { remaining }, 1, 1, None),
                "the last spawn failed; next attempt in 2 s",
            ),
        ] {
            assert_eq!(text, expected);
        }
    }
}
