//! Machines that only a wire connects to the queen.

use std::{collections::HashMap, time::Duration};

use bdd::{Machines, World, eventually};
use cucumber::{given, then, when};
use network::{Conditions, Namespace, Wire};
use ssh_server::{Settings, SshServer};

/// The wires of a scenario, by the names of their machines.
#[derive(Debug, Default)]
struct Wires(HashMap<String, Wire>);

fn wire<'a>(world: &'a mut World, machine: &str) -> &'a Wire {
    &world.get::<Wires>().0[machine]
}

#[given(regex = r"^the machine ([a-z]+) with an SSH server, at the end of a wire$")]
fn machine(world: &mut World, name: String) {
    let namespace = Namespace::new().unwrap();
    let wire = Wire::to(&namespace).unwrap();
    let settings = Settings {
        address: wire.there().into(),
        enter: Box::new(move || namespace.enter()),
        ..Settings::default()
    };
    let server = SshServer::start_with(settings).unwrap();
    Machines::add(world, &name, server, "");
    world.get::<Wires>().0.insert(name, wire);
}

#[given(regex = r"^the node ([a-z]+), at the end of a wire$")]
async fn node(world: &mut World, name: String) {
    machine(world, name.clone());
    let finished = world.run(&format!("rbee-keeper node add {name}")).await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

#[given(regex = r"^the wire to ([a-z]+) has a delay of (\d+) ms and a loss of (\d+) %$")]
fn delay(world: &mut World, machine: String, delay_ms: u64, loss_percent: u8) {
    wire(world, &machine).set(Conditions {
        is_cut: false,
        delay: Duration::from_millis(delay_ms),
        loss_percent: loss_percent.into(),
    });
}

#[when(regex = r"^the wire to ([a-z]+) is cut silently$")]
fn cut(world: &mut World, machine: String) {
    wire(world, &machine).set(Conditions {
        is_cut: true,
        ..Conditions::default()
    });
}

#[when(regex = r"^the wire to ([a-z]+) is repaired$")]
fn repair(world: &mut World, machine: String) {
    wire(world, &machine).set(Conditions::default());
}

/// Nothing but the SSH server listens where other machines can reach it, and there is no way to
/// any other machine.
#[then(regex = r"^other machines can reach only the SSH server of ([a-z]+)$")]
fn only_ssh(world: &mut World, machine: String) {
    let there = wire(world, &machine).there();
    let server = world.get::<Machines>().get(&machine);
    let (pid, _) = server.programs()[0];
    let all = ssh_server::all_listening(pid);
    assert!(all.len() > 1, "the hive listens: {all:?}");
    let reachable: Vec<_> = all.into_iter().filter(|a| !a.ip().is_loopback()).collect();
    assert_eq!(reachable, [(there, server.port()).into()]);
    assert_eq!(ssh_server::other_routes(pid), Vec::<String>::new());
}

/// Files have other names while they are written, which begin with a dot.
#[then(regex = r"^no half file is left on ([a-z]+)$")]
async fn no_half_file(world: &mut World, machine: String) {
    let home = world.get::<Machines>().get(&machine).home();
    let programs = home.join(".rbee/bin/current");
    eventually(Duration::from_secs(30), || async {
        let entries = std::fs::read_dir(&programs).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        let half: Vec<String> = names.filter(|name| name.starts_with('.')).collect();
        if half.is_empty() {
            Ok(())
        } else {
            Err(format!("{half:?}"))
        }
    })
    .await;
}
