use diagnostics::Code;
use file_transfer::Downloader;
use sim::files::{Content, Fault, Served};
use tokio_util::sync::CancellationToken;

use crate::support::{CONTENT, Case, MIB};

#[tokio::test]
async fn a_file_is_fetched_in_parallel_ranges() {
    let case = Case::new(Served::new(CONTENT)).await;
    case.fetch_all(CONTENT).await;
    let requests = case.server.requests();
    assert!(requests.len() > 1);
    assert!(requests.iter().all(|r| r.status == 206));
    assert!(
        requests
            .iter()
            .all(|r| r.asked.headers["accept-encoding"] == "identity")
    );
    assert_eq!(case.server.served(), CONTENT.size());
}

#[tokio::test]
async fn sizes_around_zero_and_pieces_are_fetched() {
    for size in [0, 1, MIB - 1, MIB, MIB + 1] {
        let content = Content::new(2, size);
        Case::new(Served::new(content))
            .await
            .fetch_all(content)
            .await;
        Case::unknown(Served::new(content))
            .await
            .fetch_all(content)
            .await;
    }
}

#[tokio::test]
async fn a_server_without_ranges_is_read_by_one_connection() {
    for states_length in [true, false] {
        let served = Served {
            ranges: false,
            states_length,
            ..Served::new(CONTENT)
        };
        let case = Case::unknown(served.clone()).await;
        case.fetch_all(CONTENT).await;
        assert_eq!(case.server.requests().len(), 1);
        Case::new(served).await.fetch_all(CONTENT).await;
    }
}

#[tokio::test]
async fn a_cut_body_without_ranges_is_continued() {
    let served = Served {
        ranges: false,
        ..Served::new(CONTENT)
    };
    let case = Case::new(served).await;
    case.server
        .fault(|asked| (asked.number == 0).then_some(Fault::Cut(3 * MIB)));
    case.fetch_all(CONTENT).await;
    assert_eq!(case.server.requests().len(), 2);
}

#[tokio::test]
async fn a_body_of_unknown_length_and_version_is_not_continued() {
    let served = Served {
        ranges: false,
        states_length: false,
        etag: None,
        ..Served::new(CONTENT)
    };
    let case = Case::unknown(served).await;
    case.server.fault(|_| Some(Fault::Cut(3 * MIB)));
    case.fetch_error(Code::DownloadFailed).await;
    assert_eq!(case.server.requests().len(), 1);
}

#[tokio::test]
async fn an_endless_body_ends_at_the_known_size() {
    let case = Case::new(Served::new(CONTENT)).await;
    case.server.fault(|_| Some(Fault::Endless));
    case.fetch_all(CONTENT).await;
}

#[tokio::test]
async fn a_slow_range_is_divided_and_what_it_has_is_kept() {
    let mut case = Case::new(Served::new(CONTENT)).await;
    case.settings.stall = std::time::Duration::from_secs(60);
    // Alone, the first request would take 18 minutes.
    case.server
        .fault(|asked| (asked.number == 0).then_some(Fault::Rate(1000)));
    case.fetch_all(CONTENT).await;
    let slow = case.server.requests()[0].served;
    assert!(slow > 0);
    assert!(case.server.served() < CONTENT.size() + 100_000);
}

#[tokio::test]
async fn a_stalled_range_is_taken_over_before_its_time_limit() {
    let mut case = Case::new(Served::new(CONTENT)).await;
    case.settings.stall = std::time::Duration::from_secs(600);
    case.server
        .fault(|asked| (asked.number == 0).then_some(Fault::Stall(1000)));
    case.fetch_all(CONTENT).await;
}

#[tokio::test]
async fn clones_share_the_bandwidth() {
    let mut case = Case::new(Served::new(Content::new(3, MIB))).await;
    case.settings.bytes_per_second = Some(4 * MIB);
    let downloader = case.downloader();
    let begun = std::time::Instant::now();
    let fetch = |downloader: Downloader, name| {
        let (file, target) = (case.file.clone(), case.dir.path().join(name));
        async move {
            let cancel = CancellationToken::new();
            let fetched = downloader.fetch(&file, &target, &|_| {}, &cancel).await;
            assert_eq!(fetched.unwrap().size, MIB);
        }
    };
    tokio::join!(fetch(downloader.clone(), "a"), fetch(downloader, "b"));
    // A lower bound: 2 MiB at 4 MiB per second, less the burst.
    assert!(begun.elapsed().as_secs_f64() > 0.35);
}
