//! Steps about models that are split over machines.

mod sleep;

use std::{env, fs, path::PathBuf, time::Duration};

use bdd::{Machines, World, binary, eventually};
use cucumber::{given, then, when};
use daemon_shell::ProcessIdentity;
use state_files::Home;

/// Time until something that was lost is there again.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct NotedParts(Vec<u32>);

/// llama.cpp's own server, if the scenario runs with it.
fn real_server() -> Option<PathBuf> {
    env::var_os("RBEE_LLAMA_SERVER").map(PathBuf::from)
}

fn home(world: &mut World, machine: &str) -> Home {
    if machine == "local" {
        return world.files();
    }
    let directory = world.dir().join(machine);
    let machines = world.get::<Machines>();
    match machines.find(machine) {
        Some(server) => Home::at(server.home().join(".rbee")),
        None => Home::at(directory),
    }
}

fn describe(world: &mut World, machine: &str, kind: &str, command: &[&str]) {
    describe_as(world, machine, kind, (kind, command));
}

fn describe_as(world: &mut World, machine: &str, name: &str, (kind, command): (&str, &[&str])) {
    let engines = home(world, machine).engines();
    fs::create_dir_all(&engines).unwrap();
    let command = serde_json::to_string(command).unwrap();
    let text = format!("kind = \"{kind}\"\ncommand = {command}\n");
    fs::write(engines.join(format!("{name}.toml")), text).unwrap();
}

fn describe_server(world: &mut World, machine: &str, name: &str) {
    let program = real_server().unwrap_or_else(|| binary("engine-sim"));
    let program = program.to_str().unwrap();
    let rest = [
        "-m",
        "{model}",
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "-np",
        "{slots}",
        "-c",
        "{context}",
    ];
    let protocol = if real_server().is_some() {
        vec![program, "-t", "{threads}"]
    } else {
        vec![program, "llama-cpp"]
    };
    let command = [&protocol[..], &rest[..]].concat();
    describe_as(world, machine, name, ("llama-cpp", &command));
}

fn describe_parts(world: &mut World, machine: &str) {
    let real = real_server().map(|server| server.with_file_name("ggml-rpc-server"));
    let program = real.clone().unwrap_or_else(|| binary("engine-sim"));
    let program = program.to_str().unwrap();
    let rest = ["--host", "127.0.0.1", "--port", "{port}"];
    let protocol = if real.is_some() {
        vec![program]
    } else {
        vec![program, "rpc"]
    };
    describe(
        world,
        machine,
        "llama-cpp-rpc",
        &[&protocol[..], &rest[..]].concat(),
    );
}

#[given(regex = r"^([a-z]+) has the engines of llama.cpp$")]
fn engines(world: &mut World, machine: String) {
    describe_server(world, &machine, "llama-cpp");
    describe_parts(world, &machine);
}

#[given(regex = r"^([a-z]+) has a server of llama.cpp as engine ([a-z-]+)$")]
fn named_server(world: &mut World, machine: String, name: String) {
    describe_server(world, &machine, &name);
}

#[given(regex = r"^a copy of SmolLM2 as `(.*)`$")]
fn smollm2(world: &mut World, name: String) {
    let model = env::var_os("RBEE_SMOLLM2_MODEL").expect("the model is downloaded");
    fs::copy(model, world.dir().join(name)).unwrap();
}

#[given(regex = r"^([a-z]+) has no engines$")]
fn no_engines(world: &mut World, machine: String) {
    assert!(!home(world, &machine).engines().exists());
}

#[given(regex = r"^([a-z]+) has an engine for parts that exits$")]
fn failing_parts(world: &mut World, machine: String) {
    let command = ["/bin/sh", "-c", "echo no device >&2; exit 3", "{port}"];
    describe(world, &machine, "llama-cpp-rpc", &command);
}

#[given(regex = r"^([a-z]+) has an engine of llama.cpp that exits$")]
fn failing_server(world: &mut World, machine: String) {
    let command = ["/bin/sh", "-c", "exit 3", "{model}", "{port}"];
    describe(world, &machine, "llama-cpp", &command);
}

#[given(regex = r"^the file `(.*)` describes `(.*)` with `(.*)`$")]
fn described(world: &mut World, file: String, model: String, line: String) {
    let model = world.fill(&model);
    let text = format!("[[deployment]]\nmodel = \"file:{model}\"\n{line}\n");
    fs::write(world.fill(&file), text).unwrap();
}

/// The engines of a kind, with their command lines.
fn programs(world: &World, real: &str, simulated: &str) -> Vec<(ProcessIdentity, String)> {
    let is_it = |line: &str| {
        let mut words = line.split(' ');
        let program = words.next().unwrap_or_default();
        let protocol = words.next().unwrap_or_default();
        program.ends_with(&format!("/{real}"))
            || (program.ends_with("/engine-sim") && protocol == simulated)
    };
    let all = world.processes().into_iter();
    all.filter(|(_, line)| is_it(line)).collect()
}

fn parts(world: &World) -> Vec<(ProcessIdentity, String)> {
    programs(world, "ggml-rpc-server", "rpc")
}

fn servers(world: &World) -> Vec<(ProcessIdentity, String)> {
    programs(world, "llama-server", "llama-cpp")
}

#[then(regex = r"^the engine of the worker was started with `(.*)`$")]
fn started_with(world: &mut World, words: String) {
    let servers = servers(world);
    assert!(
        servers.len() == 1 && servers[0].1.contains(&words),
        "{servers:?}"
    );
}

#[then(regex = r"^a part runs on [a-z]+$")]
fn one_part(world: &mut World) {
    assert_eq!(parts(world).len(), 1, "{:?}", world.processes());
}

#[given(regex = r"^the part on [a-z]+ is noted$")]
fn note_part(world: &mut World) {
    let pids = parts(world).into_iter().map(|(process, _)| process.pid);
    let pids: Vec<u32> = pids.collect();
    assert_eq!(pids.len(), 1);
    world.get::<NotedParts>().0 = pids;
}

#[when(regex = r"^the part on [a-z]+ is killed$")]
async fn kill_part(world: &mut World) {
    let parts = parts(world);
    assert_eq!(parts.len(), 1);
    world.kill(parts[0].0).await;
}

#[then(regex = r"^a new part runs on [a-z]+$")]
async fn new_part(world: &mut World) {
    let noted = std::mem::take(&mut world.get::<NotedParts>().0);
    assert!(!noted.is_empty());
    let world = &*world;
    eventually(REPLACED_WITHIN, || async {
        let parts = parts(world);
        let is_new = parts
            .iter()
            .all(|(process, _)| !noted.contains(&process.pid));
        if parts.len() == 1 && is_new {
            Ok(())
        } else {
            Err(format!("{parts:?} run, noted: {noted:?}"))
        }
    })
    .await;
}

/// The simulated server says so when all connections are established.
#[then("the engine of the worker is connected with a part")]
async fn is_connected(world: &mut World) {
    let finished = world.run("rbee-keeper worker logs model-0").await.clone();
    assert!(
        finished.stdout.contains("connected with 1 part"),
        "{finished:#?}"
    );
}

/// The RPC server of llama.cpp has a connection while its client has the model.
#[then(regex = r"^the part on [a-z]+ has computed something$")]
fn has_computed(world: &mut World) {
    let log = world.dir().join("attic");
    let logs = files_below(&log).into_iter().filter(|path| {
        let path = path.to_string_lossy();
        path.contains("-part1") && path.ends_with("log")
    });
    let text: String = logs.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(text.contains("Accepted client connection"), "{text}");
}

fn files_below(directory: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
