//! Transfers in processes of their own: this program starts itself as one that fetches.
#![allow(
    clippy::unwrap_used,
    reason = "tests without the harness that clippy knows"
)]

use std::{
    env, fs,
    hash::{BuildHasher as _, RandomState},
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
};

use file_transfer::{Downloader, RemoteFile, TransferSettings};
use libtest_mimic::{Arguments, Trial};
use sim::files::{Content, FileServer, Served};
use tokio_util::sync::CancellationToken;

/// Set for the process that fetches: URL and target.
const URL: &str = "FILE_TRANSFER_TEST_URL";
const TARGET: &str = "FILE_TRANSFER_TEST_TARGET";

const CONTENT: Content = Content::new(1, 200_000_000);
const KILLS: u64 = 6;

fn main() -> ExitCode {
    let runtime = Arc::new(tokio::runtime::Runtime::new().unwrap());
    if let (Ok(url), Ok(target)) = (env::var(URL), env::var(TARGET)) {
        return runtime.block_on(transfer(url, Path::new(&target)));
    }
    let other = runtime.clone();
    let trials = vec![
        Trial::test("killed_transfers_are_continued", move || {
            runtime.block_on(killed_transfers_are_continued());
            Ok(())
        }),
        Trial::test("the_proxy_of_the_environment_is_used", move || {
            other.block_on(the_proxy_of_the_environment_is_used());
            Ok(())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

async fn transfer(url: String, target: &Path) -> ExitCode {
    let settings = TransferSettings {
        reserve_bytes: 0,
        ..TransferSettings::default()
    };
    let file = RemoteFile {
        url,
        bearer: None,
        size: None,
        sha256: None,
    };
    let downloader = Downloader::new(settings).unwrap();
    let cancel = CancellationToken::new();
    let fetched = downloader.fetch(&file, target, &|_| {}, &cancel).await;
    match fetched {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn killed_transfers_are_continued() {
    let server = FileServer::start().await.unwrap();
    let url = server.put("/model.gguf", Served::on_hub(CONTENT));
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("model.gguf");
    let start = || {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(URL, &url).env(TARGET, &target).spawn().unwrap()
    };
    server.limit_rate(100_000_000);
    for number in 0..KILLS {
        let mut process = start();
        let most = CONTENT.size() / (KILLS + 1);
        let bytes = RandomState::new().hash_one(number) % most;
        let before = server.served();
        while server.served() < before + bytes && process.try_wait().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(!target.exists());
    }
    server.limit_rate(u64::MAX);
    let mut last = start();
    let status = tokio::task::spawn_blocking(move || last.wait())
        .await
        .unwrap();
    assert!(status.unwrap().success());
    assert!(fs::read(&target).unwrap() == CONTENT.read(0..CONTENT.size()));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let served = server.served() as f64 / CONTENT.size() as f64;
    assert!(
        served <= 1.05,
        "{served} bytes served for each byte of the file"
    );
}

async fn the_proxy_of_the_environment_is_used() {
    let proxy = FileServer::start().await.unwrap();
    let content = Content::new(1, 1000);
    proxy.put("/model.gguf", Served::new(content));
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("model.gguf");
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .env(URL, "http://files.invalid/model.gguf")
        .env(TARGET, &target)
        .env("HTTP_PROXY", proxy.origin())
        .env("http_proxy", proxy.origin())
        .env_remove("NO_PROXY")
        .env_remove("no_proxy");
    let status = tokio::task::spawn_blocking(move || command.status())
        .await
        .unwrap();
    assert!(status.unwrap().success());
    assert!(fs::read(&target).unwrap() == content.read(0..1000));
}
