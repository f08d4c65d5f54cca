//! Processes of builds, which have the scenario's marker as their name.

use std::{fs, time::Duration};

use bdd::{World, eventually};
use cucumber::{then, when};

fn count(marker: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.starts_with(marker.as_bytes()))
        .count()
}

#[when(regex = r"^the build has (\d+) process(?:es)?$")]
async fn has(world: &mut World, expected: usize) {
    let marker = world.noted["marker"].clone();
    eventually(Duration::from_secs(20), || async {
        match count(&marker) {
            found if found == expected => Ok(()),
            found => Err(format!("{found} processes")),
        }
    })
    .await;
}

/// The folders of a build are mounted in its sandbox.
#[then("no process is in the sandbox of the build")]
async fn none_in_sandbox(world: &mut World) {
    let folder = format!("{}/", world.dir().join("builds/work").display());
    eventually(Duration::from_secs(2), || async {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let inside = entries
            .filter_map(|entry| fs::read_to_string(entry.path().join("mountinfo")).ok())
            .filter(|mounts| mounts.contains(&folder));
        match inside.count() {
            0 => Ok(()),
            found => Err(format!("{found} processes")),
        }
    })
    .await;
}

#[then("no process of the build is left")]
async fn none(world: &mut World) {
    let marker = world.noted["marker"].clone();
    eventually(Duration::from_secs(2), || async {
        match count(&marker) {
            0 => Ok(()),
            found => Err(format!("{found} processes")),
        }
    })
    .await;
}
