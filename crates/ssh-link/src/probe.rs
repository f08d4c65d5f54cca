use std::{fmt, time::Duration};

use diagnostics::{Diagnostic, excerpt};
use input_validation::RemoteDirectory;
use tokio::time::Instant;

use crate::{RemoteCommand, SshSession, errors};

const SCRIPT: &str = include_str!("probe.sh");
const NAME: &str = "the probe";
/// Longest value that is kept, in characters.
const MAX_VALUE_CHARS: usize = 200;
/// Most GPUs and tools that are listed.
const MAX_LIST: usize = 64;

/// What a machine is and has, as seen by SSH. `None` is unknown. Texts come from the machine and
/// are escaped.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeProbe {
    /// Absolute path of rbee's directory.
    pub directory: String,
    /// `Linux`, `Darwin`.
    pub os: Option<String>,
    /// `x86_64`, `aarch64`.
    pub arch: Option<String>,
    pub hostname: Option<String>,
    pub libc: Option<Libc>,
    /// Processors that are online.
    pub cpus: Option<u32>,
    pub ram_total_bytes: Option<u64>,
    pub ram_available_bytes: Option<u64>,
    /// Free space on the disk of rbee's directory.
    pub disk_free_bytes: Option<u64>,
    /// Programs that are installed.
    pub tools: Vec<Tool>,
    /// Whether services of the user run while nobody is logged in (loginctl(1)).
    pub linger: Option<bool>,
    pub gpus: Vec<GpuFound>,
    /// Version of the installed hive. `None` if none is installed or it does not run.
    pub hive_version: Option<String>,
    /// Why the installed hive does not run, as it printed.
    pub hive_problem: Option<String>,
    /// Time of a command that does nothing, to the machine and back.
    pub latency: Duration,
}

/// The C library of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Libc {
    Glibc { major: u32, minor: u32 },
    Musl,
}

impl fmt::Display for Libc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc { major, minor } => write!(f, "glibc {major}.{minor}"),
            Self::Musl => f.write_str("musl"),
        }
    }
}

/// A program that rbee can use on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Git,
    Cargo,
    Curl,
    Systemctl,
    Loginctl,
    NvidiaSmi,
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuFound {
    Nvidia {
        index: u16,
        name: String,
        memory_bytes: u64,
    },
    Amd {
        memory_bytes: u64,
    },
    /// The GPU of a processor of Apple, which uses the memory of the machine.
    Metal {
        name: String,
    },
}

/// Finds out what a machine is and has.
pub async fn probe(
    session: &SshSession,
    directory: &RemoteDirectory,
) -> Result<NodeProbe, Diagnostic> {
    let command = RemoteCommand::new(NAME, SCRIPT).arg(directory.as_str());
    let output = session.run_ok(&command).await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut probe =
        parse(&text).ok_or_else(|| errors::unexpected_output(session.label(), NAME, &text))?;
    let nothing = RemoteCommand::new("nothing", ":");
    let since = Instant::now();
    session.run_ok(&nothing).await?;
    probe.latency = since.elapsed();
    Ok(probe)
}

/// Parses the output of the script. `None` if it is incomplete.
fn parse(text: &str) -> Option<NodeProbe> {
    let mut probe = NodeProbe::default();
    let mut is_complete = false;
    let mut pages = Pages::default();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        if key == "directory" {
            value.clone_into(&mut probe.directory);
        } else if !value.is_empty() {
            is_complete |= key == "end";
            match key {
                "vm_stat" => pages.read(value),
                _ => read(&mut probe, key, value),
            }
        }
    }
    probe.ram_available_bytes = probe.ram_available_bytes.or(pages.bytes());
    (is_complete && probe.directory.starts_with('/')).then_some(probe)
}

fn read(probe: &mut NodeProbe, key: &str, value: &str) {
    let text = || Some(excerpt(value, MAX_VALUE_CHARS));
    let kib = || value.parse::<u64>().ok()?.checked_mul(1 << 10);
    match key {
        "os" => probe.os = text(),
        "arch" => probe.arch = text(),
        "hostname" => probe.hostname = text(),
        "libc" => probe.libc = libc(value),
        "cpus" => probe.cpus = value.parse().ok(),
        "ram_total_kib" => probe.ram_total_bytes = kib(),
        "ram_available_kib" => probe.ram_available_bytes = kib(),
        "disk_free_kib" => probe.disk_free_bytes = kib(),
        "tool" if probe.tools.len() < MAX_LIST => probe.tools.extend(tool(value)),
        "linger" => probe.linger = Some(value == "yes"),
        "nvidia" if probe.gpus.len() < MAX_LIST => probe.gpus.extend(nvidia(value)),
        "amd_vram_bytes" if probe.gpus.len() < MAX_LIST => {
            let amd = |memory_bytes| GpuFound::Amd { memory_bytes };
            probe.gpus.extend(value.parse().ok().map(amd));
        }
        "metal" if value.starts_with("Apple ") && probe.gpus.len() < MAX_LIST => {
            let name = excerpt(value, MAX_VALUE_CHARS);
            probe.gpus.push(GpuFound::Metal { name });
        }
        "hive" => match value.strip_prefix("rbee-hive ") {
            Some(version) => probe.hive_version = Some(excerpt(version, MAX_VALUE_CHARS)),
            None => probe.hive_problem = text(),
        },
        _ => {}
    }
}

/// Memory that is available, as vm_stat(1) of macOS prints it.
#[derive(Debug, Default)]
struct Pages {
    page_bytes: Option<u64>,
    available: Option<u64>,
}

impl Pages {
    fn read(&mut self, line: &str) {
        if let Some((_, rest)) = line.split_once("page size of ") {
            self.page_bytes = rest.split(' ').next().and_then(|bytes| bytes.parse().ok());
        } else if let Some((kind, count)) = line.split_once(':')
            && matches!(kind, "Pages free" | "Pages inactive" | "Pages speculative")
            && let Ok(count) = count.trim().trim_end_matches('.').parse::<u64>()
        {
            self.available = Some(self.available.unwrap_or(0).saturating_add(count));
        }
    }

    fn bytes(&self) -> Option<u64> {
        self.available?.checked_mul(self.page_bytes?)
    }
}

fn libc(value: &str) -> Option<Libc> {
    if value == "musl" {
        return Some(Libc::Musl);
    }
    let (major, minor) = value.strip_prefix("glibc ")?.split_once('.')?;
    Some(Libc::Glibc {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

fn tool(name: &str) -> Option<Tool> {
    Some(match name {
        "git" => Tool::Git,
        "cargo" => Tool::Cargo,
        "curl" => Tool::Curl,
        "systemctl" => Tool::Systemctl,
        "loginctl" => Tool::Loginctl,
        "nvidia-smi" => Tool::NvidiaSmi,
        _ => return None,
    })
}

/// Parses a line of nvidia-smi: `0, NVIDIA GeForce RTX 3090, 24576` (MiB).
fn nvidia(line: &str) -> Option<GpuFound> {
    let (index, rest) = line.split_once(", ")?;
    let (name, mib) = rest.rsplit_once(", ")?;
    Some(GpuFound::Nvidia {
        index: index.parse().ok()?,
        name: excerpt(name, MAX_VALUE_CHARS),
        memory_bytes: mib.trim().parse::<u64>().ok()?.checked_mul(1 << 20)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OUTPUT: &str = "directory=/srv/me/.rbee\nos=Linux\narch=x86_64\nhostname=gpu-box\n\
        libc=glibc 2.36\ncpus=16\nram_total_kib=65536\nram_available_kib=1024\n\
        disk_free_kib=2048\ntool=git\ntool=unheard\nlinger=no\n\
        nvidia=0, NVIDIA GeForce RTX 3090, 24576\nnvidia=broken\namd_vram_bytes=17163091968\n\
        hive=rbee-hive 0.1.0\nend=1\n";

    #[test]
    fn a_machine_is_read() {
        let expected = NodeProbe {
            directory: "/srv/me/.rbee".into(),
            os: Some("Linux".into()),
            arch: Some("x86_64".into()),
            hostname: Some("gpu-box".into()),
            libc: Some(Libc::Glibc {
                major: 2,
                minor: 36,
            }),
            cpus: Some(16),
            ram_total_bytes: Some(64 << 20),
            ram_available_bytes: Some(1 << 20),
            disk_free_bytes: Some(2 << 20),
            tools: vec![Tool::Git],
            linger: Some(false),
            gpus: vec![
                GpuFound::Nvidia {
                    index: 0,
                    name: "NVIDIA GeForce RTX 3090".into(),
                    memory_bytes: 24 << 30,
                },
                GpuFound::Amd {
                    memory_bytes: 17_163_091_968,
                },
            ],
            hive_version: Some("0.1.0".into()),
            hive_problem: None,
            latency: Duration::ZERO,
        };
        assert_eq!(parse(OUTPUT), Some(expected));
    }

    #[test]
    fn a_mac_has_a_gpu_with_the_memory_of_the_machine() {
        let text = "directory=/Users/me/.rbee\nos=Darwin\narch=arm64\nram_total_kib=16777216\n\
            vm_stat=Mach Virtual Memory Statistics: (page size of 16384 bytes)\n\
            vm_stat=Pages free:                               10000.\n\
            vm_stat=Pages active:                            200000.\n\
            vm_stat=Pages inactive:                          190000.\n\
            vm_stat=Pages speculative:                           24.\n\
            metal=Apple M2 Pro\nend=1\n";
        let expected = NodeProbe {
            directory: "/Users/me/.rbee".into(),
            os: Some("Darwin".into()),
            arch: Some("arm64".into()),
            ram_total_bytes: Some(16 << 30),
            ram_available_bytes: Some(200_024 * 16384),
            gpus: vec![GpuFound::Metal {
                name: "Apple M2 Pro".into(),
            }],
            ..NodeProbe::default()
        };
        assert_eq!(parse(text), Some(expected));
        // Macs with processors of Intel are not known to have a GPU that workers can use.
        let intel = text.replace("Apple M2 Pro", "Intel(R) Core(TM) i7-9750H CPU @ 2.60GHz");
        assert_eq!(parse(&intel).unwrap().gpus, []);
    }

    #[test]
    fn what_is_unknown_stays_unknown() {
        let probe = parse("directory=/r\nos=\ncpus=many\nlibc=musl\nhive=Illegal\u{1b}[2J\nend=1");
        let expected = NodeProbe {
            directory: "/r".into(),
            libc: Some(Libc::Musl),
            hive_problem: Some(r"Illegal\u{1b}[2J".into()),
            ..NodeProbe::default()
        };
        assert_eq!(probe, Some(expected));
    }

    #[test]
    fn an_incomplete_output_is_none() {
        let without_end = OUTPUT.replace("end=1\n", "");
        for text in ["", "end=1", "directory=x\nend=1", &without_end] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_output_is_too_strange(lines in proptest::collection::vec(
            ("(os|cpus|ram_total_kib|tool|nvidia|amd_vram_bytes|metal|vm_stat|hive|libc|[a-z]*)",
                ".*|Apple .*|Pages free: [0-9]*"), 0..200)
        ) {
            let mut text = String::from("directory=/r\n");
            for (key, value) in lines {
                let value = value.replace(['\n', '\r'], " ");
                text.extend([key.as_str(), "=", &value, "\n"]);
            }
            text.push_str("end=1\n");
            let probe = parse(&text).unwrap();
            prop_assert!(probe.gpus.len() <= MAX_LIST && probe.tools.len() <= MAX_LIST);
            for text in [probe.os, probe.hive_version, probe.hive_problem].into_iter().flatten() {
                prop_assert!(!text.contains(char::is_control), "{text:?}");
            }
        }
    }
}
