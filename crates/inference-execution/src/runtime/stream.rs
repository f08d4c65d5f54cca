use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst, fence},
};

use diagnostics::Diagnostic;
use tokio::sync::mpsc;
use worker_contract::StreamEvent;

use super::shared::Shared;

/// Events that wait for a reader before its sequence is paused.
const READ_AHEAD: usize = 64;
/// Places that only the last events use (`metrics` and `end`, or `error`), so that they can
/// be sent however slow the reader is.
const RESERVED: usize = 2;

/// A channel between the engine's thread and one reader.
pub(super) fn channel(shared: Arc<Shared>, seed: u64) -> (EventSender, RequestStream) {
    let (sender, receiver) = mpsc::channel(READ_AHEAD + RESERVED);
    let blocked = Arc::new(AtomicBool::new(false));
    let stream = RequestStream {
        events: receiver,
        blocked: blocked.clone(),
        shared,
        seed,
        ended: false,
    };
    (
        EventSender {
            events: sender,
            blocked,
        },
        stream,
    )
}

/// The engine's end.
#[derive(Debug)]
pub(super) struct EventSender {
    events: mpsc::Sender<StreamEvent>,
    /// The engine waits for the reader, who must wake it.
    blocked: Arc<AtomicBool>,
}

impl EventSender {
    /// Sends an event; the caller made sure of [`Self::has_room`] unless it is one of the
    /// last. An event that nobody reads any more is lost rightly.
    pub fn send(&self, event: StreamEvent) {
        if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
            tracing::error!(event = event.name(), "an event found no room");
        }
    }

    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    fn has_room(&self) -> bool {
        self.events.capacity() > RESERVED
    }

    /// Whether another token can be sent; if not, the reader wakes the engine once it can.
    pub fn ready(&self) -> bool {
        if self.has_room() {
            self.blocked.store(false, SeqCst);
            return true;
        }
        self.blocked.store(true, SeqCst);
        // Either the reader sees `blocked`, or the room it made is seen here.
        fence(SeqCst);
        self.has_room()
    }
}

/// The events of one request. Dropping it cancels the request.
#[derive(Debug)]
pub struct RequestStream {
    events: mpsc::Receiver<StreamEvent>,
    blocked: Arc<AtomicBool>,
    shared: Arc<Shared>,
    seed: u64,
    ended: bool,
}

impl RequestStream {
    /// The seed, given or drawn.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next event; `None` after the terminal one.
    pub async fn recv(&mut self) -> Option<StreamEvent> {
        if self.ended {
            return None;
        }
        let received = self.events.recv().await;
        Some(self.received(received))
    }

    /// The next event if there is one already.
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

    /// The next event, waited for by blocking the thread.
    pub fn blocking_recv(&mut self) -> Option<StreamEvent> {
        if self.ended {
            return None;
        }
        let received = self.events.blocking_recv();
        Some(self.received(received))
    }

    fn received(&mut self, event: Option<StreamEvent>) -> StreamEvent {
        fence(SeqCst);
        if self.blocked.load(SeqCst) {
            self.shared.wake();
        }
        // A channel that closes without a terminal event lost its engine.
        let event = event.unwrap_or_else(|| {
            let lost = || Diagnostic::internal("the engine ended before the answer did");
            StreamEvent::Error(self.shared.failure.get().cloned().unwrap_or_else(lost))
        });
        self.ended = event.is_terminal();
        event
    }
}

impl Drop for RequestStream {
    fn drop(&mut self) {
        self.events.close();
        self.shared.wake();
    }
}
