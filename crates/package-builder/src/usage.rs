//! What the processes and the folder of a build use.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
};

use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat},
};

use crate::{Limits, errors::Exceeded};

/// Directories in each other at most.
const DEPTH: usize = 128;

/// What a tree of processes uses.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessUsage {
    /// Processes and threads.
    pub(crate) threads: u64,
    /// Memory in bytes.
    pub(crate) memory: u64,
}

/// Returns the children of a process. Those of a sandbox cannot leave its tree: orphans get the
/// first process of the sandbox as parent.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    // Fast also when there are very many processes, but not every kernel has it.
    if let Ok(text) = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")) {
        let numbers = text.split_ascii_whitespace();
        return numbers.filter_map(|pid| pid.parse().ok()).collect();
    }
    let all = parents();
    let mut found: Vec<u32> = all
        .iter()
        .filter(|(_, p)| p.0 == parent)
        .map(|(c, _)| *c)
        .collect();
    found.sort_unstable();
    found
}

/// Number of processes and threads of the whole machine; 0 if it is unknown.
pub(crate) fn threads_of_machine() -> u64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = text.split_ascii_whitespace().nth(3);
    let total = running.and_then(|text| text.split_once('/')?.1.parse().ok());
    total.unwrap_or_default()
}

/// Measures all descendants of a process.
pub(crate) fn processes(root: u32) -> ProcessUsage {
    let all = parents();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, (parent, _)) in &all {
        children.entry(*parent).or_default().push(*pid);
    }
    let mut usage = ProcessUsage::default();
    let mut queue = vec![root];
    let mut seen = BTreeSet::from([root]);
    while let Some(pid) = queue.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            if !seen.insert(*child) {
                continue;
            }
            usage.threads += all.get(child).map_or(0, |(_, threads)| *threads);
            usage.memory += memory(*child);
            queue.push(*child);
        }
    }
    usage
}

/// Parent and number of threads of all processes.
fn parents() -> HashMap<u32, (u32, u64)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let read = |name: &str| {
        let pid: u32 = name.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parse_stat(&stat)?))
    };
    entries
        .filter_map(|entry| read(entry.file_name().to_str()?))
        .collect()
}

/// Reads parent and number of threads (proc_pid_stat(5)).
fn parse_stat(stat: &str) -> Option<(u32, u64)> {
    // The name of the program is in brackets and can contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let threads = fields.nth(15)?.parse().ok()?;
    Some((parent, threads))
}

/// Memory of a process that is not backed by files, in bytes.
fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let value = |line: &str| -> Option<u64> {
        let rest = line
            .strip_prefix("RssAnon:")
            .or(line.strip_prefix("RssShmem:"))?;
        rest.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    status.lines().filter_map(value).sum::<u64>() << 10
}

/// Checks the size of a folder while it changes. No link is followed.
pub(crate) fn folder(path: &Path, limits: &Limits) -> Option<Exceeded> {
    let mut count = Count {
        limits,
        bytes: 0,
        files: 0,
    };
    let dir = openat(CWD, path, FLAGS, Mode::empty()).ok()?;
    count.directory(&dir, 0).err()
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

struct Count<'a> {
    limits: &'a Limits,
    bytes: u64,
    files: u64,
}

impl Count<'_> {
    fn directory(&mut self, dir: &OwnedFd, depth: usize) -> Result<(), Exceeded> {
        if depth > DEPTH {
            return Err(Exceeded::Depth);
        }
        for entry in Dir::read_from(dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            // Entries can be removed meanwhile.
            let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            self.files += 1;
            self.bytes += stat.st_blocks as u64 * 512;
            if self.files > self.limits.files {
                return Err(Exceeded::Files);
            }
            if self.bytes > self.limits.disk {
                return Err(Exceeded::Disk);
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
                && let Ok(child) = openat(dir, name, FLAGS, Mode::empty())
            {
                self.directory(&child, depth + 1)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_can_have_any_name() {
        let stat = "7 (a) S 1 (b) S 3 7 7 0 -1 4 1 1 1 1 0 0 0 0 20 0 12 0 99 0 0";
        assert_eq!(parse_stat(stat), Some((3, 12)));
        assert_eq!(parse_stat("7 (a"), None);
    }
}
