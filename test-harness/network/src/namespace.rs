use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    os::fd::AsFd as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::LinkNameSpaceType;

/// A network namespace with a loopback interface and nothing else. It exists until this and the
/// last process in it have ended.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// Creates a namespace.
    pub fn new() -> Result<Self> {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c"])
            .arg("ip link set lo up && echo ready && read -r _")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run `unshare`")?;
        let stdout = holder.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let file = File::open(format!("/proc/{}/ns/net", holder.id()));
        // Its standard input ends.
        drop(holder.stdin.take());
        holder.wait()?;
        ensure!(line == "ready\n", "`unshare --net` fails");
        Ok(Self(file?))
    }

    /// Moves the calling thread to this namespace; what it starts is there as well.
    pub fn enter(&self) -> Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(self.0.as_fd(), network)?;
        Ok(())
    }

    /// The namespace, for another thread.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}
