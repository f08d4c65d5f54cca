//! Keeps an answer within its constraint. Which tokens may come next is found out beside the
//! engine: as soon as a token is chosen, a thread of its own works on the next mask while the
//! engine computes the next logits.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    time::Instant,
};

use answer_constraint::{ConstraintState, Matcher, TokenMask, thread_builder};
use diagnostics::Diagnostic;

/// The thread that finds out masks. It ends with the last handle.
#[derive(Clone)]
pub struct MaskThread(SyncSender<Job>);

/// A token was chosen: the matcher takes it and tells what may follow.
struct Job {
    matcher: Box<Matcher>,
    token: u32,
    reply: SyncSender<Reply>,
}

type Reply = Result<(Box<Matcher>, TokenMask), Diagnostic>;

impl MaskThread {
    /// Starts the thread for at most `guides` guides at once; `known` is called whenever a
    /// mask is.
    pub fn start(
        guides: u32,
        known: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, Diagnostic> {
        // A guide has one job at a time; only jobs of cancelled requests can fill the channel.
        let (sender, jobs) = sync_channel(guides.max(1) as usize);
        let known = Arc::new(known);
        thread_builder("masks")
            .spawn(move || {
                for job in jobs {
                    work(job);
                    known();
                }
            })
            .map_err(|e| Diagnostic::internal(format!("cannot start a thread: {e}")))?;
        Ok(Self(sender))
    }
}

fn work(job: Job) {
    let Job {
        mut matcher,
        token,
        reply,
    } = job;
    let allowed = matcher.accept(token).and_then(|()| matcher.allowed());
    // A request that was cancelled meanwhile waits for nothing.
    let _ = reply.try_send(allowed.map(|allowed| (matcher, allowed)));
}

/// Tells which tokens one answer may go on with.
pub struct Guide {
    state: State,
    masks: MaskThread,
}

enum State {
    Known(Box<Matcher>, TokenMask),
    Awaited(Receiver<Reply>),
    Failed(Diagnostic),
}

impl Guide {
    /// A guide from where the answer is now.
    pub fn new(begun: ConstraintState, masks: MaskThread) -> Self {
        Self {
            state: State::Known(Box::new(begun.matcher), begun.allowed),
            masks,
        }
    }

    /// The tokens that may come next; `None` while that is being found out.
    ///
    /// Errors: `INVALID_REQUEST` when the constraint cannot be followed any further.
    pub fn allowed(&mut self) -> Result<Option<&TokenMask>, Diagnostic> {
        if let State::Awaited(reply) = &self.state {
            match reply.try_recv() {
                Ok(reply) => self.learn(reply),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => self.learn(Err(broken())),
            }
        }
        match &self.state {
            State::Known(_, allowed) => Ok(Some(allowed)),
            State::Awaited(_) => Ok(None),
            State::Failed(error) => Err(error.clone()),
        }
    }

    /// Waits, until `end` at the latest, for what may come next.
    pub fn wait(&mut self, end: Instant) {
        if let State::Awaited(reply) = &self.state {
            match reply.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(reply) => self.learn(reply),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.learn(Err(broken())),
            }
        }
    }

    fn learn(&mut self, reply: Reply) {
        self.state = match reply {
            Ok((matcher, allowed)) => State::Known(matcher, allowed),
            Err(error) => State::Failed(error),
        };
    }

    /// The answer goes on with `token`, one of those that were allowed and no end token.
    pub fn accept(&mut self, token: u32) {
        let (reply, awaited) = sync_channel(1);
        let State::Known(matcher, _) = std::mem::replace(&mut self.state, State::Awaited(awaited))
        else {
            self.state = State::Failed(Diagnostic::internal("a token came before its mask"));
            return;
        };
        let job = Job {
            matcher,
            token,
            reply,
        };
        if self.masks.0.send(job).is_err() {
            self.state = State::Failed(broken());
        }
    }
}

fn broken() -> Diagnostic {
    Diagnostic::internal("the thread that follows constraints broke")
}
