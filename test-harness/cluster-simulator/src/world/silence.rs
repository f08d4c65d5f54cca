//! What happens when a worker is silent: it is asked whether it responds. What its silence means is
//! decided by the real relay.

use std::time::Duration;

use request_relay::decisions::{Silence, failure, remaining_patience};

use crate::{
    message::{Connection, Event, Purpose, Reply, ToProcess},
    world::{
        World,
        relay::{QUESTION_AFTER, SILENCE_LIMIT},
    },
};

/// Longest wait for the response.
const RESPONSE_LIMIT: Duration = Duration::from_secs(4);

impl World<'_> {
    /// An attempt has been silent: the worker is asked whether it responds.
    pub(crate) fn examine_silence(&mut self, index: usize, connection: Connection) {
        let now = self.now;
        let Some(attempt) = self.running_attempt(index, connection) else {
            return;
        };
        let due = (attempt.last_event + QUESTION_AFTER).min(attempt.stalled_at);
        let (node, process) = (attempt.node, attempt.process);
        if now < due {
            return self.at(due, Event::Silence(index, connection));
        }
        let purpose = Purpose::Question(index, connection);
        self.call_process(node, process, ToProcess::Info, purpose, RESPONSE_LIMIT);
    }

    pub(crate) fn question_answered(
        &mut self,
        index: usize,
        connection: Connection,
        reply: &Reply,
    ) {
        let now = self.now;
        let Some(attempt) = self.running_attempt(index, connection) else {
            return;
        };
        let silent = now.saturating_sub(attempt.last_event);
        let silence = match reply {
            Reply::Info(_) if now < attempt.stalled_at => None,
            Reply::Info(last_step) => match remaining_patience(*last_step, SILENCE_LIMIT) {
                Some(remaining) => {
                    attempt.stalled_at = now + remaining;
                    None
                }
                None => Some(Silence::Stalled),
            },
            _ if silent < QUESTION_AFTER => None,
            _ => Some(Silence::Unresponsive(silent)),
        };
        let Some(silence) = silence else {
            let due = now + QUESTION_AFTER;
            return self.at(due, Event::Silence(index, connection));
        };
        let (assigned, progress) = self.progress(index);
        let end = failure(silence, &assigned, SILENCE_LIMIT, progress.tokens);
        self.attempt_ended(index, end);
    }
}
