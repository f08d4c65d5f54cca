//! What was built.

use std::fs;

use bdd::{World, table};
use cucumber::{gherkin::Step, then};
use package_builder::{BuildEvent, PackagedKind};
use sha2::{Digest as _, Sha256};

use super::recipes::BuildState;

#[then(regex = r"^the package (\S+) has the version (\S+)$")]
fn has_version(world: &mut World, name: String, version: String) {
    let package = world.get::<BuildState>().built();
    assert_eq!(
        (package.name.as_str(), package.version.to_string()),
        (name.as_str(), version)
    );
}

#[then("the package contains")]
fn contains(world: &mut World, step: &Step) {
    let package = world.get::<BuildState>().built().clone();
    let rows = table(step);
    let paths: Vec<&str> = package
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    let expected: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(paths, expected);
    for (file, row) in package.files.iter().zip(rows) {
        let path = package.root.join(&file.path);
        match &file.kind {
            PackagedKind::Link { target } => {
                assert_eq!(("->", target.as_str()), (row[1].as_str(), row[2].as_str()));
                assert_eq!(fs::read_link(path).unwrap().to_str().unwrap(), target);
            }
            PackagedKind::File { size, mode, sha256 } => {
                let content = fs::read(&path).unwrap();
                assert_eq!(format!("{mode:o}"), row[1], "{}", file.path);
                assert_eq!(*size, content.len() as u64);
                assert_eq!(sha256[..], Sha256::digest(&content)[..]);
                assert_eq!(String::from_utf8(content).unwrap().trim(), row[2]);
            }
        }
    }
}

#[then(regex = r"^the package contains the path (\S+)$")]
fn contains_path(world: &mut World, path: String) {
    let package = world.get::<BuildState>().built();
    assert!(
        package.files.iter().any(|file| file.path == path),
        "{package:#?}"
    );
}

#[then(regex = r"^the phases were (.*)$")]
fn phases(world: &mut World, expected: String) {
    let events = world.get::<BuildState>().events();
    let phases: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            BuildEvent::Phase(phase) => Some(phase.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(phases.join(", "), expected);
}

#[then("the work folder contains the package only")]
fn package_only(world: &mut World) {
    let root = world.get::<BuildState>().built().root.clone();
    let names = fs::read_dir(root.parent().unwrap()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(names, [root]);
}
