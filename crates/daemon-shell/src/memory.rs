use std::{
    fs,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Main memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total_bytes: u64,
    /// What can be had without swapping.
    pub available_bytes: u64,
}

impl Memory {
    /// The machine's memory as it is now, or that of this process's control group where it
    /// has less.
    pub fn now() -> Result<Self, Diagnostic> {
        let memory = MemoryRefreshKind::nothing().with_ram();
        let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory))
            .map_err(|e| Diagnostic::internal(format!("cannot look at the memory: {e}")))?;
        let machine = Self {
            total_bytes: system.total_memory(),
            available_bytes: system.available_memory(),
        };
        Ok(MemoryGroup::own().map_or(machine, |group| group.limit(machine)))
    }
}

/// How many processes the kernel has killed for memory in the control group of this process;
/// `None` where it does not tell.
pub fn oom_kills() -> Option<u64> {
    MemoryGroup::own()?.oom_kills()
}

/// The memory controller of this process's control group: a worker is in the group of the
/// hive that spawned it.
struct MemoryGroup {
    /// The group and those it lies in, up to the root: each may have a limit.
    folders: Vec<PathBuf>,
    names: &'static Names,
}

/// What the files are called (cgroups(7): `memory.*` of version 2 and of version 1).
struct Names {
    limit: &'static str,
    usage: &'static str,
    events: &'static str,
}

const V2: Names = Names {
    limit: "memory.max",
    usage: "memory.current",
    events: "memory.events",
};
const V1: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    events: "memory.oom_control",
};

impl MemoryGroup {
    /// The group of this process; `None` where the kernel does not tell.
    fn own() -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let (root, names) = match controllers {
                "" => ("/sys/fs/cgroup", &V2),
                "memory" => ("/sys/fs/cgroup/memory", &V1),
                _ => return None,
            };
            let folders: Vec<PathBuf> = Path::new(path)
                .ancestors()
                .filter_map(|p| Some(Path::new(root).join(p.strip_prefix("/").ok()?)))
                .collect();
            // In a mixed set-up version 2 has the group and version 1 its memory.
            folders
                .iter()
                .any(|folder| folder.join(names.events).exists())
                .then_some(Self { folders, names })
        })
    }

    /// How many of its processes the kernel has killed for memory.
    fn oom_kills(&self) -> Option<u64> {
        let events = self.folders.first()?.join(self.names.events);
        counter(&fs::read_to_string(events).ok()?, "oom_kill")
    }

    /// The machine's memory, or what the tightest group leaves of it.
    fn limit(&self, mut memory: Memory) -> Memory {
        for folder in &self.folders {
            let number = |name: &str| -> Option<u64> {
                let text = fs::read_to_string(folder.join(name)).ok()?;
                text.trim().parse().ok()
            };
            let (Some(limit), Some(usage)) = (number(self.names.limit), number(self.names.usage))
            else {
                continue;
            };
            // Cached files count as used and are given back when memory is asked for.
            let cached = fs::read_to_string(folder.join("memory.stat"))
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

/// The number behind `name` in lines of `name number`.
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
    fn the_real_machine_has_memory() {
        let memory = Memory::now().unwrap();
        assert!(memory.available_bytes > 0);
        assert!(memory.total_bytes >= memory.available_bytes);
    }

    #[test]
    fn the_counter_is_read_in_both_forms_of_control_groups() {
        let v2 = "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\n";
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n";
        assert_eq!(counter(v2, "oom_kill"), Some(1));
        assert_eq!(counter(v1, "oom_kill"), Some(4));
        assert_eq!(counter("", "oom_kill"), None);
    }

    #[test]
    fn the_tightest_group_counts() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let write = |folder: &Path, limit: &str, usage: &str| {
            fs::write(folder.join("memory.max"), limit).unwrap();
            fs::write(folder.join("memory.current"), usage).unwrap();
        };
        write(dir.path(), "1000\n", "700\n");
        fs::write(
            dir.path().join("memory.stat"),
            "anon 5\ninactive_file 200\n",
        )
        .unwrap();
        write(&inner, "max\n", "300\n");
        let group = MemoryGroup {
            folders: vec![inner.clone(), dir.path().to_owned()],
            names: &V2,
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
