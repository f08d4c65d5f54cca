//! Bugs that are planted on purpose, to show that the invariants find them.

/// A wrong behavior of a part of the cluster, at every second occasion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The queen does not report to its scheduler that a request has finished.
    DropFinished,
    /// The queen sends the end of a request to the client twice.
    DoubleTerminal,
    /// The queen does not report to the client that its request failed.
    DropFail,
    /// The queen runs an assignment twice.
    DoubleAssign,
    /// The queen runs a request on another worker than the assigned one.
    WrongWorker,
    /// The queen does not put a request back whose worker failed.
    ForgetPutBack,
    /// The next worker continues one token too early.
    ContinueTooEarly,
    /// The next worker continues one token too late.
    ContinueTooLate,
    /// Tokens of an earlier attempt still reach the client.
    ForwardStale,
    /// The queen sends a token twice.
    DoubleToken,
    /// The queen loses a token.
    LoseToken,
    /// The queen gives requests a later deadline than the client.
    LateDeadline,
    /// The scheduler receives no ticks.
    NoTicks,
    /// The queue has no limit.
    NoQueueLimit,
    /// The queen begins a spawn twice.
    DoubleSpawn,
    /// The queen forgets the deployments when it starts.
    ForgetDeployments,
    /// The queen does not read that its policy has changed.
    ForgetPolicy,
    /// The queen does not stop a worker that it wants to stop.
    DropStop,
    /// The queen does not report the end of a spawn to its scheduler.
    DropSpawned,
    /// The registry receives heartbeats in the name of workers that are gone.
    KeepDead,
    /// The registry accepts the heartbeats of generations that must not serve.
    AcceptFenced,
    /// A worker that is fenced continues.
    IgnoreFence,
    /// The hive does not check whether there is memory for a worker.
    NoMemoryCheck,
    /// The hive does not count the memory that loading workers have not allocated yet.
    ForgetLoading,
    /// The hive does not stop the older process of a worker.
    NoSupersede,
    /// The worker keeps the slot and the blocks of a finished sequence.
    KeepSequence,
    /// The worker ignores that a request was cancelled.
    IgnoreCancel,
    /// The worker does not count a token that it sampled.
    DropSampled,
    /// The worker sends two tokens in the wrong order.
    SwapTokens,
}

impl Bug {
    pub const ALL: [Self; 29] = [
        Self::DropFinished,
        Self::DoubleTerminal,
        Self::DropFail,
        Self::DoubleAssign,
        Self::WrongWorker,
        Self::ForgetPutBack,
        Self::ContinueTooEarly,
        Self::ContinueTooLate,
        Self::ForwardStale,
        Self::DoubleToken,
        Self::LoseToken,
        Self::LateDeadline,
        Self::NoTicks,
        Self::NoQueueLimit,
        Self::DoubleSpawn,
        Self::ForgetDeployments,
        Self::ForgetPolicy,
        Self::DropStop,
        Self::DropSpawned,
        Self::KeepDead,
        Self::AcceptFenced,
        Self::IgnoreFence,
        Self::NoMemoryCheck,
        Self::ForgetLoading,
        Self::NoSupersede,
        Self::KeepSequence,
        Self::IgnoreCancel,
        Self::DropSampled,
        Self::SwapTokens,
    ];
}
