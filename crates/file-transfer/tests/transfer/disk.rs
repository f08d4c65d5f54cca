use std::{fs, os::unix::fs::PermissionsExt as _};

use diagnostics::Code;
use sim::files::Served;

use crate::support::{CONTENT, Case};

#[tokio::test]
async fn too_little_space_is_told_with_both_numbers() {
    let mut case = Case::new(Served::new(CONTENT)).await;
    case.settings.reserve_bytes = 1 << 60;
    let error = case.fetch_error(Code::InsufficientDisk).await;
    let details = error.details.unwrap();
    assert_eq!(details["need_bytes"], (1_u64 << 60) + CONTENT.size());
    assert!(details["free_bytes"].as_u64().unwrap() < 1 << 60);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_is_told() {
    let case = Case::new(Served::new(CONTENT)).await;
    std::os::unix::fs::symlink("/dev/full", case.dir.path().join("model.gguf.part")).unwrap();
    case.fetch_error(Code::DiskFull).await;
}

#[tokio::test]
async fn missing_directories_are_created() {
    let case = Case::new(Served::new(CONTENT)).await;
    let target = case.dir.path().join("a/b/model.gguf");
    let cancel = tokio_util::sync::CancellationToken::new();
    let downloader = case.downloader();
    downloader
        .fetch(&case.file, &target, &|_| {}, &cancel)
        .await
        .unwrap();
    assert_eq!(fs::metadata(target).unwrap().len(), CONTENT.size());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_told() {
    let case = Case::new(Served::new(CONTENT)).await;
    fs::set_permissions(case.dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let is_root = fs::write(case.dir.path().join("probe"), "").is_ok();
    if !is_root {
        let error = case.fetch_error(Code::StateUnusable).await;
        assert!(error.message.contains("model.gguf.part"), "{error}");
    }
    fs::set_permissions(case.dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    // A file in place of the directory fails for every user.
    let file = case.dir.path().join("file");
    fs::write(&file, "").unwrap();
    let cancel = tokio_util::sync::CancellationToken::new();
    let downloader = case.downloader();
    let target = file.join("model.gguf");
    let error = downloader
        .fetch(&case.file, &target, &|_| {}, &cancel)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::StateUnusable);
    assert!(case.server.requests().is_empty());
}

#[tokio::test]
async fn an_existing_file_is_verified_and_never_overwritten() {
    let case = Case::new(Served::new(CONTENT)).await;
    fs::write(case.target(), CONTENT.read(0..CONTENT.size())).unwrap();
    case.fetch_all(CONTENT).await;
    fs::write(case.target(), "other").unwrap();
    let error = case.fetch().await.unwrap_err();
    assert_eq!(error.code, Code::StateUnusable);
    assert!(error.hint.unwrap().contains("remove"));
    assert_eq!(fs::read_to_string(case.target()).unwrap(), "other");
    assert!(case.server.requests().is_empty());
}
