//! The programs that the queen installs on nodes, in a directory that tests can change.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use cucumber::{given, then, when};

use ssh_server::Repository;

use super::ssh;
use crate::{World, processes::binary};

const HIVE: &str = "rbee-hive";
const MOCK_WORKER: &str = "mock-worker-rbee";

pub(super) fn link() {}

fn release(world: &World) -> PathBuf {
    world.dir().join("release")
}

/// Replaces the running queen, if any.
#[given("a queen with a release of its own")]
async fn queen_with_release(world: &mut World) {
    let directory = release(world);
    fs::create_dir(&directory).unwrap();
    for name in [HIVE, "llm-cpu-worker-rbee", MOCK_WORKER] {
        fs::copy(binary(name), directory.join(name)).unwrap();
    }
    let finished = world.run("rbee-keeper queen stop").await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let queen = world.start("queen-rbee --hive-binary {dir}/release/rbee-hive");
    world.running.insert("queen".to_owned(), queen);
    world.await_daemon("queen").await;
}

/// The loader ignores what follows the last section of a program.
#[when("the release is replaced by another build")]
fn another_build(world: &mut World) {
    let file = release(world).join(HIVE);
    // The running hive of the queen's machine keeps the old file.
    let old = file.with_extension("old");
    fs::rename(&file, &old).unwrap();
    fs::copy(&old, &file).unwrap();
    let mut file = OpenOptions::new().append(true).open(file).unwrap();
    file.write_all(b"another build").unwrap();
}

/// Replaces the hive of the release by a script.
#[when(regex = r"^the release is replaced by one whose hive (does not run|exits)$")]
fn broken_release(world: &mut World, how: String) {
    let version = env!("CARGO_PKG_VERSION");
    let versions = format!("[ \"$1\" != --version ] || {{ echo rbee-hive {version}; exit; }}");
    let script = if how == "exits" {
        format!("{versions}\necho 'no such thing' >&2; exit 3")
    } else {
        "echo 'Illegal instruction' >&2; exit 132".to_owned()
    };
    let file = release(world).join(HIVE);
    fs::rename(&file, file.with_extension("old")).unwrap();
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
}

#[derive(Debug, Default)]
struct Source(Option<Repository>);

/// Its programs become those of this build when they run. Notes its URL as `{repository}`.
#[given(regex = r"^a git repository of rbee, and cargo on ([a-z]+)$")]
fn repository(world: &mut World, machine: String) {
    let programs = [HIVE, "llm-cpu-worker-rbee"].map(|name| {
        let body = format!(
            "use std::os::unix::process::CommandExt as _;\n\
             let arguments = std::env::args_os().skip(1);\n\
             panic!(\"{{}}\", std::process::Command::new(\"{}\").args(arguments).exec());",
            binary(name).display()
        );
        (name, body)
    });
    let repository = Repository::new(&programs).unwrap();
    world
        .noted
        .insert("repository".to_owned(), repository.url());
    world.get::<Source>().0 = Some(repository);
    ssh::server(world, &machine).add_cargo().unwrap();
}

#[then(regex = r"^([a-z]+) has (\d+) versions of the hive$")]
fn versions(world: &mut World, machine: String, count: usize) {
    let bin = ssh::server(world, &machine).home().join(".rbee/bin");
    let entries = fs::read_dir(bin).unwrap();
    let directories = entries.filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir());
    assert_eq!(directories.count(), count);
}
