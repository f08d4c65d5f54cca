//! Shows what a queen that is being stopped waits for.

use std::{io::IsTerminal as _, pin::pin, time::Duration};

use diagnostics::Narration;
use queen_contract::RequestCounts;
use queen_lifecycle::{DRAIN_SECONDS, QueenLifecycle};
use tokio::time::{Instant, sleep};

use crate::render::Screen;

/// Time between two looks at the queen.
const POLL: Duration = Duration::from_millis(500);
/// A stop without running requests is shown after this time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Awaits `stopping`, and narrates meanwhile what the queen waits for: on a terminal whenever it
/// changes, elsewhere once.
pub(crate) async fn narrated<T>(
    lifecycle: &QueenLifecycle,
    drain_seconds: Option<u64>,
    screen: &mut Screen,
    stopping: impl Future<Output = T>,
) -> T {
    let mut stopping = pin!(stopping);
    tokio::select! {
        biased;
        stopped = &mut stopping => return stopped,
        () = narrate(lifecycle, drain_seconds.unwrap_or(DRAIN_SECONDS), screen) => {}
    }
    stopping.await
}

async fn narrate(lifecycle: &QueenLifecycle, drain_seconds: u64, screen: &mut Screen) {
    let started = Instant::now();
    let Ok(Some(queen)) = lifecycle.find().await else {
        return;
    };
    let once = !std::io::stderr().is_terminal();
    let mut shown: Option<String> = None;
    while let Ok(status) = queen.client.status().await {
        let sentence = waits_for(&status.requests, drain_seconds);
        let sentence = sentence.or_else(|| {
            let late = shown.is_some() || started.elapsed() >= PATIENCE;
            late.then(|| "waiting for the workers and the hive to exit".to_owned())
        });
        if let Some(sentence) = sentence.filter(|new| shown.as_ref() != Some(new)) {
            let narration = Narration::info("keeper", "stop", &sentence);
            if screen.narrate(&narration).await.is_err() || once {
                return;
            }
            shown = Some(sentence);
        }
        sleep(POLL).await;
    }
}

/// Returns what the queen waits for, if it waits for requests.
fn waits_for(requests: &RequestCounts, drain_seconds: u64) -> Option<String> {
    let requests = match requests.running + requests.waiting {
        0 => return None,
        1 => "1 request".to_owned(),
        n => format!("{n} requests"),
    };
    Some(format!(
        "waiting at most {drain_seconds} s for {requests} to finish (`--drain SECONDS` sets the \
         limit); Ctrl+C ends this command, not the queen's shutdown"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_queen_with_requests_waits() {
        let counts = |running, waiting| RequestCounts {
            running,
            waiting,
            completed: 9,
            failed: 9,
            cancelled: 9,
        };
        assert_eq!(waits_for(&counts(0, 0), 30), None);
        let one = waits_for(&counts(1, 0), 30).unwrap();
        assert!(one.starts_with("waiting at most 30 s for 1 request to finish"));
        let several = waits_for(&counts(1, 2), 5).unwrap();
        assert!(several.starts_with("waiting at most 5 s for 3 requests to finish"));
    }
}
