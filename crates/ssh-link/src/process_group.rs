use std::{io, process::Output, time::Duration};

use rustix::process::{Pid, Signal};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// The processes of a command: ssh, and those that it started for jump hosts and proxies, which
/// would keep waiting for their servers. Dropping it kills them.
pub(crate) struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// The group that `child` leads. Drop it before `child`, so that the number is its own.
    pub(crate) fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// Nothing is killed any more: ssh has exited and ended what it had started.
    pub(crate) fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // They may have exited in the meantime.
            let _ = rustix::process::kill_process_group(leader, Signal::KILL);
        }
    }
}

/// Runs a command to its end. `None` if it takes longer than `limit`.
pub(crate) async fn output(mut command: Command, limit: Duration) -> io::Result<Option<Output>> {
    let child = command.spawn()?;
    let number = ProcessGroup::of(&child);
    let mut end = Box::pin(child.wait_with_output());
    // Declared after the child, so it is dropped before it.
    let mut group = number;
    match timeout(limit, &mut end).await {
        Ok(output) => {
            group.has_ended();
            output.map(Some)
        }
        Err(_) => Ok(None),
    }
}
