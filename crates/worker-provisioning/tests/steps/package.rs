//! A package whose program starts the mock worker of this release.

use std::fs;

use bdd::{World, binary, eventually};
use cucumber::{given, then, when};
use sha2::{Digest as _, Sha256};

use super::LIMIT;

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Name that the programs of an endless build have on their command lines.
fn mark(world: &World) -> String {
    format!("endless-build-of-{}", world.dir().display())
}

/// Number of processes whose command line contains the mark.
fn marked(world: &World) -> usize {
    let mark = mark(world);
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(&mark))
        .count()
}

#[given(regex = r"^a package of the worker (\S+) (\S+)$")]
fn package(world: &mut World, name: String, version: String) {
    write(world, &name, &version, "");
}

#[given(regex = r"^a package of the worker (\S+) (\S+) whose build does not end$")]
fn endless_package(world: &mut World, name: String, version: String) {
    let program = format!(
        "setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' {}",
        mark(world)
    );
    write(
        world,
        &name,
        &version,
        &format!("build() {{\n  {program} &\n  {program}\n}}\n"),
    );
}

#[when("the build of the package runs a program of its own")]
async fn runs(world: &mut World) {
    let world = &*world;
    eventually(LIMIT, || async {
        match marked(world) {
            0 => Err("none runs".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[then("no process of the package is left")]
async fn none_left(world: &mut World) {
    let world = &*world;
    eventually(LIMIT, || async {
        match marked(world) {
            0 => Ok(()),
            left => Err(format!("{left} processes are left")),
        }
    })
    .await;
}

/// A worker of this name that starts the mock worker.
pub(super) fn worker_script(name: &str, version: &str) -> String {
    let mock = binary("mock-worker-rbee");
    format!(
        "#!/bin/sh\ncase $1 in\n  --version) echo '{name} {version}';;\n  --self-test) ;;\n  \
         *) exec '{}' \"$@\";;\nesac\n",
        mock.display()
    )
}

/// Notes the SHA-256 of the recipe as `{pkgbuild_sha256}`.
fn write(world: &mut World, name: &str, version: &str, build: &str) {
    let dir = world.dir().join("package");
    fs::create_dir(&dir).unwrap();
    let program = worker_script(name, version);
    let recipe = format!(
        "pkgname={name}\npkgver={version}\npkgrel=1\narch=(x86_64 aarch64)\n\
         source=(worker.sh)\nsha256sums=({})\n{build}\
         package() {{\n  install -Dm755 \"$srcdir/worker.sh\" \"$pkgdir/usr/bin/$pkgname\"\n  \
         ln -s $pkgname \"$pkgdir/usr/bin/alias\"\n}}\n",
        sha256(&program)
    );
    fs::write(dir.join("worker.sh"), program).unwrap();
    fs::write(dir.join("PKGBUILD"), &recipe).unwrap();
    world
        .noted
        .insert("pkgbuild_sha256".to_owned(), sha256(&recipe));
}
