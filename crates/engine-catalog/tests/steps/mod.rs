mod package;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bdd::{World, binary};
use cucumber::{given, then};

/// Programs that the queen and the hive look for in their directory.
const PROGRAMS: [&str; 4] = [
    "queen-rbee",
    "rbee-hive",
    "llm-cpu-worker-rbee",
    "mock-worker-rbee",
];

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// Notes how the adapter is started, and starts it.
#[given("an adapter that notes how it is started")]
fn adapter(world: &mut World) {
    let programs = world.dir().join("programs");
    fs::create_dir(&programs).unwrap();
    for name in PROGRAMS {
        let (program, copy) = (binary(name), programs.join(name));
        // Its own path is that of the copy, as it is not for a link.
        if fs::hard_link(&program, &copy).is_err() {
            fs::copy(&program, &copy).unwrap();
        }
    }
    let notes = world.dir().join("started");
    let text = format!(
        "#!/bin/sh\n\
         printf '%s\\n' \"$@\" > '{notes}'\n\
         env >> '{notes}'\n\
         exec '{adapter}' \"$@\"\n",
        notes = notes.display(),
        adapter = binary("adapter-worker-rbee").display()
    );
    write_program(&programs.join("adapter-worker-rbee"), &text);
    let queen = programs.join("queen-rbee");
    let variable = ("RBEE_QUEEN_BINARY".to_owned(), queen.display().to_string());
    world.environment.push(variable);
}

#[given(regex = r"^the engine (\S+) of llama.cpp$")]
fn engine(world: &mut World, name: String) {
    describe(world, &name, "");
}

#[given(regex = r"^the engine (\S+) of llama.cpp with `(.*)`$")]
fn engine_with(world: &mut World, name: String, line: String) {
    describe(world, &name, &line);
}

fn describe(world: &World, name: &str, line: &str) {
    let program = binary("engine-sim");
    let engines = world.files().engines();
    fs::create_dir_all(&engines).unwrap();
    let text = format!(
        "kind = \"llama-cpp\"\ncommand = [\"{}\", \"llama-cpp\", \"--port\", \"{{port}}\", \"-m\", \"{{model}}\"]\n{line}\n",
        program.display()
    );
    fs::write(engines.join(format!("{name}.toml")), text).unwrap();
}

#[given(regex = r"^a copy of the embedded model of the architecture mamba as `(.*)`$")]
fn other_architecture(world: &mut World, name: String) {
    let model = replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba");
    fs::write(world.dir().join(name), model).unwrap();
}

/// The first tensor with an even number of blocks of 256 weights becomes one of IQ4_XS.
#[given(regex = r"^a copy of the embedded model with a tensor of type IQ4_XS as `(.*)`$")]
fn other_type(world: &mut World, name: String) {
    let mut model = fs::read(embedded()).unwrap();
    let tensor = b"token_embd.weight";
    let at = model.windows(tensor.len()).position(|w| w == tensor);
    let at = at.unwrap() + tensor.len();
    let dimensions = u32::from_le_bytes(model[at..at + 4].try_into().unwrap()) as usize;
    let kind = at + 4 + 8 * dimensions;
    model[kind..kind + 4].copy_from_slice(&23_u32.to_le_bytes());
    fs::write(world.dir().join(name), model).unwrap();
}

fn embedded() -> PathBuf {
    repository("models/haiku/rbee-haiku-tiny-f16.gguf")
}

fn replaced(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut model = fs::read(embedded()).unwrap();
    let at = model.windows(from.len()).position(|w| w == from);
    let at = at.expect("the embedded model contains it");
    model[at..at + to.len()].copy_from_slice(to);
    model
}

#[then(regex = r"^the adapter was started with `(.*)`$")]
fn started_with(world: &mut World, words: String) {
    let notes = fs::read_to_string(world.dir().join("started")).unwrap();
    let engine = binary("engine-sim");
    let words = words.replace("{engine}", &engine.to_string_lossy());
    let words = world.fill(&words).replace(' ', "\n");
    assert!(notes.contains(&words), "{words}\nin\n{notes}");
}

#[then("the adapter was not started")]
fn not_started(world: &mut World) {
    assert!(!world.dir().join("started").exists());
}
