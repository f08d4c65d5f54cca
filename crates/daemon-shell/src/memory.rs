use std::{
    fs,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::errors;

/// Main memory of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Total size.
    pub total_bytes: u64,
    /// Available without swapping.
    pub available_bytes: u64,
}

impl Memory {
    /// The machine's memory, or that of this process's control group if that is less.
    pub fn now() -> Result<Self, Diagnostic> {
        let memory = MemoryRefreshKind::nothing().with_ram();
        let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory))
            .map_err(|e| errors::memory_unknown(&e))?;
        let machine = Self {
            total_bytes: system.total_memory(),
            available_bytes: system.available_memory(),
        };
        Ok(MemoryGroup::own().map_or(machine, |group| group.limit(machine)))
    }
}

/// Number of OOM kills in the control group of this process, or on the machine if it has no
/// group. `None` if the kernel does not report it.
pub fn oom_kills() -> Option<u64> {
    let in_group = MemoryGroup::own().and_then(|group| group.oom_kills());
    in_group.or_else(|| counter(&fs::read_to_string("/proc/vmstat").ok()?, "oom_kill"))
}

/// The memory controller of this process's control group. A worker is in the group of the hive
/// that spawned it.
struct MemoryGroup {
    /// The group and its ancestors; each may have a limit.
    dirs: Vec<PathBuf>,
    files: &'static FileNames,
}

/// Names of the controller's files (cgroups(7)).
struct FileNames {
    limit: &'static str,
    usage: &'static str,
    events: &'static str,
}

const V2: FileNames = FileNames {
    limit: "memory.max",
    usage: "memory.current",
    events: "memory.events",
};
const V1: FileNames = FileNames {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    events: "memory.oom_control",
};

impl MemoryGroup {
    /// The group of this process. `None` if the kernel does not report it.
    fn own() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let (root, files) = match controllers {
                "" => ("/sys/fs/cgroup", &V2),
                "memory" => ("/sys/fs/cgroup/memory", &V1),
                _ => return None,
            };
            let dirs: Vec<PathBuf> = Path::new(path)
                .ancestors()
                .filter_map(|p| Some(Path::new(root).join(p.strip_prefix("/").ok()?)))
                .collect();
            // In a hybrid setup the process is in a version 2 group, and version 1 controls its
            // memory.
            dirs.iter()
                .any(|dir| dir.join(files.events).exists())
                .then_some(Self { dirs, files })
        })
    }

    /// Number of OOM kills in the group.
    fn oom_kills(&self) -> Option<u64> {
        let events = self.dirs.first()?.join(self.files.events);
        counter(&fs::read_to_string(events).ok()?, "oom_kill")
    }

    /// `memory` reduced to the tightest limit of the groups.
    fn limit(&self, mut memory: Memory) -> Memory {
        for dir in &self.dirs {
            let number = |name: &str| -> Option<u64> {
                let text = fs::read_to_string(dir.join(name)).ok()?;
                text.trim().parse().ok()
            };
            let (Some(limit), Some(usage)) = (number(self.files.limit), number(self.files.usage))
            else {
                continue;
            };
            // The page cache counts as used, but is reclaimed on demand.
            let cached = fs::read_to_string(dir.join("memory.stat"))
                .ok()
                .and_then(|stat| counter(&stat, "inactive_file"))
                .unwrap_or(0);
            let free = limit.saturating_sub(usage.saturating_sub(cached));
            memory.total_bytes = memory.total_bytes.min(limit);
            memory.available_bytes = memory.available_bytes.min(free);
        }
        memory
    }
}

/// The value of `name` in lines of the form `name value`.
fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let memory = Memory::now().unwrap();
        assert!(memory.available_bytes > 0);
        assert!(memory.total_bytes >= memory.available_bytes);
    }

    #[test]
    fn reads_the_oom_counter_of_both_cgroup_versions() {
        let v2 = "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n";
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n";
        assert_eq!(counter(v2, "oom_kill"), Some(1));
        assert_eq!(counter(v1, "oom_kill"), Some(4));
        assert_eq!(counter("", "oom_kill"), None);
    }

    #[test]
    fn the_tightest_group_limits_the_memory() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let write = |dir: &Path, limit: &str, usage: &str| {
            fs::write(dir.join("memory.max"), limit).unwrap();
            fs::write(dir.join("memory.current"), usage).unwrap();
        };
        write(dir.path(), "1000\n", "700\n");
        fs::write(
            dir.path().join("memory.stat"),
            "anon 5\ninactive_file 200\n",
        )
        .unwrap();
        write(&inner, "max\n", "300\n");
        let group = MemoryGroup {
            dirs: vec![inner.clone(), dir.path().to_owned()],
            files: &V2,
        };
        let machine = Memory {
            total_bytes: 5000,
            available_bytes: 4000,
        };
        let memory = |total_bytes, available_bytes| Memory {
            total_bytes,
            available_bytes,
        };
        assert_eq!(group.limit(machine), memory(1000, 500));
        write(&inner, "400\n", "300\n");
        assert_eq!(group.limit(machine), memory(400, 100));
        assert_eq!(group.limit(memory(50, 20)), memory(50, 20));
    }
}
