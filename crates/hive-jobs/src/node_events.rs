use diagnostics::{Level, Narration};
use futures_util::{Stream, stream};
use hive_contract::JobEvent;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::Reporter;

/// Narrations that are kept for a slow subscriber. A subscriber that is further behind misses
/// the oldest ones.
const BACKLOG: usize = 1024;

/// The narration of everything that happens on the node. Clones publish to the same
/// subscribers.
#[derive(Debug, Clone)]
pub struct NodeEvents(broadcast::Sender<Narration>);

impl Default for NodeEvents {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl NodeEvents {
    /// Logs a narration and sends it to all subscribers.
    pub fn publish(&self, narration: Narration) {
        let Narration {
            action,
            message,
            level,
            ..
        } = &narration;
        match level {
            Level::Debug => tracing::debug!(action, "{message}"),
            Level::Info => tracing::info!(action, "{message}"),
            Level::Warn => tracing::warn!(action, "{message}"),
            Level::Error => tracing::error!(action, "{message}"),
        }
        // Fails only when there is no subscriber.
        let _ = self.0.send(narration);
    }

    /// A reporter that publishes narration. Other events are dropped.
    pub fn reporter(&self) -> Reporter {
        let this = self.clone();
        Reporter::new(move |event| {
            if let JobEvent::Narration(narration) = event {
                this.publish(narration);
            }
        })
    }

    /// The narrations from now on. In place of narrations that the subscriber missed it gets
    /// one with their number.
    pub fn subscribe(&self) -> impl Stream<Item = Narration> + Send + use<> {
        stream::unfold(self.0.subscribe(), |mut receiver| async move {
            let narration = match receiver.recv().await {
                Ok(narration) => narration,
                Err(RecvError::Lagged(missed)) => Narration::warn(
                    "hive",
                    "lagging",
                    format!("this reader is too slow and missed {missed} events"),
                ),
                Err(RecvError::Closed) => return None,
            };
            Some((narration, receiver))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    fn narration(text: &str) -> Narration {
        Narration::info("hive", "test", text)
    }

    #[tokio::test]
    async fn a_slow_subscriber_gets_the_number_of_missed_events() {
        let events = NodeEvents::default();
        let mut subscriber = Box::pin(events.subscribe());
        for n in 0..BACKLOG + 3 {
            events.publish(narration(&n.to_string()));
        }
        let first = subscriber.next().await.unwrap();
        assert_eq!(first.message, "this reader is too slow and missed 3 events");
        assert_eq!(first.level, Level::Warn);
        for n in 3..BACKLOG + 3 {
            assert_eq!(subscriber.next().await, Some(narration(&n.to_string())));
        }
    }

    #[tokio::test]
    async fn a_reporter_publishes_narration_only() {
        let events = NodeEvents::default();
        let mut subscriber = Box::pin(events.subscribe());
        let reporter = events.reporter();
        reporter.send(JobEvent::Cancelled {});
        reporter.info("test", "one");
        assert_eq!(subscriber.next().await, Some(narration("one")));
    }
}
