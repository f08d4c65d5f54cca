//! Ways to a machine with an SSH server: jump hosts, keys, agents, configurations.

use std::{fs, net::Ipv6Addr};

use cucumber::{gherkin::Step, given, then};
use ssh_server::{Settings, SshAgent, SshServer};

use super::ssh::{Machines, server};
use crate::World;

pub(super) fn link() {}

/// The agent of a scenario.
#[derive(Debug, Default)]
struct Agent(Option<SshAgent>);

#[given(
    regex = r"^the machine ([a-z]+) with an SSH server, reached through ([a-z]+(?: and [a-z]+)*)$"
)]
fn behind_jump_hosts(world: &mut World, name: String, jump_hosts: String) {
    let jump = format!("  ProxyJump {}\n", jump_hosts.replace(" and ", ","));
    Machines::add(world, &name, SshServer::start().unwrap(), &jump);
}

#[given(regex = r"^the machine ([a-z]+) with an SSH server on the IPv6 loopback interface$")]
fn on_ipv6(world: &mut World, name: String) {
    let settings = Settings {
        address: Ipv6Addr::LOCALHOST.into(),
        ..Settings::default()
    };
    Machines::add(world, &name, SshServer::start_with(settings).unwrap(), "");
}

#[given(regex = r"^the SSH server of ([a-z]+) has the option `(.*)`$")]
fn server_option(world: &mut World, machine: String, line: String) {
    server(world, &machine).add_to_server_config(&line).unwrap();
}

/// Replaces the SSH configuration of the scenario.
#[given("the SSH configuration is")]
fn configuration(world: &mut World, step: &Step) {
    let text = world.fill(step.docstring.as_deref().expect("a text"));
    fs::write(world.ssh_config(), text).unwrap();
}

/// Moves the SSH configuration of the scenario to another file of its directory.
#[given(regex = r"^the SSH configuration is moved to `([^`]+)`$")]
fn moved_configuration(world: &mut World, file: String) {
    let file = world.fill(&file);
    fs::rename(world.ssh_config(), file).unwrap();
}

#[given(regex = r"^the SSH key of ([a-z]+) has a passphrase$")]
fn passphrase(world: &mut World, machine: String) {
    server(world, &machine)
        .set_passphrase("a passphrase")
        .unwrap();
}

/// The queen is started by a later step, with this agent.
#[given(regex = r"^an SSH agent with (\d+) useless keys$")]
fn agent(world: &mut World, count: usize) {
    let agent = SshAgent::start().unwrap();
    agent.add_useless_keys(count).unwrap();
    let socket = agent.socket().to_str().unwrap().to_owned();
    world.environment.push(("SSH_AUTH_SOCK".to_owned(), socket));
    world.get::<Agent>().0 = Some(agent);
}

/// The private key is in no file any more.
#[given(regex = r"^only the agent has the SSH key of ([a-z]+)$")]
fn key_in_agent(world: &mut World, machine: String) {
    let key = server(world, &machine).key_file();
    let agent = world.get::<Agent>().0.as_ref().expect("an agent");
    agent.add(&key).unwrap();
    fs::remove_file(key).unwrap();
}

#[then(regex = r"^the SSH server of ([a-z]+) has (\d+) connections?$")]
fn connections(world: &mut World, machine: String, count: usize) {
    assert_eq!(server(world, &machine).connections(), count);
}
