//! Who uses the memory of GPUs.

use std::{cmp::Reverse, collections::BTreeSet, fs, path::Path};

use diagnostics::excerpt;
use hive_contract::{Device, DeviceProcess};

/// Longest name of a process, in characters.
const MAX_NAME: usize = 60;
/// Most processes of a device, and most generations between a process and a worker.
const MAX_PROCESSES: usize = 64;

/// Adds the names of processes. `procfs` is usually `/proc`. The ones with the most memory come
/// first. Processes that are not there are left out: in a container the driver reports the ids of
/// its host, also those of the hive's own workers.
pub(crate) fn named(processes: Vec<(u32, u64)>, procfs: &Path) -> Vec<DeviceProcess> {
    let exists = |(pid, _): &(u32, u64)| procfs.join(pid.to_string()).exists();
    let processes = processes.into_iter().filter(exists);
    let named = processes.map(|(pid, memory_bytes)| DeviceProcess {
        pid,
        name: excerpt(&name(pid, procfs).unwrap_or_default(), MAX_NAME),
        memory_bytes,
    });
    let mut named: Vec<DeviceProcess> = named.collect();
    named.sort_by_key(|process| Reverse(process.memory_bytes));
    named.truncate(MAX_PROCESSES);
    named
}

/// The program of a process without its directory, also of a program for Windows.
fn name(pid: u32, procfs: &Path) -> Option<String> {
    let directory = procfs.join(pid.to_string());
    let line = fs::read(directory.join("cmdline")).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = String::from_utf8_lossy(program);
    let last = program
        .rsplit(['/', '\\'])
        .next()
        .unwrap_or_default()
        .trim();
    if !last.is_empty() {
        return Some(last.to_owned());
    }
    let name = fs::read_to_string(directory.join("comm")).ok()?;
    Some(name.trim().to_owned())
}

/// Removes the workers with these process ids, and all processes that they have started, from the
/// processes that use the devices. `procfs` is usually `/proc`.
pub fn without_workers(devices: &mut [Device], workers: &BTreeSet<u32>, procfs: &Path) {
    for device in devices {
        device
            .processes
            .retain(|process| !belongs_to(process.pid, workers, |pid| parent(pid, procfs)));
    }
}

/// Whether a process is one of these, or was started by one of them.
fn belongs_to(pid: u32, workers: &BTreeSet<u32>, parent: impl Fn(u32) -> Option<u32>) -> bool {
    let ancestors = std::iter::successors(Some(pid), |pid| parent(*pid));
    let mut ancestors = ancestors.take(MAX_PROCESSES);
    ancestors.any(|pid| workers.contains(&pid))
}

fn parent(pid: u32, procfs: &Path) -> Option<u32> {
    let status = fs::read_to_string(procfs.join(pid.to_string()).join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok().filter(|parent| *parent > 0)
}

#[cfg(test)]
mod tests {
    use input_validation::{Backend, DeviceId};

    use super::*;

    fn write(procfs: &Path, pid: u32, files: &[(&str, &str)]) {
        let directory = procfs.join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    #[test]
    fn processes_have_the_names_of_their_programs_and_the_largest_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let comm = ("comm", "other\n");
        write(
            dir.path(),
            5,
            &[("cmdline", "/usr/bin/python3\0main.py\0"), comm],
        );
        write(
            dir.path(),
            6,
            &[("cmdline", "Z:\\games\\Quake \u{1b}[1m.exe\0"), comm],
        );
        write(dir.path(), 7, &[("cmdline", ""), comm]);
        let found = named(vec![(5, 1), (6, 9), (7, 4), (8, 2)], dir.path());
        let found: Vec<(u32, &str)> = found.iter().map(|p| (p.pid, p.name.as_str())).collect();
        assert_eq!(found[0].0, 6);
        assert!(found[0].1.starts_with("Quake"), "{found:?}");
        assert!(!found[0].1.contains('\u{1b}'), "{found:?}");
        assert_eq!(found[1..], [(7, "other"), (5, "python3")]);
    }

    #[test]
    fn workers_and_what_they_have_started_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for (pid, parent) in [(10, 1), (11, 10), (12, 11), (20, 1), (1, 0)] {
            write(
                dir.path(),
                pid,
                &[("status", &format!("Name:\tx\nPPid:\t{parent}\n"))],
            );
        }
        let process = |pid| DeviceProcess {
            pid,
            name: String::new(),
            memory_bytes: 1,
        };
        let mut devices = [Device {
            id: DeviceId::Gpu(0),
            backend: Backend::Cuda,
            name: "a GPU".to_owned(),
            memory_total_bytes: 0,
            memory_free_bytes: 0,
            driver: None,
            compute_capability: None,
            processes: [10, 11, 12, 20, 30].map(process).to_vec(),
        }];
        without_workers(&mut devices, &BTreeSet::from([10]), dir.path());
        assert_eq!(devices[0].processes, [20, 30].map(process));
    }
}
