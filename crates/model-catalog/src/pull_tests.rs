use std::fs;

use diagnostics::Code;
use futures_util::StreamExt as _;
use hive_contract::{JobEvent, JobState};

use crate::testing::{Fixture, haiku, model, result};

#[tokio::test]
async fn a_missing_model_is_fetched_and_found_next_time() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    let reference = model("hf:org/repo");
    let error = fixture.catalog.resolve(&reference).unwrap_err();
    assert_eq!(error.code, Code::ModelNotFound);
    assert_eq!(error.message, "the model hf:org/repo is not on this node");
    let hint = error.hint.unwrap();
    assert!(
        hint.contains("`rbee-keeper model pull hf:org/repo`"),
        "{hint}"
    );

    let pulled = fixture.pull("hf:org/repo").await.unwrap();
    assert_eq!(pulled.model.model.to_string(), "hf:org/repo:Q8_0");
    assert_eq!(pulled.model.also, std::slice::from_ref(&reference));
    assert_eq!(pulled.fetched_bytes, pulled.model.size_bytes);
    assert_eq!(fixture.hub.fetched(), ["sub/model.gguf", "notes.txt"]);
    let path = fixture.catalog.resolve(&reference).unwrap().argument;
    assert!(path.ends_with("/files/sub/model.gguf"), "{path}");
    let files = pulled.model.files.unwrap();
    assert_eq!((files.path, files.revision.as_deref()), (path, Some("c1")));

    // Found under both names, also after a restart; the vendor is not asked again.
    let fixture = Fixture::with_hub(dir.path(), fixture.hub);
    for name in ["hf:org/repo", "hf:org/repo:Q8_0"] {
        assert_eq!(fixture.pull(name).await.unwrap().fetched_bytes, 0);
    }
    assert_eq!(fixture.hub.fetched().len(), 2);
    assert_eq!(*fixture.hub.resolved.lock().unwrap(), 1);
    assert_eq!(fixture.listed(), ["hf:org/repo:Q8_0"]);
    let stray: Vec<_> = fs::read_dir(dir.path().join("models/hf"))
        .unwrap()
        .collect();
    assert_eq!(stray.len(), 1);
}

#[tokio::test]
async fn callers_of_one_model_share_a_download_and_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.hub.permits.forget_permits(usize::MAX);
    let jobs: Vec<_> = (0..20)
        .map(|_| fixture.start("hf:org/repo", None))
        .collect();
    // One reader leaves.
    let mut leaver = Box::pin(jobs[0].events());
    leaver.next().await.unwrap();
    drop(leaver);
    let readers = jobs.iter().map(|job| {
        let events = job.events();
        async { events.collect::<Vec<_>>().await }
    });
    let readers = futures_util::future::join_all(readers);
    fixture.hub.permits.add_permits(2);
    let all = readers.await;
    assert_eq!(fixture.hub.fetched().len(), 2, "one download");
    for events in all {
        assert!(
            matches!(events.first(), Some(JobEvent::Narration(n)) if n.message.starts_with("looking up"))
        );
        assert!(matches!(events.last(), Some(JobEvent::Result(_))));
        let mut wholes = events.iter().filter_map(|event| match event {
            JobEvent::Progress(p) if p.item.is_none() => Some((p.done, p.total.unwrap())),
            _ => None,
        });
        let last = wholes.next_back().unwrap();
        assert_eq!(last.0, last.1);
    }
}

#[tokio::test]
async fn names_of_the_same_files_make_one_download() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    let jobs = ["hf:org/repo", "hf:org/repo:Q8_0"].map(|name| fixture.start(name, None));
    let mut fetched = Vec::new();
    for job in &jobs {
        fetched.push(result(job).await.unwrap().fetched_bytes > 0);
    }
    fetched.sort_unstable();
    assert_eq!(fetched, [false, true]);
    assert_eq!(fixture.hub.fetched().len(), 2);
}

#[tokio::test]
async fn a_cancelled_download_keeps_its_revision_and_partial_files() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.hub.permits.forget_permits(usize::MAX);
    let job = fixture.start("hf:org/repo", None);
    let mut events = Box::pin(job.events());
    while let Some(event) = events.next().await {
        if matches!(event, JobEvent::Progress(_)) {
            break;
        }
    }
    job.cancel().await;
    assert_eq!(job.status().state, JobState::Cancelled);
    assert_eq!(fixture.listed(), [""; 0]);
    // The hub has moved on, and the pull is continued where it was.
    *fixture.hub.revision.lock().unwrap() = "c2".into();
    fixture.hub.permits.add_permits(2);
    let pulled = fixture.pull("hf:org/repo").await.unwrap();
    assert_eq!(pulled.model.files.unwrap().revision.as_deref(), Some("c1"));
}

#[tokio::test]
async fn a_wrong_file_is_never_registered() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    *fixture.hub.wrong_content.lock().unwrap() = Some(b"wrong".to_vec());
    let error = fixture.pull("hf:org/repo").await.unwrap_err();
    assert_eq!(error.code, Code::ChecksumMismatch);
    assert_eq!(fixture.listed(), [""; 0]);
    assert!(fixture.catalog.resolve(&model("hf:org/repo")).is_err());
    *fixture.hub.wrong_content.lock().unwrap() = None;
    fixture.pull("hf:org/repo").await.unwrap();
}

#[tokio::test]
async fn a_path_outside_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    for path in ["../escaped", "/escaped", "a/../../escaped"] {
        *fixture.hub.weights.lock().unwrap() = path.into();
        let error = fixture.pull("hf:org/repo").await.unwrap_err();
        assert!(error.message.contains("outside its directory"), "{error}");
    }
    assert_eq!(fixture.hub.fetched(), [""; 0]);
    assert!(!dir.path().join("models/hf").exists());
}

#[tokio::test]
async fn errors_of_the_vendor_are_those_of_the_pull() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    let error = fixture.pull("hf:org/missing").await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::ModelNotFound, "no such repository")
    );
    let error = fixture.pull("ollama:a").await.unwrap_err();
    assert_eq!(error.code, Code::DownloadFailed);
    let present = fixture.pull("builtin:haiku").await.unwrap();
    assert_eq!(present.fetched_bytes, 0);
}

#[tokio::test]
async fn an_update_is_shown_and_then_replaces_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.pull("hf:org/repo").await.unwrap();
    let reference = model("hf:org/repo");
    let same = fixture.puller.update(reference.clone()).await.unwrap();
    assert_eq!((same.current.as_str(), same.newest.as_str()), ("c1", "c1"));
    assert_eq!(same.changed, []);

    *fixture.hub.revision.lock().unwrap() = "c2".into();
    // A pull does not change the revision without being asked.
    assert_eq!(fixture.pull("hf:org/repo").await.unwrap().fetched_bytes, 0);
    let newer = fixture.puller.update(reference.clone()).await.unwrap();
    assert_eq!(
        (newer.current.as_str(), newer.newest.as_str()),
        ("c1", "c2")
    );
    let old = fixture.catalog.resolve(&reference).unwrap().argument;
    result(&fixture.start("hf:org/repo", Some("c2")))
        .await
        .unwrap();
    let new = fixture.catalog.resolve(&reference).unwrap().argument;
    assert_ne!(new, old);
    assert!(!fs::exists(old).unwrap(), "the old revision is removed");
    assert_eq!(fixture.listed(), ["hf:org/repo:Q8_0"]);
    let error = fixture
        .puller
        .update(model("builtin:haiku"))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
}

#[tokio::test]
async fn an_absent_model_is_described_without_a_download() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    let details = fixture.puller.details(model("hf:org/repo")).await.unwrap();
    let remote = details.remote.unwrap();
    assert_eq!(remote.files.len(), 2);
    assert_eq!(remote.revision, "c1");
    let memory = details.memory.unwrap();
    let sizes: Vec<(&str, u64)> = memory
        .kv_cache
        .iter()
        .map(|size| (size.kv_type.as_str(), size.bytes_per_token))
        .collect();
    // 4 layers with keys and values of 128 elements.
    assert_eq!(sizes, [("f32", 4096), ("f16", 2048), ("q8_0", 1088)]);
    assert_eq!(details.model.parameters, 2_885_888);
    assert_eq!(fixture.hub.fetched(), [""; 0]);
    fixture.pull("hf:org/repo").await.unwrap();
    let details = fixture.puller.details(model("hf:org/repo")).await.unwrap();
    assert_eq!(details.remote, None);
    assert_eq!(details.memory, Some(memory));
    assert!(!details.metadata.is_empty());
}

#[tokio::test]
async fn hives_that_share_a_directory_find_each_others_models() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Fixture::new(one.path());
    std::os::unix::fs::symlink(one.path().join("models"), two.path().join("models")).unwrap();
    first
        .pull("hf:org/repo")
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let second = Fixture::with_hub(two.path(), std::sync::Arc::clone(&first.hub));
    assert_eq!(second.listed(), ["hf:org/repo:Q8_0"]);
    // One that was pulled after the start of the other one is registered, not fetched.
    first.pull("hf:org/other").await.unwrap();
    let fetched = first.hub.fetched().len();
    assert_eq!(second.pull("hf:org/other").await.unwrap().fetched_bytes, 0);
    assert_eq!(first.hub.fetched().len(), fetched);
}

#[tokio::test]
async fn a_model_that_does_not_fit_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    *fixture.hub.reserve.lock().unwrap() = 1 << 60;
    let error = fixture.pull("hf:org/repo").await.unwrap_err();
    assert_eq!(error.code, Code::InsufficientDisk);
    let size = fs::metadata(haiku()).unwrap().len() + "notes of c1".len() as u64;
    let details = error.details.unwrap();
    assert_eq!(details["need_bytes"], (1_u64 << 60) + size);
    assert!(details["free_bytes"].as_u64().unwrap() > 0);
    assert!(
        error.message.contains(" needs 3.0 MiB more"),
        "{}",
        error.message
    );
    assert_eq!(fixture.hub.fetched(), [""; 0]);
    assert!(!dir.path().join("models/hf").exists());
}

#[tokio::test]
async fn a_file_that_another_tool_has_is_used_if_it_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    let copy = dir.path().join("blob");
    fs::copy(haiku(), &copy).unwrap();
    *fixture.hub.copy.lock().unwrap() = Some(copy.clone());
    let pulled = fixture.pull("hf:org/repo").await.unwrap();
    assert_eq!(fixture.hub.fetched(), ["notes.txt"]);
    assert_eq!(pulled.fetched_bytes, "notes of c1".len() as u64);
    let path = fixture.catalog.resolve(&model("hf:org/repo")).unwrap();
    assert!(fs::read(path.argument).unwrap() == fs::read(&copy).unwrap());

    let mut wrong = fs::read(&copy).unwrap();
    wrong[0] ^= 1;
    fs::write(dir.path().join("wrong"), wrong).unwrap();
    for missing in ["wrong", "missing"] {
        *fixture.hub.copy.lock().unwrap() = Some(dir.path().join(missing));
        let pulled = fixture.pull(&format!("hf:org/{missing}2")).await.unwrap();
        assert_eq!(pulled.fetched_bytes, pulled.model.size_bytes);
    }
}

#[tokio::test]
async fn others_wait_in_order_while_two_models_are_transferred() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.hub.permits.forget_permits(usize::MAX);
    let mut jobs = Vec::new();
    for (name, expected) in [
        ("hf:org/a", "fetching"),
        ("hf:org/b", "fetching"),
        ("hf:org/c", "at position 1 of the queue"),
        ("hf:org/d", "at position 2 of the queue"),
    ] {
        let job = fixture.start(name, None);
        let mut events = Box::pin(job.events());
        let is_expected = |event: &JobEvent| matches!(event, JobEvent::Narration(n) if n.message.contains(expected));
        while !is_expected(&events.next().await.unwrap()) {}
        jobs.push(job);
    }
    jobs[0].cancel().await;
    let mut events = Box::pin(jobs[3].events());
    let is_next = |event: &JobEvent| matches!(event, JobEvent::Narration(n) if n.message.contains("position 1"));
    while !is_next(&events.next().await.unwrap()) {}
    fixture.hub.permits.add_permits(6);
    for job in &jobs[1..] {
        result(job).await.unwrap();
    }
    let order: Vec<_> = fixture.listed();
    assert_eq!(order, ["hf:org/b:Q8_0", "hf:org/c:Q8_0", "hf:org/d:Q8_0"]);
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_download_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.hub.permits.forget_permits(usize::MAX);
    let [leaver, other] = [(); 2].map(|()| fixture.start("hf:org/repo", None));
    assert_ne!(leaver.id(), other.id());
    leaver.cancel().await;
    assert_eq!(leaver.status().state, JobState::Cancelled);
    fixture.hub.permits.add_permits(2);
    result(&other).await.unwrap();
    assert_eq!(fixture.hub.fetched().len(), 2, "one download");
}
