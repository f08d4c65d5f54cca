use std::{fs, path::Path};

use diagnostics::Code;
use hive_contract::{AliasRequest, FileState, PruneRequest};
use input_validation::{ModelAlias, ModelRef, WorkerId};
use state_files::Home;

use super::*;
use crate::testing::{Fixture, catalog_in, context, model};

fn worker() -> WorkerId {
    "w-0".parse().unwrap()
}

#[tokio::test]
async fn a_model_in_use_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.pull("hf:org/repo").await.unwrap();
    let in_use = vec![(model("hf:org/repo"), worker())];
    let canonical = model("hf:org/repo:Q8_0");
    let error = fixture.catalog.remove(&canonical, &in_use).unwrap_err();
    assert_eq!(error.code, Code::ModelInUse);
    assert_eq!(error.message, "hf:org/repo:Q8_0 is in use by w-0");
    assert!(error.hint.unwrap().contains("rbee-keeper worker stop w-0"));
    assert_eq!(
        error.details.unwrap()["workers"],
        serde_json::json!(["w-0"])
    );

    let removed = fixture.catalog.remove(&model("hf:org/repo"), &Vec::new());
    assert!(removed.unwrap().freed_bytes > 0);
    assert_eq!(fixture.listed(), [""; 0]);
    let left: Vec<_> = fs::read_dir(dir.path().join("models/hf"))
        .unwrap()
        .collect();
    assert_eq!(left.len(), 0);
    let again = fixture.catalog.remove(&canonical, &Vec::new()).unwrap_err();
    assert_eq!(again.code, Code::ModelNotFound);
    let error = fixture.catalog.remove(&model("builtin:haiku"), &Vec::new());
    assert_eq!(error.unwrap_err().code, Code::InvalidRequest);
}

#[tokio::test]
async fn damaged_files_are_found_and_only_they_are_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.pull("hf:org/repo").await.unwrap();
    let reference = model("hf:org/repo");
    let verify = || fixture.catalog.verify(&reference, &context()).unwrap();
    assert!(verify().intact);

    let path = fixture.catalog.resolve(&reference).unwrap().argument;
    let mut content = fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&path, content).unwrap();
    let found = verify();
    assert!(!found.intact);
    let damaged = found
        .files
        .iter()
        .find(|f| f.path == "sub/model.gguf")
        .unwrap();
    assert_eq!(damaged.state, FileState::Damaged);
    assert!(
        damaged
            .reason
            .as_ref()
            .unwrap()
            .starts_with("its SHA-256 is ")
    );
    let listed = fixture.catalog.list(&[]).unwrap();
    let problem = listed
        .into_iter()
        .find_map(|entry| entry.files?.problem)
        .unwrap();
    assert!(
        problem.starts_with("files are damaged or missing"),
        "{problem}"
    );

    assert!(fixture.pull("hf:org/repo").await.unwrap().fetched_bytes > 0);
    let fetched = fixture.hub.fetched();
    assert_eq!(fetched, ["sub/model.gguf", "notes.txt", "sub/model.gguf"]);
    assert!(verify().intact);

    fs::remove_file(&path).unwrap();
    assert_eq!(
        verify()
            .files
            .iter()
            .filter(|f| f.state == FileState::Missing)
            .count(),
        1
    );
    let cancelled = context();
    cancelled.cancel.cancel();
    let error = fixture.catalog.verify(&reference, &cancelled).unwrap_err();
    assert_eq!(error.code, Code::Cancelled);
}

#[tokio::test]
async fn the_longest_unused_models_are_pruned_first() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    for name in ["hf:org/a", "hf:org/b", "hf:org/c"] {
        fixture.pull(name).await.unwrap();
    }
    fixture
        .catalog
        .resolve_for_worker(&model("hf:org/a"))
        .unwrap();
    let size = fixture
        .catalog
        .describe(&model("hf:org/a"))
        .unwrap()
        .size_bytes;
    let request = PruneRequest {
        max_bytes: Some(2 * size),
        dry_run: true,
        ..PruneRequest::default()
    };
    let planned = fixture.catalog.prune(request, &Vec::new()).unwrap();
    let names = |response: &hive_contract::PruneResponse| -> Vec<String> {
        response
            .removed
            .iter()
            .map(|item| item.name.clone())
            .collect()
    };
    assert_eq!(names(&planned), ["hf:org/b:Q8_0"]);
    assert_eq!(fixture.listed().len(), 3);
    let request = PruneRequest {
        dry_run: false,
        ..request
    };
    let in_use = vec![(model("hf:org/b"), worker())];
    let pruned = fixture.catalog.prune(request, &in_use).unwrap();
    assert_eq!(names(&pruned), ["hf:org/c:Q8_0"]);
    assert_eq!(pruned.kept_bytes, 2 * size);
    assert_eq!(fixture.listed(), ["hf:org/a:Q8_0", "hf:org/b:Q8_0"]);
}

#[tokio::test]
async fn incomplete_downloads_are_removed_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    *fixture.hub.wrong_content.lock().unwrap() = Some(b"wrong".to_vec());
    fixture.pull("hf:org/repo").await.unwrap_err();
    *fixture.hub.wrong_content.lock().unwrap() = None;
    fixture.pull("hf:org/other").await.unwrap();
    let request = PruneRequest::default();
    assert_eq!(
        fixture.catalog.prune(request, &Vec::new()).unwrap().removed,
        []
    );
    let request = PruneRequest {
        partial: true,
        ..request
    };
    let removed = fixture.catalog.prune(request, &Vec::new()).unwrap().removed;
    assert_eq!(removed.len(), 1);
    assert!(removed[0].name.contains("/hf/org-repo-"), "{removed:?}");
    assert!(!Path::new(&removed[0].name).exists());
    assert_eq!(fixture.listed(), ["hf:org/other:Q8_0"]);
}

#[tokio::test]
async fn a_damaged_database_is_set_aside_and_rebuilt_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.pull("hf:org/repo").await.unwrap();
    let hub = std::sync::Arc::clone(&fixture.hub);
    drop(fixture);
    let database = Home::at(dir.path()).model_database();
    fs::write(&database, vec![7; 9000]).unwrap();
    let fixture = Fixture::with_hub(dir.path(), hub);
    let [notice] = fixture.catalog.notices() else {
        panic!("{:?}", fixture.catalog.notices());
    };
    let entries = fs::read_dir(dir.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside = names
        .into_iter()
        .find(|name| name.contains(".damaged-"))
        .unwrap();
    assert!(notice.contains(&aside), "{notice}");
    assert!(notice.contains("rebuilt with 1 models"), "{notice}");
    assert_eq!(fs::read(dir.path().join(aside)).unwrap(), vec![7; 9000]);
    assert_eq!(fixture.pull("hf:org/repo").await.unwrap().fetched_bytes, 0);
    assert_eq!(fixture.hub.fetched().len(), 2);
}

#[tokio::test]
async fn a_directory_that_was_removed_is_no_longer_listed() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.pull("hf:org/repo").await.unwrap();
    fs::remove_dir_all(dir.path().join("models/hf")).unwrap();
    let fixture = Fixture::with_hub(dir.path(), fixture.hub);
    assert_eq!(fixture.listed(), [""; 0]);
    let notice = &fixture.catalog.notices()[0];
    assert!(
        notice.starts_with("hf:org/repo:Q8_0 is no longer listed"),
        "{notice}"
    );
}

#[test]
fn aliases_are_set_replaced_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let home = Home::at(dir.path());
    let shipped: (ModelAlias, ModelRef) = ("smol".parse().unwrap(), model("hf:org/smol"));
    let (dirs, database) = (home.model_dirs(), home.model_database());
    let catalog = ModelCatalog::open(dirs, database, vec![shipped]).unwrap();
    let set = |name: &str, to: Option<&str>| {
        catalog.set_alias(&AliasRequest {
            name: name.parse().unwrap(),
            model: to.map(model),
        })
    };
    let all = || -> Vec<String> {
        let entries = catalog.aliases().unwrap().into_iter();
        entries
            .map(|e| format!("{} {} {}", e.name, e.model, e.shipped))
            .collect()
    };
    assert_eq!(all(), ["smol hf:org/smol true"]);
    set("mine:latest", Some("builtin:haiku")).unwrap();
    set("smol", Some("ollama:smol")).unwrap();
    assert_eq!(
        all(),
        ["mine builtin:haiku false", "smol ollama:smol false"]
    );
    set("smol", None).unwrap();
    assert_eq!(all(), ["mine builtin:haiku false", "smol hf:org/smol true"]);
    assert_eq!(set("smol", None).unwrap_err().code, Code::InvalidRequest);
    assert_eq!(set("none", None).unwrap_err().code, Code::NotFound);
    for name in ["haiku:q8_0", "mock:a", "ollama:a"] {
        let error = set(name, Some("hf:org/smol")).unwrap_err();
        assert_eq!(error.code, Code::InvalidModelRef, "{name}");
    }
}

#[tokio::test]
async fn a_backup_restores_aliases_and_a_wrong_file_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(dir.path());
    fixture.pull("hf:org/repo").await.unwrap();
    let alias = |to: Option<ModelRef>| AliasRequest {
        name: "mine".parse().unwrap(),
        model: to,
    };
    let catalog = &fixture.catalog;
    catalog
        .set_alias(&alias(Some(model("hf:org/repo"))))
        .unwrap();
    let copy = dir.path().join("copy.db");
    catalog.back_up(&copy).unwrap();
    catalog.set_alias(&alias(None)).unwrap();
    let wrong = dir.path().join("wrong");
    fs::write(&wrong, "not a database").unwrap();
    assert_eq!(
        catalog.restore(&wrong).unwrap_err().code,
        Code::StateUnusable
    );
    let missing = dir.path().join("missing/copy.db");
    assert_eq!(
        catalog.restore(&missing).unwrap_err().code,
        Code::InvalidRequest
    );
    assert_eq!(
        catalog.back_up(&missing).unwrap_err().code,
        Code::InvalidRequest
    );
    assert_eq!(catalog.aliases().unwrap(), []);
    catalog.restore(&copy).unwrap();
    assert_eq!(catalog.aliases().unwrap().len(), 1);
    assert_eq!(fixture.listed(), ["hf:org/repo:Q8_0"]);
}

#[test]
fn files_of_the_user_are_remembered_while_they_exist() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = catalog_in(dir.path());
    let source = catalog
        .resolve(&model("builtin:haiku@q8_0"))
        .unwrap()
        .argument;
    let path = dir.path().join("own.gguf");
    fs::copy(&source, &path).unwrap();
    let reference = model(&format!("file:{}", path.display()));
    let entry = |loaded: &[ModelRef]| {
        let list = catalog.list(loaded).unwrap();
        list.into_iter().find(|entry| entry.model == reference)
    };
    catalog.resolve(&reference).unwrap();
    assert_eq!(entry(&[]), None, "only what a worker loads is remembered");
    catalog.resolve_for_worker(&reference).unwrap();
    let listed = entry(&[]).unwrap();
    assert_eq!(listed.quantization, "Q8_0");
    assert!(listed.files.unwrap().last_used_at.is_some());

    // Replaced while a worker has it loaded.
    let loaded = [reference.clone()];
    let problem = |loaded: &[ModelRef]| entry(loaded).unwrap().files.unwrap().problem;
    assert_eq!(problem(&loaded), None);
    let other = dir.path().join("other.gguf");
    let f16 = catalog.resolve(&model("builtin:haiku")).unwrap().argument;
    fs::copy(f16, &other).unwrap();
    fs::rename(&other, &path).unwrap();
    let reason = problem(&loaded).unwrap();
    assert!(reason.starts_with("its file was replaced"), "{reason}");
    assert_eq!(problem(&[]), None, "no worker has it loaded");
    let verified = catalog.verify(&reference, &context()).unwrap();
    assert!(!verified.intact);
    catalog.resolve_for_worker(&reference).unwrap();
    assert_eq!(problem(&loaded), None);
    assert_eq!(entry(&[]).unwrap().quantization, "F16");

    catalog.remove(&reference, &Vec::new()).unwrap();
    assert!(path.exists(), "files of the user stay");
    assert_eq!(entry(&[]), None);
    catalog.resolve_for_worker(&reference).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(entry(&[]), None);
}
