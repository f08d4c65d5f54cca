use std::fs;

use diagnostics::Code;
use sim::files::{Content, Served};

use crate::support::{CONTENT, Case, MIB};

/// Cancels a transfer after about half of the bytes.
async fn interrupted(case: &Case) {
    case.server.limit_rate(20 * MIB);
    let half = CONTENT.size() / 2;
    let error = case.fetch_until(|p| p.done > half).await.unwrap_err();
    assert_eq!(error.code, Code::Cancelled);
    assert_eq!(case.files(), ["model.gguf.part", "model.gguf.part.state"]);
}

#[tokio::test]
async fn a_cancelled_transfer_is_continued() {
    let case = Case::new(Served::on_hub(CONTENT)).await;
    interrupted(&case).await;
    let fetched = case.fetch().await.unwrap();
    case.expect(CONTENT, fetched);
    assert!(
        fetched.received <= CONTENT.size() / 2,
        "{}",
        fetched.received
    );
    let twice = case.server.served() - CONTENT.size();
    assert!(twice < CONTENT.size() / 10, "{twice} bytes twice");
}

#[tokio::test]
async fn what_was_synced_before_a_loss_of_power_is_continued() {
    let case = Case::new(Served::new(CONTENT)).await;
    interrupted(&case).await;
    let state = case.dir.path().join("model.gguf.part.state");
    let text = fs::read_to_string(&state).unwrap();
    let (head, _) = text.split_once('\n').unwrap();
    let mut head: serde_json::Value = serde_json::from_str(head).unwrap();
    head["boot"] = "another".into();
    head["synced"] = serde_json::json!([[0, 1000]]);
    // What was not synced is lost.
    let part = case.dir.path().join("model.gguf.part");
    fs::write(&part, CONTENT.read(0..1000)).unwrap();
    fs::OpenOptions::new()
        .write(true)
        .open(&part)
        .unwrap()
        .set_len(CONTENT.size())
        .unwrap();
    let (_, lines) = text.split_once('\n').unwrap();
    fs::write(&state, format!("{head}\n{lines}")).unwrap();
    let before = case.server.requests().len();
    case.fetch_all(CONTENT).await;
    assert_eq!(case.served_since(before), CONTENT.size() - 1000);
}

#[tokio::test]
async fn a_damaged_journal_starts_over() {
    let case = Case::new(Served::new(CONTENT)).await;
    interrupted(&case).await;
    fs::write(
        case.dir.path().join("model.gguf.part.state"),
        "{\"version\":1,",
    )
    .unwrap();
    let before = case.server.requests().len();
    case.fetch_all(CONTENT).await;
    assert_eq!(case.served_since(before), CONTENT.size());
}

#[tokio::test]
async fn damaged_bytes_are_found_by_the_hash() {
    let case = Case::new(Served::new(CONTENT)).await;
    interrupted(&case).await;
    let part = fs::OpenOptions::new()
        .write(true)
        .open(case.dir.path().join("model.gguf.part"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&part, b"damaged", 10).unwrap();
    case.fetch_all(CONTENT).await;
}

#[tokio::test]
async fn bytes_of_another_version_are_not_used() {
    let case = Case::unknown(Served::new(CONTENT)).await;
    interrupted(&case).await;
    let new = Content::new(8, CONTENT.size());
    let etag = Some("v2".to_owned());
    case.server.put(
        "/model.gguf",
        Served {
            etag,
            ..Served::new(new)
        },
    );
    case.fetch_all(new).await;
    // A shorter version, which has no byte at the place where the transfer would continue.
    let case = Case::unknown(Served::new(CONTENT)).await;
    interrupted(&case).await;
    let short = Content::new(8, 10);
    case.server.put("/model.gguf", Served::new(short));
    case.fetch_all(short).await;
}

#[tokio::test]
async fn a_version_that_is_not_known_is_not_continued() {
    let served = Served {
        etag: None,
        ..Served::new(CONTENT)
    };
    let case = Case::unknown(served).await;
    case.server.limit_rate(20 * MIB);
    case.fetch_until(|p| p.done > MIB).await.unwrap_err();
    let before = case.server.requests().len();
    case.fetch_all(CONTENT).await;
    assert_eq!(case.served_since(before), CONTENT.size());
}

#[tokio::test]
async fn a_complete_partial_file_of_known_version_is_published() {
    let case = Case::unknown(Served::on_hub(CONTENT)).await;
    interrupted(&case).await;
    let part = case.dir.path().join("model.gguf.part");
    fs::write(part, CONTENT.read(0..CONTENT.size())).unwrap();
    let state = case.dir.path().join("model.gguf.part.state");
    let text = fs::read_to_string(&state).unwrap();
    fs::write(state, format!("{text}[0,{}]\n", CONTENT.size())).unwrap();
    let before = case.server.requests().len();
    case.fetch_all(CONTENT).await;
    // The headers of one byte tell the version; the client may close before it is sent.
    assert!(case.served_since(before) <= 1);
}

#[tokio::test]
async fn two_transfers_of_a_file_make_one() {
    let case = Case::new(Served::on_hub(CONTENT)).await;
    case.server.limit_rate(20 * MIB);
    let seen = std::sync::Mutex::new(Vec::new());
    let waits = async {
        // The first one has begun when bytes were served.
        while case.server.served() == 0 {
            tokio::task::yield_now().await;
        }
        case.fetch_until(|p| {
            seen.lock().unwrap().push(p.done);
            false
        })
        .await
    };
    let (first, second) = tokio::join!(case.fetch(), waits);
    case.expect(CONTENT, first.unwrap());
    case.expect(CONTENT, second.unwrap());
    assert_eq!(case.server.served(), CONTENT.size());
    let seen = seen.into_inner().unwrap();
    assert!(
        seen.iter().any(|done| (1..CONTENT.size()).contains(done)),
        "{seen:?}"
    );
    assert_eq!(seen.last(), Some(&CONTENT.size()));
}

#[tokio::test]
async fn a_waiting_transfer_takes_over_when_the_other_is_cancelled() {
    let case = Case::new(Served::on_hub(CONTENT)).await;
    case.server.limit_rate(20 * MIB);
    let waits = async {
        while case.server.served() == 0 {
            tokio::task::yield_now().await;
        }
        case.fetch().await
    };
    let cancelled = case.fetch_until(|p| p.done > CONTENT.size() / 2);
    let (first, second) = tokio::join!(cancelled, waits);
    assert_eq!(first.unwrap_err().code, Code::Cancelled);
    case.expect(CONTENT, second.unwrap());
    assert!(case.server.served() < CONTENT.size() * 11 / 10);
}
