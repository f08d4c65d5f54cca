use std::time::{Duration, Instant};

use diagnostics::Code;
use sim::files::{Content, Fault, Served};

use crate::support::{CONTENT, Case, MIB};

fn status(status: u16) -> Fault {
    Fault::Status {
        status,
        retry_after: None,
    }
}

#[tokio::test]
async fn cut_bodies_are_continued_and_nothing_is_received_twice() {
    let case = Case::new(Served::new(CONTENT)).await;
    case.server
        .fault(|asked| (asked.number < 20).then_some(Fault::Cut(100_000)));
    case.fetch_all(CONTENT).await;
    assert_eq!(case.server.served(), CONTENT.size());
    assert!(case.server.requests().len() > 20);
}

#[tokio::test]
async fn errors_of_the_server_are_followed_by_six_attempts() {
    let case = Case::new(Served::new(CONTENT)).await;
    case.server
        .fault(|asked| (asked.number < 6).then(|| status(502)));
    case.fetch_all(CONTENT).await;
    let case = Case::new(Served::new(CONTENT)).await;
    case.server.fault(|_| Some(status(502)));
    let error = case.fetch_error(Code::DownloadFailed).await;
    assert!(error.message.contains("status 502"), "{error}");
    assert_eq!(case.server.requests().len(), 7);
}

#[tokio::test]
async fn bytes_allow_new_attempts() {
    let case = Case::new(Served::new(CONTENT)).await;
    // Far more than six failures, each after some bytes.
    case.server.fault(|asked| {
        let number = asked.number;
        (number < 60).then(|| {
            if number % 2 == 0 {
                Fault::Cut(50_000)
            } else {
                status(503)
            }
        })
    });
    case.fetch_all(CONTENT).await;
}

#[tokio::test]
async fn a_server_that_is_busy_gets_the_time_it_asks_for() {
    let case = Case::new(Served::new(Content::new(1, 1000))).await;
    case.server.fault(|asked| {
        (asked.number == 0).then(|| Fault::Status {
            status: 429,
            retry_after: Some("1".to_owned()),
        })
    });
    let begun = Instant::now();
    case.fetch_all(Content::new(1, 1000)).await;
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_stall_is_continued_and_told_if_it_persists() {
    let case = Case::new(Served::new(CONTENT)).await;
    case.server
        .fault(|asked| (asked.number < 9).then_some(Fault::Stall(100_000)));
    case.fetch_all(CONTENT).await;
    let mut case = Case::new(Served::new(CONTENT)).await;
    case.settings.stall = Duration::from_millis(20);
    case.server
        .fault(|asked| Some(Fault::Stall(if asked.number == 0 { 100_000 } else { 0 })));
    case.fetch_error(Code::DownloadStalled).await;
    assert!(case.files().contains(&"model.gguf.part".to_owned()));
}

#[tokio::test]
async fn wrong_ranges_and_lengths_do_not_damage_the_file() {
    for fault in [
        Fault::ContentRange(format!("bytes 5-99/{}", CONTENT.size())),
        Fault::ContentRange("bytes 0-99/100".to_owned()),
        Fault::ContentRange("nonsense".to_owned()),
        Fault::ShortLength(1000),
        Fault::IgnoreRange,
    ] {
        let case = Case::new(Served::new(CONTENT)).await;
        let sent = fault.clone();
        case.server
            .fault(move |asked| (1..5).contains(&asked.number).then(|| sent.clone()));
        case.fetch_all(CONTENT).await;
        let case = Case::new(Served::new(CONTENT)).await;
        if matches!(fault, Fault::ContentRange(_)) {
            case.server.fault(move |_| Some(fault.clone()));
            case.fetch_error(Code::DownloadFailed).await;
        }
    }
}

#[tokio::test]
async fn another_size_than_expected_is_refused() {
    let mut case = Case::new(Served::new(CONTENT)).await;
    case.file.size = Some(CONTENT.size() + 1);
    let error = case.fetch_error(Code::ChecksumMismatch).await;
    let found = CONTENT.size().to_string();
    assert!(error.message.contains(&found), "{error}");
    assert_eq!(case.server.requests().len(), 3);
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let case = Case::new(Served::new(CONTENT)).await;
    case.server
        .fault(|_| Some(Fault::ContentEncoding("gzip".to_owned())));
    case.fetch_error(Code::DownloadFailed).await;
    assert_eq!(case.server.requests().len(), 1);
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let case = Case::new(Served::new(CONTENT)).await;
    case.server.fault(|_| Some(Fault::Headers(4 << 20)));
    case.fetch_error(Code::DownloadFailed).await;
}

#[tokio::test]
async fn a_wrong_hash_is_fetched_again_up_to_three_times_in_all() {
    let content = Content::new(4, MIB / 2);
    let case = Case::new(Served::new(content)).await;
    case.server
        .fault(|asked| (asked.number < 2).then_some(Fault::Flip(100_000)));
    case.fetch_all(content).await;
    assert_eq!(case.server.requests().len(), 3);
    let case = Case::new(Served::new(content)).await;
    case.server.fault(|_| Some(Fault::Flip(100_000)));
    case.fetch_error(Code::ChecksumMismatch).await;
    assert_eq!(case.server.requests().len(), 3);
    assert!(case.files().is_empty(), "no wrong byte is kept");
}

#[tokio::test]
async fn a_file_that_changes_during_the_transfer_is_fetched_anew() {
    let case = Case::unknown(Served::new(CONTENT)).await;
    let old = Content::new(9, CONTENT.size());
    case.server
        .fault(move |asked| (asked.number == 0).then(|| Fault::Version("v0".to_owned(), old)));
    case.fetch_all(CONTENT).await;
    // Another size, and no ETag of the hub that would tell.
    let case = Case::unknown(Served::new(CONTENT)).await;
    let old = Content::new(9, 2 * CONTENT.size());
    case.server
        .fault(move |asked| (asked.number == 0).then(|| Fault::Version("v1".to_owned(), old)));
    case.fetch_all(CONTENT).await;
}

#[tokio::test]
async fn a_file_that_always_changes_is_a_failure() {
    let case = Case::unknown(Served::new(CONTENT)).await;
    case.server.fault(|asked| {
        let etag = format!("v{}", asked.number);
        Some(Fault::Version(etag, CONTENT))
    });
    let error = case.fetch_error(Code::DownloadFailed).await;
    assert!(error.message.contains("changed several times"), "{error}");
}
