//! Feature 020: the real binaries with a simulated model hub.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    missing_docs,
    reason = "test code: a step fails by panicking"
)]

mod steps;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bdd::{World, eventually};
use cucumber::{given, then, when};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> std::process::ExitCode {
    bdd::run(&["020-model-catalog"]).await
}

/// The built-in model with a type of weights.
fn haiku(weights: &str) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/haiku");
    models.join(format!("rbee-haiku-tiny-{weights}.gguf"))
}

/// A repository with the built-in model in two types of weights.
#[given(regex = r"^a model hub with the (?:(gated|private) )?repository (\S+)$")]
async fn hub(world: &mut World, access: String, repository: String) {
    let dir = world.dir().join("hub").join(&repository);
    fs::create_dir_all(&dir).unwrap();
    for (weights, name) in [("q8_0", "model-Q8_0.gguf"), ("f16", "model-F16.gguf")] {
        fs::copy(haiku(weights), dir.join(name)).unwrap();
    }
    let access = match access.as_str() {
        "" => String::new(),
        access => format!("--{access} {repository}"),
    };
    let hub = world.start(&format!(
        "sim hub --dir {{dir}}/hub --port-file {{dir}}/hub.port --faults {{dir}}/hub.faults --log {{dir}}/hub.log {access}"
    ));
    world.running.insert("hub".into(), hub);
    let file = world.dir().join("hub.port");
    let port = eventually(LIMIT, || async {
        fs::read_to_string(&file).and_then(|text| {
            let port = text.trim().parse::<u16>();
            port.map_err(std::io::Error::other)
        })
    })
    .await;
    let endpoint = format!("http://127.0.0.1:{port}");
    world.environment.push(("HF_ENDPOINT".into(), endpoint));
}

#[given(regex = r"^a copy of the embedded model in (f16|q8_0) as `(.*)`$")]
#[when(regex = r"^a copy of the embedded model in (f16|q8_0) replaces `(.*)`$")]
fn copy(world: &mut World, weights: String, path: String) {
    let path = PathBuf::from(world.fill(&path));
    let new = path.with_extension("new");
    fs::copy(haiku(&weights), &new).unwrap();
    fs::rename(new, path).unwrap();
}

/// The directories of the models of the hub, complete or not.
fn directories(world: &World) -> Vec<PathBuf> {
    let dirs = world.files().model_dirs().existing().unwrap();
    dirs.iter().map(|dir| dir.path().to_owned()).collect()
}

#[then(regex = r"^there (?:is|are) (\d+) model director(?:y|ies)$")]
fn count(world: &mut World, expected: usize) {
    let found = directories(world);
    assert_eq!(found.len(), expected, "{found:?}");
}

#[when("the last byte of the fetched weights is flipped")]
fn damage(world: &mut World) {
    let directories = directories(world);
    let [directory] = directories.as_slice() else {
        panic!("{directories:?}");
    };
    let files = fs::read_dir(directory.join("files")).unwrap();
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|path| fs::metadata(path).unwrap().len());
    let weights = files.last().unwrap();
    let mut content = fs::read(weights).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(weights, content).unwrap();
}

#[when("the database of models is damaged")]
fn damage_database(world: &mut World) {
    fs::write(world.files().model_database(), vec![7; 9000]).unwrap();
}

#[then("a damaged database of models is kept under another name")]
fn set_aside(world: &mut World) {
    let entries = fs::read_dir(world.home()).unwrap();
    let names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let aside = names.iter().find(|name| name.contains(".damaged-"));
    let aside = aside.unwrap_or_else(|| panic!("{names:?}"));
    assert_eq!(fs::read(world.home().join(aside)).unwrap(), vec![7; 9000]);
}
