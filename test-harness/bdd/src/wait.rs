use std::{fmt::Display, future::Future, time::Duration};

use tokio::time::{Instant, interval, timeout};

/// Asks again and again, 50 times a second, until `ask` is `Ok`; panics with its last
/// `Err` when `limit` is over. This is a wait for a condition, not a retry of a test.
pub async fn eventually<T, E: Display, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    let mut tick = interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        match ask().await {
            Ok(value) => return value,
            Err(e) if Instant::now() >= end => panic!("not within {limit:?}: {e}"),
            Err(_) => {}
        }
    }
}

/// The future's value; panics when it takes longer than `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}
