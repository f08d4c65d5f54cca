//! What exists because of the links: what one loss leaves behind, many losses pile up.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use cluster::{Cluster, Machine};
use state_files::DaemonRecord;
use tokio::time::{Instant, sleep};

/// Descriptors of a process that may come and go: idle connections.
const SPARE_DESCRIPTORS: usize = 8;
/// Idle connections are closed after 90 s.
const SETTLING_LIMIT: Duration = Duration::from_secs(120);

/// Counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Processes of the queen and of the machines, by machine and name.
    pub(crate) processes: BTreeMap<String, usize>,
    /// Open descriptors of the daemons.
    pub(crate) descriptors: BTreeMap<String, usize>,
    /// Directories of connections and links, and the sockets of forwards to nodes.
    pub(crate) files: Vec<PathBuf>,
    /// Ports of the machines that lead to the queen.
    pub(crate) forwards: usize,
}

impl Census {
    pub(crate) fn take(cluster: &Cluster, machines: &[&Machine]) -> Result<Self> {
        let mut census = Self::default();
        let record = DaemonRecord::read_alive(&cluster.home.queen_record())?;
        let queen = record.context("the queen is not running")?.process.pid;
        census.add("queen", queen);
        for (pid, process) in processes() {
            if process.parent == queen {
                *census.of("queen", &process.name) += 1;
                continue;
            }
            let home_of = |machine: &&&Machine| process.home == Some(machine.server.home());
            if let Some(machine) = machines.iter().find(home_of) {
                let name = machine.name.as_str();
                match &*process.name {
                    // The next step of a script that waits.
                    "sleep" | "cat" => {}
                    "sh" => *census.of(name, "sh") += 1,
                    _ => census.add(name, pid),
                }
            }
        }
        for machine in machines {
            *census.of(machine.name.as_str(), "sshd") = machine.server.connections();
            census.forwards += machine.server.forwards().len();
        }
        census.files = files_in(&cluster.home.ssh_sockets())?;
        Ok(census)
    }

    /// Waits until there is no more than `before`.
    pub(crate) async fn settle(
        before: &Self,
        cluster: &Cluster,
        machines: &[&Machine],
    ) -> Result<Self> {
        let deadline = Instant::now() + SETTLING_LIMIT;
        loop {
            let now = Self::take(cluster, machines)?;
            let grown = now.grown_since(before);
            if grown.is_empty() {
                return Ok(now);
            }
            if Instant::now() >= deadline {
                bail!("left behind: {grown}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether there are other daemons than before, or more scripts. A script that ends is one of
    /// the steps of a connection.
    fn has_other_processes(&self, before: &Self) -> bool {
        let count = |census: &Self, name| census.processes.get(name).copied().unwrap_or_default();
        let mut names = self.processes.keys().chain(before.processes.keys());
        names.any(|name| {
            let (now, known) = (count(self, name), count(before, name));
            now > known || (now < known && !name.ends_with(" sh"))
        })
    }

    /// What is more or less than before.
    fn grown_since(&self, before: &Self) -> String {
        let mut text = String::new();
        if self.has_other_processes(before) {
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "{:?}, before: {:?}; ",
                self.processes, before.processes
            );
        }
        for (name, count) in &self.descriptors {
            let known = before.descriptors.get(name).copied().unwrap_or_default();
            if *count > known + SPARE_DESCRIPTORS {
                let _ = write!(text, "{count} descriptors of {name}, before: {known}; ");
            }
        }
        if self.files.len() != before.files.len() {
            let _ = write!(text, "{:?}, before: {:?}; ", self.files, before.files);
        }
        if self.forwards != before.forwards {
            let (now, known) = (self.forwards, before.forwards);
            let _ = write!(text, "{now} forwards, before: {known}; ");
        }
        text
    }

    /// Counts a daemon and its descriptors.
    fn add(&mut self, machine: &str, pid: u32) {
        let name = name_of(pid);
        *self.of(machine, &name) += 1;
        let directory = fs::read_dir(format!("/proc/{pid}/fd"));
        let count = directory.map_or(0, Iterator::count);
        *self
            .descriptors
            .entry(format!("{machine} {name}"))
            .or_default() += count;
    }

    fn of(&mut self, machine: &str, name: &str) -> &mut usize {
        self.processes
            .entry(format!("{machine} {name}"))
            .or_default()
    }
}

struct Process {
    parent: u32,
    name: String,
    /// Its `HOME`.
    home: Option<PathBuf>,
}

/// All processes, by pid (proc(5)).
fn processes() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            let home = variables.find_map(|variable| variable.strip_prefix(b"HOME="));
            let process = Process {
                parent,
                name: name_of(pid),
                home: home.map(|home| PathBuf::from(String::from_utf8_lossy(home).into_owned())),
            };
            Some((pid, process))
        })
        .collect()
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.map_or_else(|_| "?".into(), |name| name.trim_end().to_owned())
}

/// Everything below the directory.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_in(&path).unwrap_or_default());
        }
        files.push(path);
    }
    Ok(files)
}
