//! Copies of models from node to node, with real hives, a real queen and a simulated hub.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "test code: a test fails by panicking"
)]

mod fixture;
mod gate;

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use diagnostics::Code;
use futures_util::future::join_all;
use sim::hub::Access;

use fixture::{Fixture, WEIGHTS, files, model, only_file, request};
use gate::Gate;

const NONE: [PathBuf; 0] = [];

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_a_node_has_is_copied_from_there() {
    let fixture = Fixture::new().await;
    let source = fixture.holder("attic").await;
    let before = fixture.hub.received().len();
    let target = fixture.hive("cellar", "").await;
    fixture.cluster.add(&target).await.unwrap();
    let (pulled, narrated) = fixture.cluster.pull(&target.name, &request()).await;
    let pulled = pulled.unwrap();
    assert_eq!(pulled.fetched_bytes, fixture.size);
    assert_eq!(
        fixture.hub.received().len(),
        before,
        "the hub is asked once"
    );
    let copying = |n: &diagnostics::Narration| n.message.starts_with("copying hf:org/repo:Q8_0 at");
    assert!(narrated.iter().any(copying), "{narrated:?}");
    // Both have the same files, under the same names and revision.
    let stored = |files: &hive_contract::StoredFiles| {
        (
            files.revision.clone().unwrap(),
            files.sha256.clone().unwrap(),
        )
    };
    let query = hive_contract::ModelQuery { model: model() };
    let of_source = fixture
        .cluster
        .client
        .show_model(Some(&source.name), &query);
    let of_source = of_source.await.unwrap().details.model.files.unwrap();
    let of_target = pulled.model.files.unwrap();
    assert_eq!(stored(&of_target), stored(&of_source));
    let path = &only_file(&target.home.models(), WEIGHTS);
    assert_eq!(fs::read(path).unwrap(), fs::read(of_source.path).unwrap());
    assert_eq!(files(&target.home.models(), ".part"), NONE);
    // The next pull finds it.
    let (again, _) = fixture.cluster.pull(&target.name, &request()).await;
    assert_eq!(again.unwrap().fetched_bytes, 0);
    // The catalog lists both nodes.
    let listed = fixture.cluster.client.catalog().await.unwrap();
    let of_model = listed
        .models
        .iter()
        .find(|m| m.model.also.contains(&model()));
    let nodes = [source.name.clone(), target.name.clone()];
    assert_eq!(of_model.unwrap().nodes, nodes);
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_of_one_model_make_one_copy() {
    let fixture = Fixture::new().await;
    let source = fixture.holder("attic").await;
    let gate = Gate::start(&source.url).await;
    fixture.cluster.add_at(&source, &gate.url).await.unwrap();
    let target = fixture.hive("cellar", "").await;
    fixture.cluster.add(&target).await.unwrap();
    let request = request();
    let pulls = (0..20).map(|_| {
        fixture
            .cluster
            .client
            .pull_model(Some(&target.name), &request)
    });
    let jobs: BTreeSet<String> = join_all(pulls)
        .await
        .into_iter()
        .map(|job| job.unwrap().job_id.to_string())
        .collect();
    assert_eq!(jobs.len(), 1);
    let (pulled, _) = fixture.cluster.pull(&target.name, &request).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    let header = 4 << 20;
    assert!(gate.sent() <= fixture.size + header, "{}", gate.sent());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_continues_after_the_death_of_its_hive() {
    let fixture = Fixture::new().await;
    let source = fixture.holder("attic").await;
    let before = fixture.hub.received().len();
    let gate = Gate::start(&source.url).await;
    fixture.cluster.add_at(&source, &gate.url).await.unwrap();
    let target = fixture.hive("cellar", "").await;
    fixture.cluster.add(&target).await.unwrap();
    gate.hold_after(fixture.size / 2);
    let request = request();
    let started = fixture
        .cluster
        .client
        .pull_model(Some(&target.name), &request);
    started.await.unwrap();
    gate.held().await;
    let target = fixture.restart(target).await;
    assert_eq!(files(&target.home.models(), WEIGHTS), NONE);
    gate.release();
    fixture.cluster.add(&target).await.unwrap();
    let (pulled, _) = fixture.cluster.pull(&target.name, &request).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    assert_eq!(fixture.hub.received().len(), before);
    // The pieces that were on their way are sent again, and the header.
    let again = gate.sent() - fixture.size;
    assert!(again < fixture.size / 2, "{again} bytes were sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_lost_is_replaced_by_another_node() {
    let fixture = Fixture::new().await;
    let mut source = fixture.holder("attic").await;
    let other = fixture.hive("barn", "").await;
    fixture.cluster.add(&other).await.unwrap();
    fixture
        .cluster
        .pull(&other.name, &request())
        .await
        .0
        .unwrap();
    let before = fixture.hub.received().len();
    let gate = Gate::start(&source.url).await;
    fixture.cluster.add_at(&source, &gate.url).await.unwrap();
    let target = fixture.hive("cellar", "").await;
    fixture.cluster.add(&target).await.unwrap();
    gate.hold_after(fixture.size / 2);
    let request = request();
    let started = fixture
        .cluster
        .client
        .pull_model(Some(&target.name), &request);
    started.await.unwrap();
    gate.held().await;
    source.kill().await.unwrap();
    drop(gate);
    let (pulled, _) = fixture.cluster.pull(&target.name, &request).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    assert_eq!(fixture.hub.received().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_continues_what_no_node_can() {
    let fixture = Fixture::new().await;
    let mut source = fixture.holder("attic").await;
    let gate = Gate::start(&source.url).await;
    fixture.cluster.add_at(&source, &gate.url).await.unwrap();
    let target = fixture.hive("cellar", "").await;
    fixture.cluster.add(&target).await.unwrap();
    gate.hold_after(fixture.size / 2);
    let request = request();
    let started = fixture
        .cluster
        .client
        .pull_model(Some(&target.name), &request);
    started.await.unwrap();
    gate.held().await;
    source.kill().await.unwrap();
    drop(gate);
    let (pulled, narrated) = fixture.cluster.pull(&target.name, &request).await;
    pulled.unwrap();
    assert!(fixture.has_model(&target).await);
    let failed =
        |n: &diagnostics::Narration| n.message.contains("cannot copy it from another node");
    assert!(narrated.iter().any(failed), "{narrated:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_of_a_node_is_refused() {
    let fixture = Fixture::new().await;
    let source = fixture.holder("attic").await;
    let weights = &only_file(&source.home.models(), WEIGHTS);
    let file = OpenOptions::new().write(true).open(weights).unwrap();
    file.write_all_at(b"x", fixture.size - 1).unwrap();
    let target = fixture.hive("cellar", "").await;
    fixture.cluster.add(&target).await.unwrap();
    // Without the vendor there is no model.
    fixture.hub.set_access("org/repo", Access::Private);
    let (pulled, _) = fixture.cluster.pull(&target.name, &request()).await;
    let error = pulled.unwrap_err();
    assert!(
        error
            .message
            .contains("the copy from another node failed: the SHA-256"),
        "{error}"
    );
    assert_eq!(files(&target.home.models(), WEIGHTS), NONE);
    assert_eq!(files(&target.home.models(), "model.json"), NONE);
    // With it the model is right.
    fixture.hub.set_access("org/repo", Access::Public);
    let (pulled, _) = fixture.cluster.pull(&target.name, &request()).await;
    pulled.unwrap();
    let copied = &only_file(&target.home.models(), WEIGHTS);
    assert_ne!(fs::read(copied).unwrap(), fs::read(weights).unwrap());
    assert_eq!(
        fs::read(copied).unwrap(),
        fs::read(fixture.directory.path().join("model.gguf")).unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_model_is_copied_and_the_token_stays_where_it_is() {
    const TOKEN: &str = "hf_secret_of_the_queen";
    let fixture = Fixture::new().await;
    fixture.hub.set_access("org/repo", Access::Gated);
    fixture.hub.grant(TOKEN, "org/repo");
    let local = fixture.hive("local", TOKEN).await;
    fixture.cluster.add(&local).await.unwrap();
    let target = fixture.hive("cellar", "").await;
    fixture.cluster.add(&target).await.unwrap();
    // The node alone has no access, and the error says what to do.
    let (refused, _) = fixture.cluster.pull(&target.name, &request()).await;
    let error = refused.unwrap_err();
    assert_eq!(error.code, Code::ModelAccessDenied, "{error}");
    let hint = error.hint.unwrap();
    assert!(
        hint.contains("`rbee-keeper pull MODEL --node cellar`"),
        "{hint}"
    );

    fixture
        .cluster
        .pull(&local.name, &request())
        .await
        .0
        .unwrap();
    let before = fixture.fetched_from_hub();
    fixture
        .cluster
        .pull(&target.name, &request())
        .await
        .0
        .unwrap();
    assert!(fixture.has_model(&target).await);
    assert_eq!(fixture.fetched_from_hub(), before);
    let with_token = |path: &PathBuf| {
        let content = fs::read(path).unwrap();
        content.windows(TOKEN.len()).any(|w| w == TOKEN.as_bytes())
    };
    let found: Vec<_> = files(target.home.path(), "")
        .into_iter()
        .filter(with_token)
        .collect();
    assert_eq!(found, NONE);
}
