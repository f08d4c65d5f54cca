use std::sync::Arc;

use bytes::Bytes;
use diagnostics::{Level, Narration};
use futures_util::{Stream, stream};
use hive_contract::JobEvent;
use tokio::sync::broadcast::{self, error::RecvError};
use worker_lifecycle::Report;

/// Narrations that a slow reader may be behind; then it misses the oldest and is told.
const BEHIND_LIMIT: usize = 1024;

/// Everything that is narrated on this hive.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Narration>);

impl Events {
    pub fn new() -> Self {
        Self(broadcast::Sender::new(BEHIND_LIMIT))
    }

    /// Logs a narration and sends it to all readers.
    pub fn narrate(&self, narration: Narration) {
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
        // Nobody listens: nothing to do.
        let _ = self.0.send(narration);
    }

    /// A report whose narrations come here.
    pub fn report(&self) -> Report {
        let this = self.clone();
        Arc::new(move |event| {
            if let JobEvent::Narration(narration) = event {
                this.narrate(narration);
            }
        })
    }

    /// What is narrated from now on, encoded for SSE.
    pub fn follow(&self) -> impl Stream<Item = Bytes> + Send + use<> {
        stream::unfold(self.0.subscribe(), |mut reader| async move {
            let narration = match reader.recv().await {
                Ok(narration) => narration,
                Err(RecvError::Lagged(missed)) => Narration::warn(
                    "hive",
                    "lagging",
                    format!("{missed} events were missed by this reader"),
                ),
                Err(RecvError::Closed) => return None,
            };
            Some((encode(&JobEvent::Narration(narration)), reader))
        })
    }
}

/// An event as it stands in an event stream.
pub fn encode(event: &JobEvent) -> Bytes {
    // Only values that cannot be JSON fail; an event has none.
    let data = event.data().unwrap_or_default();
    Bytes::from(format!("event: {}\ndata: {data}\n\n", event.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;

    #[tokio::test]
    async fn a_lagging_reader_is_told_how_much_it_missed() {
        let events = Events::new();
        let mut reader = Box::pin(events.follow());
        for n in 0..BEHIND_LIMIT + 3 {
            events.narrate(Narration::info("hive", "test", n.to_string()));
        }
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let first = text(reader.next().await.unwrap());
        assert!(first.contains("3 events were missed"), "{first}");
        let second = text(reader.next().await.unwrap());
        assert_eq!(
            second,
            "event: narration\ndata: {\"actor\":\"hive\",\"action\":\"test\",\"message\":\"3\",\"level\":\"info\"}\n\n"
        );
    }
}
