//! Steps about nodes that sleep. The command that suspends a machine stops the process of its hive,
//! and its network card is a socket that lets the process go on.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use bdd::{World, eventually};
use cucumber::{given, then, when};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use state_files::{DaemonRecord, Home};
use tokio::net::UdpSocket;

fn script(world: &World, name: &str, text: &str) -> String {
    let file = world.dir().join(name);
    fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file.to_string_lossy().into_owned()
}

fn suspend_by(world: &mut World, machine: &str, text: &str) {
    let command = script(world, &format!("suspend-{machine}"), text);
    let options = format!("--suspend-command {command}");
    world.noted.insert(format!("{machine}_options"), options);
}

/// The parent of the command is the hive.
const STOP_HIVE: &str = "kill -STOP $PPID";

fn write_machine(world: &World, machine: &str, cards: &serde_json::Value) {
    let bytes = 4096_u64 << 30;
    let description = json!({
        "hostname": machine,
        "cpu": {"name": "a processor", "cores": 8, "features": ["avx2"]},
        "ram": {"total_bytes": bytes, "available_bytes": bytes},
        "disk": {"total_bytes": 1_u64 << 40, "free_bytes": 1_u64 << 39},
        "devices": [{
            "id": "CPU-0", "backend": "cpu", "name": "a processor",
            "memory_total_bytes": bytes, "memory_free_bytes": bytes,
        }],
        "power": {"can_suspend": true, "cards": cards},
    });
    let file = world.dir().join(format!("{machine}.json"));
    fs::write(file, description.to_string()).unwrap();
}

#[given(regex = r"^the machine ([a-z]+) can be suspended, and has the network card ([0-9a-f:]+)$")]
fn machine_with_card(world: &mut World, machine: String, mac: String) {
    suspend_by(world, &machine, STOP_HIVE);
    let card = json!({"name": "enp3s0", "mac": mac, "wakes": true});
    write_machine(world, &machine, &json!([card]));
}

#[given(regex = r"^the machine ([a-z]+) can be suspended, and its network card is not known$")]
fn machine_without_card(world: &mut World, machine: String) {
    suspend_by(world, &machine, STOP_HIVE);
    write_machine(world, &machine, &json!([]));
}

#[given(
    regex = r"^the machine ([a-z]+) refuses to be suspended with exit status (\d+) and `(.*)`$"
)]
fn machine_that_refuses(world: &mut World, machine: String, status: u8, message: String) {
    let text = format!("printf '\\033[31m{message}' >&2\nexit {status}");
    suspend_by(world, &machine, &text);
}

/// For hives that are started without options.
#[given("machines that join can be suspended")]
fn machines_that_join(world: &mut World) {
    let command = script(world, "suspend", STOP_HIVE);
    let variable = ("RBEE_SUSPEND_COMMAND".to_owned(), command);
    world.environment.push(variable);
}

#[given(regex = r"^a queen that waits (\d+) s for nodes to wake up$")]
async fn impatient_queen(world: &mut World, seconds: u32) {
    let variable = ("RBEE_WAKE_LIMIT".to_owned(), seconds.to_string());
    world.environment.push(variable);
    let finished = world.run("rbee-keeper queen start").await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    world.await_daemon("hive").await;
}

fn resume(home: &Path) {
    let record = DaemonRecord::read_alive(&Home::at(home).hive_record()).unwrap();
    let pid = record.expect("the hive is running").process.pid;
    let pid = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(pid, Signal::CONT).unwrap();
}

/// What a network card with this address looks for.
fn wakes(packet: &[u8], mac: &str) -> bool {
    let octets: Vec<u8> = mac
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    let pattern: Vec<u8> = [0xff; 6].into_iter().chain(octets.repeat(16)).collect();
    packet == pattern
}

/// Notes its address as `{NAME_card}`.
#[given(regex = r"^packets for ([0-9a-f:]+) wake the machine ([a-z]+)$")]
async fn network_card(world: &mut World, mac: String, machine: String) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    world.noted.insert(format!("{machine}_card"), address);
    let home = world.dir().join(&machine);
    world.spawn(async move {
        let mut packet = [0; 1500];
        loop {
            let length = socket.recv(&mut packet).await.unwrap();
            if wakes(&packet[..length], &mac) {
                resume(&home);
            }
        }
    });
}

#[when(regex = r"^someone wakes the machine ([a-z]+) at its switch$")]
fn woken_by_hand(world: &mut World, machine: String) {
    resume(&world.dir().join(machine));
}

/// The state letter of proc_pid_stat(5).
fn is_stopped(world: &World, machine: &str) -> bool {
    let home = Home::at(world.dir().join(machine));
    let record = DaemonRecord::read_alive(&home.hive_record()).unwrap();
    let pid = record.expect("the hive is running").process.pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.starts_with('T')
}

#[then(regex = r"^the machine ([a-z]+) is (suspended|running)$")]
async fn machine_state(world: &mut World, machine: String, state: String) {
    let world = &*world;
    eventually(Duration::from_secs(30), || async {
        if is_stopped(world, &machine) == (state == "suspended") {
            Ok(())
        } else {
            Err(format!("{machine} is not {state}"))
        }
    })
    .await;
}

#[then(regex = r"^the queen has logged no warning about ([a-z]+)$")]
fn no_warning(world: &mut World, machine: String) {
    let log = fs::read_to_string(world.files().queen_log()).unwrap();
    let warnings: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains(&machine))
        .collect();
    assert!(
        log.contains(&machine) && warnings.is_empty(),
        "{warnings:#?}"
    );
}
