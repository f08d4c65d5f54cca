//! Calls of the queen to hives and workers, and their responses.

use std::time::Duration;

use crate::{
    message::{Event, HiveCall, Number, ProcessIndex, Purpose, Reply, ToHive, ToProcess, ToQueen},
    world::{World, network::Way},
};

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(super) node: usize,
    purpose: Purpose,
}

impl Call {
    /// Whether the queen makes such calls without an occasion: an idle worker is stopped at any
    /// time.
    pub(crate) fn is_usual(&self) -> bool {
        matches!(self.purpose, Purpose::Ping | Purpose::Stop(_))
    }
}

impl World<'_> {
    pub(crate) fn call_hive(
        &mut self,
        node: usize,
        call: HiveCall,
        purpose: Purpose,
        limit: Duration,
    ) {
        let number = self.begin_call(node, purpose, limit);
        self.send(node, Way::To, Event::Hive(node, ToHive::Call(number, call)));
    }

    pub(crate) fn call_process(
        &mut self,
        node: usize,
        process: ProcessIndex,
        message: impl FnOnce(Number) -> ToProcess,
        purpose: Purpose,
        limit: Duration,
    ) {
        let number = self.begin_call(node, purpose, limit);
        self.send(node, Way::To, Event::Process(process, message(number)));
    }

    pub(super) fn begin_call(&mut self, node: usize, purpose: Purpose, limit: Duration) -> Number {
        let number = self.number();
        self.queen.calls.insert(number, Call { node, purpose });
        self.at(self.now + limit, Event::CallLimit(number));
        number
    }

    /// The response to a call of the queen.
    pub(crate) fn reply(&mut self, node: usize, call: Number, reply: Reply) {
        self.send(node, Way::From, Event::Queen(ToQueen::Reply(call, reply)));
    }

    pub(crate) fn answered(&mut self, call: Number, reply: &Reply) {
        let Some(Call { node, purpose }) = self.queen.calls.remove(&call) else {
            return;
        };
        match purpose {
            Purpose::Ping => self.ping_answered(node, reply),
            Purpose::Exit(request) => self.exit_answered(request, reply),
            Purpose::Cancel(request) => self.cancel_answered(request),
            Purpose::Question(request, connection) => {
                self.question_answered(request, connection, reply);
            }
            Purpose::Task(task) => self.task_answered(task, reply),
            Purpose::Stop(spawn) => self.stopped(&spawn),
            Purpose::Process(spawn) => self.process_answered(spawn, reply),
        }
    }
}
