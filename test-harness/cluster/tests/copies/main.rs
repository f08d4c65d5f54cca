//! Copies of models from node to node: a queen, hives, and a simulated hub.
#![allow(clippy::unwrap_used, reason = "test code: a test fails by panicking")]

mod fixture;
mod gate;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use diagnostics::{Code, Narration};
use futures_util::future::join_all;
use hive_contract::{ModelQuery, StoredFiles};
use input_validation::NodeName;
use sim::hub::Access;
use state_files::ModelDirs;

use fixture::{Fixture, WEIGHTS, files, model, only_file, request};

const NONE: [PathBuf; 0] = [];

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_a_node_has_is_copied_from_there() {
    let fixture = Fixture::new().await;
    let source = fixture.holder("attic").await;
    let before = fixture.hub.received().len();
    let target = fixture.node("cellar").await;
    let (pulled, narrated) = fixture.cluster.pull(&target.name, &request()).await;
    let pulled = pulled.unwrap();
    assert_eq!(pulled.fetched_bytes, fixture.size);
    assert_eq!(
        fixture.hub.received().len(),
        before,
        "the hub is asked once"
    );
    let copying = |n: &Narration| n.message.starts_with("copying hf:org/repo:Q8_0 at");
    assert!(narrated.iter().any(copying), "{narrated:?}");
    // Both have the same files at the same revision.
    let version = |files: &StoredFiles| (files.revision.clone(), files.sha256.clone());
    let client = &fixture.cluster.client;
    let query = ModelQuery { model: model() };
    let report = client.show_model(Some(&source.name), &query).await.unwrap();
    let of_source = report.details.model.files.unwrap();
    assert_eq!(version(&pulled.model.files.unwrap()), version(&of_source));
    let path = only_file(&target.home.models(), WEIGHTS);
    assert_eq!(fs::read(path).unwrap(), fs::read(of_source.path).unwrap());
    assert_eq!(files(&target.home.models(), ".part"), NONE);
    // It fits on the devices of all nodes, of which two have it.
    let nodes: Vec<_> = report
        .fit
        .iter()
        .map(|fit| (fit.node.to_string(), fit.has_files))
        .collect();
    let expected = [("attic", true), ("cellar", true), ("local", false)];
    assert_eq!(nodes, expected.map(|(node, has)| (node.to_owned(), has)));
    // The next pull finds it.
    let (again, _) = fixture.cluster.pull(&target.name, &request()).await;
    assert_eq!(again.unwrap().fetched_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_one_model_make_one_copy() {
    let fixture = Fixture::new().await;
    let (_source, gate) = fixture.gated_holder("attic").await;
    let target = fixture.node("cellar").await;
    let request = request();
    let pulls = (0..20).map(|_| fixture.cluster.pull(&target.name, &request));
    for (pulled, _) in join_all(pulls).await {
        pulled.unwrap();
    }
    assert!(fixture.has_model(&target).await);
    let header = 4 << 20;
    assert!(gate.sent() <= fixture.size + header, "{}", gate.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_continues_after_the_death_of_its_hive() {
    let fixture = Fixture::new().await;
    let (_source, gate) = fixture.gated_holder("attic").await;
    let before = fixture.hub.received().len();
    let mut target = fixture.node("cellar").await;
    fixture.pull_half(&target, &gate).await;
    fixture.crash(&mut target).await;
    assert_eq!(files(&target.home.models(), WEIGHTS), NONE);
    gate.release();
    let moved = fixture.cluster.move_to(&target, &target.url).await;
    moved.unwrap();
    let (pulled, _) = fixture.cluster.pull(&target.name, &request()).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    assert_eq!(fixture.hub.received().len(), before);
    // Pieces that were on their way are sent again, and the header.
    let again = gate.sent() - fixture.size;
    assert!(again < fixture.size / 2, "{again} bytes were sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_lost_is_replaced_by_another_node() {
    let fixture = Fixture::new().await;
    let (mut source, gate) = fixture.gated_holder("attic").await;
    let _other = fixture.holder("barn").await;
    let before = fixture.hub.received().len();
    let target = fixture.node("cellar").await;
    fixture.pull_half(&target, &gate).await;
    source.kill().await.unwrap();
    drop(gate);
    let (pulled, _) = fixture.cluster.pull(&target.name, &request()).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    assert_eq!(fixture.hub.received().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_continues_what_no_node_can() {
    let fixture = Fixture::new().await;
    let (mut source, gate) = fixture.gated_holder("attic").await;
    let target = fixture.node("cellar").await;
    fixture.pull_half(&target, &gate).await;
    source.kill().await.unwrap();
    drop(gate);
    let (pulled, narrated) = fixture.cluster.pull(&target.name, &request()).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    let failed = |n: &Narration| n.message.contains("cannot copy it from another node");
    assert!(narrated.iter().any(failed), "{narrated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_a_node_is_refused() {
    let fixture = Fixture::new().await;
    let source = fixture.holder("attic").await;
    let damaged = only_file(&source.home.models(), WEIGHTS);
    let file = OpenOptions::new().write(true).open(&damaged).unwrap();
    file.write_all_at(b"x", fixture.size - 1).unwrap();
    let target = fixture.node("cellar").await;
    // Without the vendor there is no model.
    fixture.hub.set_access("org/repo", Access::Private);
    let (pulled, _) = fixture.cluster.pull(&target.name, &request()).await;
    let error = pulled.unwrap_err();
    let expected = "the copy from another node failed: the SHA-256";
    assert!(error.message.contains(expected), "{error}");
    assert_eq!(files(&target.home.models(), WEIGHTS), NONE);
    let record = ModelDirs::new(PathBuf::new()).named("model").record();
    let record = record.file_name().unwrap().to_str().unwrap();
    assert_eq!(files(&target.home.models(), record), NONE);
    // With it, the model is the right one.
    fixture.hub.set_access("org/repo", Access::Public);
    let (pulled, _) = fixture.cluster.pull(&target.name, &request()).await;
    pulled.unwrap();
    let copied = fs::read(only_file(&target.home.models(), WEIGHTS)).unwrap();
    let original = fixture.directory.path().join("model.gguf");
    assert_ne!(copied, fs::read(damaged).unwrap());
    assert_eq!(copied, fs::read(original).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_model_is_copied_and_the_token_of_the_hub_is_not() {
    const TOKEN: &str = "hf_secret_of_the_queen";
    let fixture = Fixture::with_token(TOKEN).await;
    fixture.hub.set_access("org/repo", Access::Gated);
    fixture.hub.grant(TOKEN, "org/repo");
    let target = fixture.node("cellar").await;
    // The node alone has no access, and the error says what to do.
    let (refused, _) = fixture.cluster.pull(&target.name, &request()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.code, Code::ModelAccessDenied, "{error}");
    let hint = error.hint.unwrap();
    assert!(
        hint.contains("`rbee-keeper pull MODEL --node cellar`"),
        "{hint}"
    );

    let local = NodeName::local();
    let (pulled, _) = fixture.cluster.pull(&local, &request()).await;
    pulled.unwrap();
    let before = fixture.hub.received().len();
    let (pulled, _) = fixture.cluster.pull(&target.name, &request()).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    assert_eq!(fixture.hub.received().len(), before);
    let has_token = |path: &PathBuf| {
        let content = fs::read(path).unwrap();
        content.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes())
    };
    let mut found = files(target.home.path(), "");
    found.retain(has_token);
    assert_eq!(found, NONE);
}
