//! What a build does, and what it leaves.

use std::{collections::BTreeSet, fs, io::Write as _, path::PathBuf};

use bdd::{World, eventually};
use cucumber::{then, when};
use daemon_shell::ProcessIdentity;
use state_files::{SpawnRecord, Stored};

use super::LIMIT;

/// The program that the build script of an endless build has started.
#[derive(Debug, Default)]
struct Started(Option<ProcessIdentity>);

fn running(world: &World) -> PathBuf {
    world.dir().join("running")
}

#[when("the build runs a program of its own")]
async fn runs(world: &mut World) {
    let file = running(world);
    let identity = eventually(LIMIT, || async {
        let pid = fs::read_to_string(&file).unwrap_or_default();
        let pid: u32 = pid.parse().map_err(|e| format!("no program runs: {e}"))?;
        ProcessIdentity::of(pid).ok_or_else(|| format!("process {pid} is gone"))
    })
    .await;
    world.get::<Started>().0 = Some(identity);
}

#[then("no process of the build is left")]
async fn none_left(world: &mut World) {
    let program = world.get::<Started>().0.expect("a program was started");
    eventually(LIMIT, || async {
        let builds = world.processes().into_values().filter(|line| {
            ["cargo", "rustc", "build-script-build"].iter().any(|name| {
                line.split(' ')
                    .next()
                    .is_some_and(|path| path.ends_with(name))
            })
        });
        let mut left: Vec<String> = builds.collect();
        if program.is_alive() {
            left.push(format!("{program:?}"));
        }
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    })
    .await;
}

#[then("nothing is left of a build")]
async fn nothing_left(world: &mut World) {
    let dirs = world.files().binary_dirs();
    eventually(LIMIT, || async {
        match dirs.staged().unwrap().as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
}

#[then(regex = r"^workers run from (`.*`)$")]
fn run_from(world: &mut World, versions: String) {
    let mut found = BTreeSet::new();
    let dirs = world.files().worker_dirs();
    for id in dirs.ids().unwrap() {
        let dir = dirs.of(&id);
        let Stored::Intact(record) = SpawnRecord::read(&dir).unwrap() else {
            panic!("no record of {id}");
        };
        if record.running().is_some() {
            let program = PathBuf::from(&record.argv[0]);
            let version = program.iter().rev().nth(2).unwrap();
            found.insert(version.to_str().unwrap().to_owned());
        }
    }
    let expected = versions
        .split(" and ")
        .map(|version| version.trim_matches('`').to_owned());
    assert_eq!(found, expected.collect());
}

#[when("the database of worker binaries is damaged")]
fn damage_database(world: &mut World) {
    fs::write(world.files().binary_database(), vec![7; 9000]).unwrap();
}

#[when(regex = r"^the installed (\S+) (\S+) is changed$")]
fn change(world: &mut World, name: String, version: String) {
    let dirs = world.files().binary_dirs();
    let dir = dirs.of(&name.parse().unwrap(), &version.parse().unwrap());
    let file = dir.files().join(name);
    let file = fs::OpenOptions::new().append(true).open(file);
    file.unwrap().write_all(b"x").unwrap();
}
