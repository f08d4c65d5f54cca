use std::{fmt::Display, future::Future, time::Duration};

use tokio::time::{Instant, interval, timeout};

/// Waits for a condition: calls `check` 50 times a second until it returns `Ok`. Panics with
/// its last error after `limit`.
pub async fn eventually<T, E: Display, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    mut check: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    let mut tick = interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        match check().await {
            Ok(value) => return value,
            Err(e) if Instant::now() >= end => panic!("not within {limit:?}: {e}"),
            Err(_) => {}
        }
    }
}

/// Awaits `future`. Panics with `what` after `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}
