//! GPUs that are left to other programs: what is measured, and what users want.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use diagnostics::{Diagnostic, excerpt};
use hive_contract::{Device, DeviceProcess, PreflightCheck, PreflightLevel, Verdict, WorkerState};
use hive_lifecycle::RunningHive;
use input_validation::{Backend, DeviceId, NodeName};
use jiff::Timestamp;
use queen_contract::{GpuYield, NodeEntry, YieldNow, YieldPhase, YieldedDevice};
use scheduler::{DeviceYield, Measurement, NOTABLE_BYTES, RETURN_AFTER, YieldMode, foreign_bytes};

use crate::{Node, Nodes};

/// How often the GPUs of a node are measured.
const GPU_POLL: Duration = Duration::from_secs(3);
/// How often the free memory of a node without GPUs is read, for placement and for users.
const MEMORY_POLL: Duration = Duration::from_secs(10);
/// Number of processes that are named in a text.
const NAMED: usize = 3;

impl Node {
    /// The devices that are left to other programs, and why and until when.
    pub(crate) fn yielded(&self) -> BTreeMap<DeviceId, String> {
        let left = self.entry().yielded.into_iter();
        left.map(|left| (left.device, left.reason)).collect()
    }

    /// How often the devices are measured.
    pub(crate) fn poll_interval(&self) -> Duration {
        let entry = self.entry();
        let has_gpu = entry.devices.iter().any(is_gpu);
        if has_gpu && entry.gpu_yield != GpuYield::Never {
            GPU_POLL
        } else {
            MEMORY_POLL
        }
    }

    /// Decides which GPUs are left to other programs, by the devices of the entry. `occupied` are
    /// those with workers.
    pub(crate) fn decide_yields(&self, occupied: &BTreeSet<DeviceId>) {
        let now = self.age();
        let (mut yields, name) = (self.yields(), self.name().clone());
        self.update_entry(|entry| {
            if has_passed(entry.gpu_yield) {
                entry.gpu_yield = GpuYield::Auto;
            }
            let mode = match entry.gpu_yield {
                GpuYield::Auto => YieldMode::Auto,
                GpuYield::Never => YieldMode::Never,
                GpuYield::Now(_) => YieldMode::Now,
            };
            let mut left = Vec::new();
            for device in entry.devices.iter().filter(|device| is_gpu(device)) {
                let known = Measurement {
                    mode,
                    foreign_bytes: foreign_bytes(&device.processes),
                    total_bytes: device.memory_total_bytes,
                    has_workers: occupied.contains(&device.id),
                };
                let state: &mut DeviceYield = yields.entry(device.id).or_default();
                if let Some(effect) = state.next(known, now) {
                    tracing::info!(node = %name, device = %device.id, ?effect, "use of a GPU");
                }
                left.extend(state.phase().map(|phase| YieldedDevice {
                    device: device.id,
                    phase,
                    reason: reason(&name, device, phase, entry.gpu_yield),
                    processes: device.processes.clone(),
                }));
            }
            entry.yielded = left;
        });
    }

    /// Decides which GPUs are left to other programs, by the devices of the entry and the workers
    /// of the hive.
    pub(crate) async fn measure_yields(&self, hive: &RunningHive) {
        let was_left = !self.entry().yielded.is_empty();
        self.decide_yields(&self.occupied(hive).await);
        if !was_left {
            // The workers are not known before a GPU is left.
            self.decide_yields(&self.occupied(hive).await);
        }
    }

    /// The GPUs with running workers. Only needed while GPUs are left.
    async fn occupied(&self, hive: &RunningHive) -> BTreeSet<DeviceId> {
        if self.entry().yielded.is_empty() {
            return BTreeSet::new();
        }
        match hive.client.workers().await {
            Ok(list) => {
                let workers = list.workers.into_iter();
                let running = workers.filter(|worker| worker.state == WorkerState::Running);
                running.map(|worker| worker.device).collect()
            }
            Err(error) => {
                tracing::warn!(node = %self.name(), %error, "the hive does not list its workers");
                BTreeSet::new()
            }
        }
    }
}

impl Nodes {
    /// Sets when the GPUs of a node are left to other programs, also after a restart of the
    /// queen. Fails with [`Code::NodeNotFound`](diagnostics::Code::NodeNotFound), or if it cannot
    /// be stored.
    pub async fn set_gpu_yield(
        &self,
        name: &NodeName,
        gpu_yield: GpuYield,
    ) -> Result<NodeEntry, Diagnostic> {
        let node = self.get(name)?;
        let stored = name.clone();
        self.state()
            .registry(move |registry| registry.set_gpu_yield(&stored, gpu_yield))
            .await?;
        node.update_entry(|entry| entry.gpu_yield = gpu_yield);
        node.decide_yields(&BTreeSet::new());
        if let Ok(hive) = node.hive_now() {
            node.measure_yields(&hive).await;
        }
        self.publish();
        Ok(node.entry())
    }
}

/// A warning for each device of the node that is left to other programs.
pub(crate) fn check_yields(node: &Node) -> impl Iterator<Item = PreflightCheck> {
    let name = node.name().clone();
    node.yielded()
        .into_iter()
        .map(move |(device, reason)| PreflightCheck {
            level: PreflightLevel::Hive,
            name: format!("use of {device}"),
            requirement: format!("no other program uses much memory of {device}"),
            measured: reason,
            verdict: Verdict::Warn,
            code: None,
            hint: Some(format!(
                "`rbee-keeper node yield {name} --never` uses it in any case"
            )),
            details: None,
        })
}

fn is_gpu(device: &Device) -> bool {
    device.backend != Backend::Cpu
}

fn has_passed(gpu_yield: GpuYield) -> bool {
    match gpu_yield {
        GpuYield::Now(YieldNow { until: Some(until) }) => until <= Timestamp::now(),
        GpuYield::Auto | GpuYield::Never | GpuYield::Now(YieldNow { until: None }) => false,
    }
}

fn reason(name: &NodeName, device: &Device, phase: YieldPhase, wanted: GpuYield) -> String {
    let id = device.id;
    let seconds = RETURN_AFTER.as_secs();
    match (wanted, phase) {
        (GpuYield::Now(YieldNow { until: Some(until) }), _) => {
            format!("{id} is left to other programs until {until:.0}, as you asked")
        }
        (GpuYield::Now(YieldNow { until: None }), _) => format!(
            "{id} is left to other programs, as you asked, until `rbee-keeper node resume {name}`"
        ),
        (_, YieldPhase::Returning) => {
            format!("{id} is used again within {seconds} s, unless other programs need it")
        }
        _ => format!(
            "{id} is left to {}; it is used again {seconds} s after that ended",
            users(&device.processes)
        ),
    }
}

/// Names the processes that count, with their memory.
fn users(processes: &[DeviceProcess]) -> String {
    let notable: Vec<&DeviceProcess> = processes
        .iter()
        .filter(|process| process.memory_bytes >= NOTABLE_BYTES)
        .collect();
    if notable.is_empty() {
        return "other programs".to_owned();
    }
    let named = notable.iter().take(NAMED).map(|process| {
        let name = match process.name.as_str() {
            "" => "a program".to_owned(),
            name => excerpt(name, 40),
        };
        let gib = process.memory_bytes as f64 / f64::from(1 << 30);
        format!("{name} (pid {}, {gib:.1} GiB)", process.pid)
    });
    let mut named: Vec<String> = named.collect();
    if notable.len() > NAMED {
        named.push(format!("{} more", notable.len() - NAMED));
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, name: &str, memory_mib: u64) -> DeviceProcess {
        DeviceProcess {
            pid,
            name: name.to_owned(),
            memory_bytes: memory_mib << 20,
        }
    }

    #[test]
    fn the_processes_that_count_are_named_with_their_memory() {
        assert_eq!(users(&[]), "other programs");
        let desktop = process(1, "compositor", 300);
        let two = [process(7, "game.exe", 9216), process(8, "", 1536), desktop];
        assert_eq!(
            users(&two),
            "game.exe (pid 7, 9.0 GiB), a program (pid 8, 1.5 GiB)"
        );
        let many: Vec<DeviceProcess> = (1..=5).map(|pid| process(pid, "x", 1024)).collect();
        assert!(users(&many).ends_with("x (pid 3, 1.0 GiB), 2 more"));
    }

    #[test]
    fn a_time_that_has_passed_ends_the_wish_of_the_user() {
        let until = |seconds: i64| {
            let until = Timestamp::from_second(Timestamp::now().as_second() + seconds);
            GpuYield::Now(YieldNow { until: until.ok() })
        };
        assert!(has_passed(until(-5)));
        assert!(!has_passed(until(100)));
        assert!(!has_passed(GpuYield::Now(YieldNow::default())));
        assert!(!has_passed(GpuYield::Never));
    }
}
