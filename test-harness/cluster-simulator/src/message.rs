//! What happens in a run, and what the processes send to each other.

use std::time::Duration;

use diagnostics::Diagnostic;
use input_validation::{DeviceId, Generation, WorkerId};
use worker_contract::WorkerHeartbeat;
use worker_registry::SpawnId;

/// A connection for one attempt of a request.
pub(crate) type Connection = u64;
/// Index of a process.
pub(crate) type ProcessIndex = usize;
/// Number of a call, a spawn job or a spawn task.
pub(crate) type Number = u64;

#[derive(Debug, Clone)]
pub(crate) enum Event {
    Arrive(usize),
    Cancel(usize),
    /// The queen's clock ticks; the number is that of its process.
    Tick(u32),
    Poll(u32),
    Queen(ToQueen),
    Hive(usize, ToHive),
    Process(ProcessIndex, ToProcess),
    Deadline(usize),
    /// A silent attempt is examined.
    Silence(usize, Connection),
    /// The result of an attempt that could not begin.
    Unreachable(usize, Connection),
    /// The time for the response to a call is over.
    CallLimit(Number),
    /// A spawn task of the queen continues.
    Task(Number),
    /// A spawn job of a hive continues; the hive's process is the third.
    Job(usize, Number, u32),
    /// A stop of a hive continues.
    Stop(usize, Number, u32),
    /// A user changes a deployment.
    Deploy(usize),
    FaultBegins(usize),
    FaultEnds(usize),
    /// A request after the faults, for the model with this index.
    Probe(usize),
    End,
}

#[derive(Debug, Clone)]
pub(crate) enum ToQueen {
    Heartbeat(ProcessIndex, Box<WorkerHeartbeat>),
    Reply(Number, Reply),
    Stream(usize, Connection, StreamItem),
    Job(Number, JobItem),
}

/// An event of a worker about a request.
#[derive(Debug, Clone)]
pub(crate) enum StreamItem {
    Token(u32),
    End,
    Error(Box<Diagnostic>),
    /// The connection broke.
    Reset,
}

/// An event of a hive about a spawn.
#[derive(Debug, Clone)]
pub(crate) enum JobItem {
    Progress,
    Done(SpawnId),
    Failed(Box<Diagnostic>),
    /// The connection broke.
    Reset,
}

#[derive(Debug, Clone)]
pub(crate) enum ToHive {
    Call(Number, HiveCall),
    Spawn(Number, SpawnOrder),
    /// The queen does not wait for the spawn any more.
    Abandon(Number),
}

#[derive(Debug, Clone)]
pub(crate) struct SpawnOrder {
    pub(crate) spawn: SpawnId,
    pub(crate) model: usize,
    pub(crate) device: DeviceId,
}

#[derive(Debug, Clone)]
pub(crate) enum HiveCall {
    Ping,
    Workers,
    Worker(WorkerId),
    /// Whether the running requests get time to finish.
    Stop(SpawnId, bool),
}

#[derive(Debug, Clone)]
pub(crate) enum ToProcess {
    Infer(Box<InferCall>),
    Close(Connection),
    /// Asks for the time since the last step.
    Info(Number),
    CancelCall(Number, Connection),
    HeartbeatReply {
        number: u64,
        fenced: bool,
    },
    HeartbeatDue(u64),
    HeartbeatLimit(u64),
    Load,
    StepDone,
    Wake,
    Drain,
    Terminate,
    Exit,
}

#[derive(Debug, Clone)]
pub(crate) struct InferCall {
    pub(crate) request: usize,
    pub(crate) connection: Connection,
    pub(crate) continue_from: Vec<u32>,
    /// On the wall clock of the queen.
    pub(crate) deadline: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// The free memory: of the main memory, then of each GPU.
    Pong(Vec<u64>),
    Workers(Vec<Listed>, Vec<u64>),
    Worker(Option<(Generation, bool)>),
    Stopped,
    Info(Option<Duration>),
    Cancelled,
    /// Nobody listens there.
    Refused,
    /// The connection was lost, or there was no response in time.
    Lost,
}

/// What a response is for.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    Ping,
    Exit(usize),
    Cancel(usize),
    Question(usize, Connection),
    /// For a spawn task.
    Task(Number),
    /// A worker was stopped.
    Stop(SpawnId),
    /// Whether the process of a worker whose heartbeat is late is running.
    Process(SpawnId),
}

/// A worker that a hive knows.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) spawn: SpawnId,
    pub(crate) model: usize,
    pub(crate) device: DeviceId,
    pub(crate) running: bool,
}
