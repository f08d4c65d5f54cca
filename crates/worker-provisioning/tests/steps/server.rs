//! A server with a worker binary.

use std::fs;

use bdd::{World, eventually};
use cucumber::{given, then};
use sha2::{Digest as _, Sha256};

use super::LIMIT;

/// Serves a script in place of a worker. It leaves a mark when it is run.
#[given(regex = r"^a server with the worker (\S+) (\S+)( whose self-test does not end)?$")]
async fn server(world: &mut World, name: String, version: String, endless: String) {
    let dir = world.dir().join("hub/org/repo");
    fs::create_dir_all(&dir).unwrap();
    let marks = world.dir().display();
    let self_test = if endless.is_empty() {
        String::new()
    } else {
        format!("sleep 600 & printf $! > '{marks}/running'; wait")
    };
    let script = format!(
        "#!/bin/sh\necho run >> '{marks}/runs'\n\
         case $1 in --self-test) {self_test};; *) echo {name} {version};; esac\n"
    );
    fs::write(dir.join(&name), &script).unwrap();
    let hub = world.start("sim hub --dir {dir}/hub --port-file {dir}/hub.port");
    world.running.insert("hub".into(), hub);
    let file = world.dir().join("hub.port");
    let port = eventually(LIMIT, || async {
        let text = fs::read_to_string(&file).map_err(|e| e.to_string())?;
        text.trim().parse::<u16>().map_err(|e| e.to_string())
    })
    .await;
    let url = format!("http://127.0.0.1:{port}");
    world.noted.insert("server".into(), url);
    let hash = hex::encode(Sha256::digest(script));
    world.noted.insert("sha256".into(), hash);
}

#[then("the worker was not run")]
fn not_run(world: &mut World) {
    assert!(!world.dir().join("runs").exists());
}
