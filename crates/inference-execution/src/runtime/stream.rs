use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst, fence},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use worker_contract::StreamEvent;

use super::shared::Shared;

/// Number of events that wait for the reader before the sequence is paused.
const READ_AHEAD: usize = 64;
/// Room for the last events (`metrics` and `end`, or `error`), so that they can be sent to a
/// slow reader.
const RESERVED: usize = 2;

/// Returns the two ends of a channel between the engine thread and a reader.
pub fn channel(shared: Arc<Shared>) -> (EventSender, RequestStream) {
    let (sender, receiver) = mpsc::channel(READ_AHEAD + RESERVED);
    let common = Arc::new(Common::default());
    let stream = RequestStream {
        events: receiver,
        common: common.clone(),
        shared,
        ended: false,
    };
    let sender = EventSender {
        events: sender,
        common,
    };
    (sender, stream)
}

/// State of both ends of the channel.
#[derive(Debug, Default)]
struct Common {
    /// The channel is full; the reader must wake the engine thread when it makes room.
    blocked: AtomicBool,
    time_to_first_token: OnceLock<Duration>,
}

/// The engine thread's end of the channel.
#[derive(Debug)]
pub struct EventSender {
    events: mpsc::Sender<StreamEvent>,
    common: Arc<Common>,
}

impl EventSender {
    /// Sends an event. [`Self::ready`] must have returned `true`, except for the last events.
    /// Events for a reader that disconnected are dropped.
    pub fn send(&self, event: StreamEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            tracing::error!(event = event.name(), "event dropped: the channel is full");
        }
    }

    /// Sends an event when the reader has made room. Returns whether the reader is still there.
    pub async fn send_when_ready(&self, event: StreamEvent) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// Waits until the reader disconnects.
    pub async fn abandoned(&self) {
        self.events.closed().await;
    }

    /// Makes the time known to the reader. Must precede the first token event.
    pub fn set_time_to_first_token(&self, elapsed: Duration) {
        let _ = self.common.time_to_first_token.set(elapsed);
    }

    /// Returns whether the reader disconnected.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    fn has_room(&self) -> bool {
        self.events.capacity() > RESERVED
    }

    /// Returns whether another token can be sent. If not, the reader wakes the engine thread
    /// when it makes room.
    pub fn ready(&self) -> bool {
        if self.has_room() {
            self.common.blocked.store(false, SeqCst);
            return true;
        }
        self.common.blocked.store(true, SeqCst);
        // Either the reader sees `blocked`, or the room that it made is seen here.
        fence(SeqCst);
        self.has_room()
    }
}

/// The events of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct RequestStream {
    events: mpsc::Receiver<StreamEvent>,
    common: Arc<Common>,
    shared: Arc<Shared>,
    ended: bool,
}

impl RequestStream {
    /// Returns the time from the request's arrival to its first token. It is known when the
    /// first token event is received.
    pub fn time_to_first_token(&self) -> Option<Duration> {
        self.common.time_to_first_token.get().copied()
    }

    /// Receives the next event. Returns `None` after the terminal event.
    pub async fn recv(&mut self) -> Option<StreamEvent> {
        if self.ended {
            return None;
        }
        let received = self.events.recv().await;
        Some(self.received(received))
    }

    /// Receives the next event if it is available.
    pub fn try_recv(&mut self) -> Option<StreamEvent> {
        if self.ended {
            return None;
        }
        match self.events.try_recv() {
            Ok(event) => Some(self.received(Some(event))),
            Err(mpsc::error::TryRecvError::Empty) => None,
            Err(mpsc::error::TryRecvError::Disconnected) => Some(self.received(None)),
        }
    }

    /// Receives the next event and blocks the thread until it is available.
    pub fn blocking_recv(&mut self) -> Option<StreamEvent> {
        if self.ended {
            return None;
        }
        let received = self.events.blocking_recv();
        Some(self.received(received))
    }

    fn received(&mut self, event: Option<StreamEvent>) -> StreamEvent {
        fence(SeqCst);
        if self.common.blocked.load(SeqCst) {
            self.shared.wake_engine();
        }
        // The channel closes without a terminal event only if the engine thread exits.
        let event = event.unwrap_or_else(|| StreamEvent::Error(self.shared.engine_error()));
        self.ended = event.is_terminal();
        event
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        self.events.close();
        self.shared.wake_engine();
    }
}
