//! Short runs of what `cargo xtask soak` does for long.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "test code fails by panicking"
)]

use std::path::PathBuf;

/// Where cargo puts binaries: the parent of the directory of this test.
fn bin_dir() -> PathBuf {
    std::env::var_os("RBEE_BIN_DIR").map_or_else(
        || {
            let mut dir = std::env::current_exe().unwrap();
            dir.pop();
            dir.pop();
            dir
        },
        PathBuf::from,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_of_a_link_under_load_lose_no_request_and_leave_nothing() {
    let report = soak::links::run(&bin_dir(), 5).await.unwrap();
    assert!(report.moved > 0 && report.failed > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_leave_a_machine_that_freezes() {
    soak::freeze::run(&bin_dir(), &["--link-silence", "3"])
        .await
        .unwrap();
}
