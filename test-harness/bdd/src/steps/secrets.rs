//! Keys and tokens: who can see them.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use cucumber::{given, then};
use state_files::Home;

use super::ssh::server;
use crate::World;

pub(super) fn link() {}

/// How often the processes are looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// Longer files are programs.
const MAX_SEARCHED_BYTES: u64 = 8 << 20;

/// Collects what every user of the machine can see of processes, and what their owner can, until
/// the sender is dropped.
#[derive(Debug, Default)]
struct Watch(Option<(Sender<()>, JoinHandle<Seen>)>);

/// Arguments and environments.
type Seen = HashSet<Vec<u8>>;

impl Watch {
    fn start(marks: Vec<String>) -> Self {
        let (sender, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut seen = Seen::new();
            while ended.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                look(&marks, &mut seen);
            }
            seen
        });
        Self(Some((sender, thread)))
    }

    fn finish(&mut self) -> Seen {
        let (sender, thread) = self.0.take().expect("the processes are watched");
        drop(sender);
        thread.join().unwrap()
    }
}

/// Adds the arguments and the environment of each process whose environment has a mark.
fn look(marks: &[String], seen: &mut Seen) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if marks
            .iter()
            .any(|mark| contains(&environment, mark.as_bytes()))
        {
            seen.insert(fs::read(entry.path().join("cmdline")).unwrap_or_default());
            seen.insert(environment);
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|found| found == part)
}

#[given(regex = r"^the processes of the queen and of ([a-z]+) are watched$")]
fn watch(world: &mut World, machine: String) {
    let home = server(world, &machine).home();
    let marks = world
        .inherited()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"));
    let marks = marks.chain([format!("HOME={}", home.display())]).collect();
    *world.get::<Watch>() = Watch::start(marks);
}

/// The secrets are the tokens of both sides and the private key. They are in no argument, no
/// environment, no file but their own, and not in the output of the last command.
#[then(regex = r"^no secret of the queen or of ([a-z]+) was shown$")]
fn nothing_shown(world: &mut World, machine: String) {
    let seen = world.get::<Watch>().finish();
    let server = server(world, &machine);
    let machine_home = server.home();
    let (own_keys, node_keys) = (
        world.files().path().join("keys"),
        machine_home.join(".rbee/keys"),
    );
    let server = super::ssh::server(world, &machine);
    let mut secrets: Vec<String> = [&own_keys, &node_keys]
        .into_iter()
        .flat_map(|directory| files(directory))
        .map(|file| fs::read_to_string(file).unwrap().trim().to_owned())
        .collect();
    let key = fs::read_to_string(server.key_file()).unwrap();
    secrets.extend(key.lines().nth(2).map(str::to_owned));
    assert!(
        secrets.len() > 3 && secrets.iter().all(|s| s.len() >= 16),
        "{}",
        secrets.len()
    );

    let is_seen = |text: &[u8]| {
        secrets
            .iter()
            .any(|secret| contains(text, secret.as_bytes()))
    };
    assert!(seen.len() > 20, "processes were seen: {}", seen.len());
    for text in &seen {
        assert!(!is_seen(text), "{}", String::from_utf8_lossy(text));
    }
    let searched = [world.dir().to_owned(), machine_home]
        .into_iter()
        .flat_map(|directory| files(&directory))
        .filter(|file| !file.starts_with(&own_keys) && !file.starts_with(&node_keys));
    let searched: Vec<PathBuf> = searched.collect();
    let logs = [world.files(), Home::at(node_keys.parent().unwrap())].map(|home| home.hive_log());
    assert!(
        logs.iter().all(|log| searched.contains(log)),
        "{searched:?}"
    );
    for file in searched {
        if fs::metadata(&file).is_ok_and(|meta| meta.len() > MAX_SEARCHED_BYTES) {
            continue;
        }
        let text = fs::read(&file).unwrap_or_default();
        assert!(!is_seen(&text), "{}", file.display());
    }
    let last = world.last();
    assert!(
        !is_seen(last.stdout.as_bytes()) && !is_seen(last.stderr.as_bytes()),
        "{last:?}"
    );
}

/// The files of a directory and its directories.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for entry in entries {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found
}
