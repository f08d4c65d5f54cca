//! Keeps the output of a request within its constraint. The masks of allowed tokens are
//! computed on a separate thread: as soon as a token is sampled, that thread computes the next
//! mask while the engine computes the next logits.

use std::{
    mem,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
};

use answer_constraint::{ConstraintState, Matcher, TokenMask, thread_builder};
use diagnostics::Diagnostic;

use crate::{deadline::Deadline, errors};

/// Handle of the thread that computes masks. The thread exits when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct MaskThread(SyncSender<Job>);

/// Advances the matcher by `token` and computes the mask that follows.
struct Job {
    matcher: Box<Matcher>,
    token: u32,
    reply: SyncSender<Reply>,
}

type Reply = Result<(Box<Matcher>, TokenMask), Diagnostic>;

impl MaskThread {
    /// Starts the thread for at most `max_guides` concurrent guides. `on_mask` is called after
    /// every mask.
    pub fn start(
        max_guides: u32,
        on_mask: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Diagnostic> {
        const NAME: &str = "masks";
        // A guide has one job at a time. The channel is full only while it still has jobs of
        // cancelled requests.
        let (sender, jobs) = sync_channel::<Job>(max_guides.max(1) as usize);
        let on_mask = Arc::new(on_mask);
        thread_builder(NAME)
            .spawn(move || {
                for job in jobs {
                    job.run();
                    on_mask();
                }
            })
            .map_err(|e| errors::thread_not_started(NAME, &e))?;
        Ok(Self(sender))
    }
}

impl Job {
    fn run(mut self) {
        let allowed = self.matcher.accept(self.token);
        let allowed = allowed.and_then(|()| self.matcher.allowed());
        // The receiver is gone if the request was cancelled meanwhile.
        let _ = self
            .reply
            .try_send(allowed.map(|allowed| (self.matcher, allowed)));
    }
}

/// Computes the masks of allowed tokens for one request.
pub(crate) struct Guide {
    state: State,
    masks: MaskThread,
}

enum State {
    Ready(Box<Matcher>, TokenMask),
    Pending(Receiver<Reply>),
    Failed(Diagnostic),
}

impl Guide {
    /// Returns a guide that continues from the matcher's current position.
    pub fn new(begun: ConstraintState, masks: MaskThread) -> Self {
        Self {
            state: State::Ready(Box::new(begun.matcher), begun.allowed),
            masks,
        }
    }

    /// Returns the mask for the next token, or `None` while it is being computed.
    ///
    /// Errors: `INVALID_REQUEST` if the constraint cannot be followed any further.
    pub fn allowed(&mut self) -> Result<Option<&TokenMask>, Diagnostic> {
        if let State::Pending(reply) = &self.state {
            match reply.try_recv() {
                Ok(reply) => self.resolve(reply),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => self.resolve(Err(errors::mask_thread_exited())),
            }
        }
        match &self.state {
            State::Ready(_, allowed) => Ok(Some(allowed)),
            State::Pending(_) => Ok(None),
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// Waits until the mask for the next token is computed, or until `deadline`.
    pub fn wait(&mut self, deadline: Deadline) {
        if let State::Pending(reply) = &self.state {
            match reply.recv_timeout(deadline.remaining()) {
                Ok(reply) => self.resolve(reply),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.resolve(Err(errors::mask_thread_exited()));
                }
            }
        }
    }

    fn resolve(&mut self, reply: Reply) {
        self.state = match reply {
            Ok((matcher, allowed)) => State::Ready(matcher, allowed),
            Err(error) => State::Failed(error),
        };
    }

    /// Continues with `token`, which must be allowed and must not be an end token.
    pub fn accept(&mut self, token: u32) {
        let (reply, pending) = sync_channel(1);
        let State::Ready(matcher, _) = mem::replace(&mut self.state, State::Pending(pending))
        else {
            self.state = State::Failed(errors::token_without_mask());
            return;
        };
        let job = Job {
            matcher,
            token,
            reply,
        };
        if self.masks.0.send(job).is_err() {
            self.state = State::Failed(errors::mask_thread_exited());
        }
    }
}
