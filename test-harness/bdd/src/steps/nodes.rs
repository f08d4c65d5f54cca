//! Further machines: each is a home of its own, with its own hive on a port of the loopback
//! interface.

use std::{fs, os::unix::fs::PermissionsExt as _, time::Duration};

use cucumber::{given, then, when};
use daemon_shell::ProcessIdentity;
use input_validation::DeviceId;
use queen_contract::{NodeStatus, YieldPhase};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use state_files::{DaemonRecord, Home};
use worker_contract::WorkerStatus;

use crate::{World, eventually, processes::binary};

pub(super) fn link() {}

fn home(world: &World, machine: &str) -> Home {
    Home::at(world.dir().join(machine))
}

/// The port on which the hive of a machine listens whenever it is started.
fn port(world: &World, machine: &str) -> String {
    let port = world.noted.get(&format!("{machine}_port"));
    port.cloned().unwrap_or_else(|| "0".to_owned())
}

/// Starts the hive of a machine. Notes its address as `{NAME_url}`, and the file with its token
/// as `{NAME_token}`.
async fn switch_on(world: &mut World, machine: &str) {
    let port = port(world, machine);
    let devices = world.dir().join(format!("{machine}.json"));
    let devices = if devices.exists() {
        format!("--mock-devices {{dir}}/{machine}.json")
    } else {
        String::new()
    };
    let workers = world.dir().join(format!("{machine}-workers"));
    let workers = if workers.exists() {
        format!("--worker-dir {{dir}}/{machine}-workers")
    } else {
        String::new()
    };
    let options = world.noted.get(&format!("{machine}_options"));
    let options = options.map_or("", String::as_str);
    let line = format!(
        "rbee-hive --home {{dir}}/{machine} --hive-id {machine} --port {port} --worker-ports 0 \
         {devices} {workers} {options}"
    );
    let running = world.start(&line);
    let home = home(world, machine);
    let record = eventually(Duration::from_secs(20), || async {
        let record = DaemonRecord::read_alive(&home.hive_record()).unwrap();
        record.ok_or_else(|| running.stderr())
    })
    .await;
    let port = record.url.rsplit(':').next().unwrap().to_owned();
    let token = home.node_token(&"local".parse().unwrap());
    for (name, value) in [
        ("url", record.url.clone()),
        ("port", port),
        ("token", token.to_string_lossy().into_owned()),
    ] {
        world.noted.insert(format!("{machine}_{name}"), value);
    }
    world.running.insert(format!("hive_{machine}"), running);
}

async fn add(world: &mut World, machine: &str) {
    let line = format!(
        "rbee-keeper node add {machine} --url {{{machine}_url}} --hive-token-file {{{machine}_token}}"
    );
    let finished = world.run(&line).await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

/// Processes of a machine: its hive and its workers have its name or its home in their arguments.
pub(super) fn processes(world: &World, machine: &str) -> Vec<ProcessIdentity> {
    let name = format!("--hive-id {machine} ");
    let home = format!("--home {} ", home(world, machine).path().display());
    let all = world.processes().into_iter();
    all.filter(|(_, line)| {
        [&name, &home]
            .iter()
            .any(|own| format!("{line} ").contains(*own))
    })
    .map(|(identity, _)| identity)
    .collect()
}

#[given(regex = r"^the machine ([a-z]+) with a hive$")]
#[when(regex = r"^the machine ([a-z]+) is switched on$")]
async fn machine(world: &mut World, name: String) {
    switch_on(world, &name).await;
}

/// Notes its address for other machines as `{NAME_https}`, and the fingerprint of its certificate
/// as `{NAME_certificate}`.
#[given(regex = r"^the machine ([a-z]+) with a hive for other machines$")]
async fn machine_with_address(world: &mut World, machine: String) {
    let options = "--bind 0.0.0.0".to_owned();
    world.noted.insert(format!("{machine}_options"), options);
    switch_on(world, &machine).await;
    let log = world.running[&format!("hive_{machine}")].stderr();
    let (_, rest) = log.split_once("certificate=").expect("a certificate");
    let certificate = rest.split_whitespace().next().unwrap().to_owned();
    let https = format!("https://127.0.0.2:{}", port(world, &machine));
    world
        .noted
        .insert(format!("{machine}_certificate"), certificate);
    world.noted.insert(format!("{machine}_https"), https);
}

/// The free memory of a machine that does not exist changes.
#[given(regex = r"^([a-z]+) has (\d+) MiB of free memory left$")]
#[when(regex = r"^([a-z]+) has (\d+) MiB of free memory again$")]
fn free_memory(world: &mut World, machine: String, mib: u64) {
    let file = world.dir().join(format!("{machine}.json"));
    let mut devices: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    devices["ram"]["available_bytes"] = json!(mib << 20);
    devices["devices"][0]["memory_free_bytes"] = json!(mib << 20);
    // The hive reads the file at any time.
    let new = file.with_extension("new");
    fs::write(&new, devices.to_string()).unwrap();
    fs::rename(new, file).unwrap();
}

/// Another program of a machine that does not exist uses the memory of a GPU, or has ended.
#[given(regex = r"^a game uses (\d+) GiB of GPU-(\d) of ([a-z]+)$")]
#[when(regex = r"^a game uses (\d+) GiB of GPU-(\d) of ([a-z]+)$")]
fn game(world: &mut World, gib: u64, gpu: usize, machine: String) {
    let processes = json!([
        {"pid": 4_000_001, "name": "game.exe", "memory_bytes": gib << 30},
        {"pid": 4_000_002, "name": "compositor", "memory_bytes": 300_u64 << 20},
    ]);
    set_processes(world, &machine, gpu, processes, gib);
}

#[when(regex = r"^the game on GPU-(\d) of ([a-z]+) ends$")]
fn game_ends(world: &mut World, gpu: usize, machine: String) {
    set_processes(world, &machine, gpu, json!([]), 0);
}

fn set_processes(
    world: &World,
    machine: &str,
    gpu: usize,
    processes: serde_json::Value,
    used_gib: u64,
) {
    let file = world.dir().join(format!("{machine}.json"));
    let mut devices: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let device = &mut devices["devices"][gpu + 1];
    let total = device["memory_total_bytes"].as_u64().unwrap();
    device["memory_free_bytes"] = json!(total - (used_gib << 30));
    device["processes"] = processes;
    let new = file.with_extension("new");
    fs::write(&new, devices.to_string()).unwrap();
    fs::rename(new, file).unwrap();
}

#[then(regex = r"^GPU-(\d) of ([a-z]+) is (used|left to others)$")]
async fn gpu_is_left(world: &mut World, gpu: u16, machine: String, state: String) {
    let queen = world.queen();
    let (name, device) = (machine.parse().unwrap(), DeviceId::Gpu(gpu));
    eventually(Duration::from_secs(60), || async {
        let node = queen.node(&name).await.map_err(|e| e.to_string())?;
        let left = node.yielded.iter().find(|left| left.device == device);
        let is_met = match state.as_str() {
            "used" => left.is_none() && !node.devices.is_empty(),
            _ => left.is_some_and(|left| left.phase == YieldPhase::Yielded),
        };
        if is_met {
            Ok(())
        } else {
            Err(format!("{node:?}"))
        }
    })
    .await;
}

#[then(regex = r"^a worker runs on (CPU|GPU)-(\d) of ([a-z]+)$")]
async fn runs_on_device(world: &mut World, kind: String, index: u16, machine: String) {
    let queen = world.queen();
    let device = match kind.as_str() {
        "CPU" => DeviceId::Cpu(index),
        _ => DeviceId::Gpu(index),
    };
    eventually(Duration::from_secs(60), || async {
        let list = queen.workers().await.map_err(|e| e.to_string())?;
        let mut workers = list.workers.iter();
        let found = workers.any(|worker| {
            worker.info.hive_id.as_str() == machine
                && worker.info.device == device
                && worker.info.status != WorkerStatus::Starting
        });
        found.then_some(()).ok_or_else(|| format!("{list:?}"))
    })
    .await;
}

/// Writes the devices of a machine that does not exist.
fn write_devices(world: &World, machine: &str, memory_gib: u64, gpus_gib: &[u64]) {
    let bytes = memory_gib << 30;
    let mut devices = json!({
        "hostname": machine,
        "cpu": {"name": "a processor", "cores": 8, "features": ["avx2"]},
        "ram": {"total_bytes": bytes, "available_bytes": bytes},
        "disk": {"total_bytes": 1_u64 << 40, "free_bytes": 1_u64 << 39},
        "devices": [{
            "id": "CPU-0", "backend": "cpu", "name": "a processor",
            "memory_total_bytes": bytes, "memory_free_bytes": bytes,
        }],
    });
    for (index, gib) in gpus_gib.iter().enumerate() {
        let gpu = json!({
            "id": format!("GPU-{index}"), "backend": "cuda", "name": "a GPU",
            "memory_total_bytes": 24_u64 << 30, "memory_free_bytes": gib << 30,
            "driver": "580.0", "compute_capability": "9.0",
        });
        devices["devices"].as_array_mut().unwrap().push(gpu);
    }
    let file = world.dir().join(format!("{machine}.json"));
    fs::write(file, devices.to_string()).unwrap();
}

#[given(regex = r"^the machine ([a-z]+) with a hive and (\d+) GiB of free memory$")]
async fn machine_with_memory(world: &mut World, machine: String, gib: u64) {
    write_devices(world, &machine, gib, &[]);
    switch_on(world, &machine).await;
}

/// A GPU of a machine that does not exist cannot compute. Its worker is the mock engine, or a
/// program that fails.
#[given(
    regex = r"^the node ([a-z]+) with GPUs of (\d+) and (\d+) GiB, (whose worker runs|whose worker fails|without a worker)$"
)]
async fn node_with_gpus(
    world: &mut World,
    machine: String,
    first: u64,
    second: u64,
    worker: String,
) {
    write_devices(world, &machine, 64, &[first, second]);
    let workers = world.dir().join(format!("{machine}-workers"));
    fs::create_dir(&workers).unwrap();
    for name in ["llm-cpu-worker-rbee", "mock-worker-rbee"] {
        std::os::unix::fs::symlink(binary(name), workers.join(name)).unwrap();
    }
    let cuda = workers.join("llm-cuda-worker-rbee");
    match worker.as_str() {
        "whose worker runs" => {
            std::os::unix::fs::symlink(binary("mock-worker-rbee"), cuda).unwrap();
        }
        "whose worker fails" => {
            fs::write(&cuda, "#!/bin/sh\necho 'no CUDA' >&2\nexit 3\n").unwrap();
            fs::set_permissions(cuda, fs::Permissions::from_mode(0o755)).unwrap();
        }
        _ => {}
    }
    switch_on(world, &machine).await;
    add(world, &machine).await;
}

#[given(regex = r"^the node ([a-z]+)$")]
async fn node(world: &mut World, name: String) {
    switch_on(world, &name).await;
    add(world, &name).await;
}

#[given(regex = r"^the node ([a-z]+) with (\d+) GiB of free memory$")]
#[when(regex = r"^the node ([a-z]+) with (\d+) GiB of free memory is added$")]
async fn node_with_memory(world: &mut World, name: String, gib: u64) {
    machine_with_memory(world, name.clone(), gib).await;
    add(world, &name).await;
}

#[when(regex = r"^the machine ([a-z]+) is switched off$")]
async fn switch_off(world: &mut World, machine: String) {
    let processes = processes(world, &machine);
    assert!(!processes.is_empty(), "{:?}", world.processes());
    for identity in processes {
        world.kill(identity).await;
    }
}

#[when(regex = r"^the hive of ([a-z]+) is frozen$")]
fn freeze(world: &mut World, machine: String) {
    let record = DaemonRecord::read_alive(&home(world, &machine).hive_record()).unwrap();
    let pid = record.expect("it is running").process.pid;
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
}

#[when(regex = r"^the processes of ([a-z]+) are frozen$")]
fn freeze_all(world: &mut World, machine: String) {
    let processes = processes(world, &machine);
    assert!(processes.len() > 1, "{:?}", world.processes());
    for identity in processes {
        let pid = Pid::from_raw(identity.pid.try_into().unwrap()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
    }
}

#[then(regex = r"^node ([a-z]+) is (unknown|reachable|unreachable|asleep)$")]
pub(super) async fn node_status(world: &mut World, name: String, status: String) {
    let queen = world.queen();
    let status: NodeStatus = serde_json::from_value(json!(status)).unwrap();
    let name = name.parse().unwrap();
    eventually(Duration::from_secs(30), || async {
        let node = queen.node(&name).await.map_err(|e| e.to_string())?;
        if node.status == status {
            Ok(())
        } else {
            Err(format!("{node:?}"))
        }
    })
    .await;
}

#[then(regex = r"^the last error of node ([a-z]+) contains `(.*)`$")]
async fn last_error(world: &mut World, name: String, text: String) {
    let queen = world.queen();
    let name = name.parse().unwrap();
    eventually(Duration::from_secs(30), || async {
        let node = queen.node(&name).await.map_err(|e| e.to_string())?;
        let error = node.last_error.unwrap_or_default();
        if error.contains(&text) {
            Ok(())
        } else {
            Err(error)
        }
    })
    .await;
}

#[then(regex = r"^(\d+) workers? (?:is|are) running on ([a-z]+)$")]
async fn workers_on(world: &mut World, count: usize, machine: String) {
    eventually(Duration::from_secs(30), || async {
        let running = processes(world, &machine).len().saturating_sub(1);
        if running == count {
            Ok(())
        } else {
            Err(format!("{running}: {:?}", world.processes()))
        }
    })
    .await;
}

#[then(regex = r"^the token of ([a-z]+) is nowhere in `(.*)`$")]
fn token_nowhere(world: &mut World, machine: String, directory: String) {
    let token = fs::read_to_string(world.fill(&format!("{{{machine}_token}}"))).unwrap();
    let directory = world.fill(&directory);
    let mut files = 0;
    let mut directories = vec![directory.into()];
    while let Some(directory) = directories.pop() {
        let directory: std::path::PathBuf = directory;
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(content) = fs::read(&path) {
                files += 1;
                let found = String::from_utf8_lossy(&content).contains(token.trim());
                let is_key = path.parent().unwrap().ends_with("keys");
                assert!(!found || is_key, "the token is in {}", path.display());
            }
        }
    }
    assert!(files > 0, "no files were searched");
}
