//! Levels whose probes need a second machine: the rules alone.

use bdd::World;
use cucumber::{given, when};
use diagnostics::{Code, Diagnostic};
use hive_contract::PreflightReport;
use preflight_validation::{Finding, HiveProbe, SshProbe, Version, check_hive, check_ssh};

use super::State;

#[derive(Default)]
struct Probes {
    ssh: Option<SshProbe>,
    hive: Option<Version>,
}

fn version(version: &str, api_version: u32) -> Version {
    Version {
        version: version.to_owned(),
        api_version,
    }
}

#[given(regex = r"^a node over SSH that is (.+)$")]
fn ssh(world: &mut World, state: String) {
    let mut probe = SshProbe {
        reachable: Finding::Met(()),
        authenticated: Finding::Met(()),
        runs_commands: Finding::Met(()),
        latency_ms: Some(3),
        hive: Finding::Met(version("1", 1)),
    };
    let unknown = SshProbe {
        authenticated: Finding::Unknown,
        runs_commands: Finding::Unknown,
        latency_ms: None,
        hive: Finding::Unknown,
        ..probe.clone()
    };
    match state.as_str() {
        "usable" => {}
        "slow" => probe.latency_ms = Some(250),
        "unreachable" => {
            probe = unknown;
            probe.reachable = Finding::not_met(Code::SshUnreachable, "no connection in 10 s");
        }
        "refusing the key" => {
            probe = unknown;
            probe.authenticated = Finding::not_met(Code::SshAuthFailed, "permission denied");
        }
        "without a hive" => {
            let missing = Diagnostic::new(Code::HiveNotInstalled, "no rbee-hive");
            probe.hive = Finding::NotMet(missing);
        }
        other => panic!("no state {other}"),
    }
    world.get::<Probes>().ssh = Some(probe);
}

#[when("the connection is checked")]
fn check_connection(world: &mut World) {
    let probe = world.get::<Probes>().ssh.take().expect("a probe");
    let checks = check_ssh(&probe, &version("1", 1));
    world.get::<State>().report = PreflightReport { checks };
}

#[given(regex = r"^a hive of version (\S+) with interface version (\d+)$")]
fn hive(world: &mut World, text: String, api_version: u32) {
    world.get::<Probes>().hive = Some(version(&text, api_version));
}

#[when(regex = r"^a queen of version (\S+) with interface version (\d+) checks it$")]
fn check_version(world: &mut World, text: String, api_version: u32) {
    let hive = world.get::<Probes>().hive.take().expect("a hive");
    let checks = check_hive(&HiveProbe {
        responds: Ok(hive),
        queen: version(&text, api_version),
    });
    world.get::<State>().report = PreflightReport { checks };
}
