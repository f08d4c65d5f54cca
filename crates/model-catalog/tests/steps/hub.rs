//! What the simulated hub does wrong, and what it has sent.

use std::fs;

use bdd::{World, eventually};
use cucumber::{given, then, when};
use sha2::{Digest as _, Sha256};

use crate::{LIMIT, haiku};

/// A line of faults, as `sim` describes them, or none.
#[given(regex = r"^the hub's fault is `(.*)`$")]
#[when(regex = r"^the hub's fault is `(.*)`$")]
fn fault(world: &mut World, line: String) {
    // Replaced at once, because the hub reads it for every request.
    let new = world.dir().join("hub.faults.new");
    fs::write(&new, line.replace(" and ", "\n")).unwrap();
    fs::rename(new, world.dir().join("hub.faults")).unwrap();
}

#[when("the hub has no fault")]
fn heal(world: &mut World) {
    fault(world, String::new());
}

#[given(regex = r"^the variable (\w+) is `(.*)`$")]
fn variable(world: &mut World, name: String, value: String) {
    let value = world.fill(&value);
    world.environment.push((name, value));
}

/// The hub takes the part of the proxy: its name does not exist outside. What it redirects to
/// is on this machine.
#[given("the hub is behind a proxy")]
fn proxy(world: &mut World) {
    let endpoint = world
        .environment
        .iter_mut()
        .find(|(name, _)| name == "HF_ENDPOINT");
    let (_, endpoint) = endpoint.expect("there is a hub");
    let proxy = std::mem::replace(endpoint, "http://hub.invalid".to_owned());
    for (name, value) in [("HTTP_PROXY", proxy), ("NO_PROXY", "127.0.0.1".to_owned())] {
        world.environment.push((name.into(), value.clone()));
        world.environment.push((name.to_lowercase(), value));
    }
}

#[when("the hub's proxy is gone")]
fn without_exceptions(world: &mut World) {
    world.running.remove("hub");
    world
        .environment
        .retain(|(name, _)| !name.eq_ignore_ascii_case("NO_PROXY"));
}

/// Bytes of large files that the hub has sent; responses that have not ended do not count.
pub(super) fn sent(world: &World) -> u64 {
    let log = fs::read_to_string(world.dir().join("hub.log")).unwrap();
    let lines = log.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let of_storage = words.next() == Some("storage");
        let bytes = words.nth(1).unwrap();
        of_storage.then(|| bytes.parse::<u64>().unwrap())
    });
    lines.sum()
}

/// The first megabyte of weights is read for their header.
#[then(regex = r"^the hub has sent at most (\d+) bytes of large files$")]
fn sent_at_most(world: &mut World, most: u64) {
    let sent = sent(world);
    assert!(sent <= most, "{sent}");
    assert!(sent > 0, "the header was read");
}

#[when("I note what the hub has sent")]
fn note(world: &mut World) {
    let sent = sent(world).to_string();
    world.noted.insert("sent".into(), sent);
}

#[then(regex = r"^the hub has sent at most (\d+) bytes of large files since$")]
fn sent_since(world: &mut World, most: u64) {
    let before: u64 = world.noted["sent"].parse().unwrap();
    let since = sent(world) - before;
    assert!(since <= most, "{since}");
}

/// A file in the cache of the hub's own tools.
#[given(regex = r"^the hub's tools have (fetched|damaged) `model-Q8_0.gguf` of (\S+)/(\S+)$")]
fn cached(world: &mut World, state: String, owner: String, name: String) {
    let mut content = fs::read(haiku("q8_0")).unwrap();
    let blob = hex::encode(Sha256::digest(&content));
    if state == "damaged" {
        *content.last_mut().unwrap() ^= 1;
    }
    let cache = world.dir().join("hf");
    let blobs = cache.join(format!("hub/models--{owner}--{name}/blobs"));
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join(blob), content).unwrap();
    let cache = cache.to_str().unwrap().to_owned();
    world.environment.push(("HF_HOME".into(), cache));
}

#[when("part of the weights is on disk")]
async fn part_on_disk(world: &mut World) {
    let models = super::disk::models(world);
    eventually(LIMIT, || async {
        let parts = super::disk::files(&models);
        let parts = parts
            .iter()
            .filter(|path| path.ends_with("gguf.part.state"));
        let begun = parts.filter(|path| fs::read_to_string(path).unwrap().lines().count() > 1);
        if begun.count() > 0 {
            Ok(())
        } else {
            Err("nothing")
        }
    })
    .await;
}
