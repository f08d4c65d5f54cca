use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Sends `tracing` to standard error. `filter` is a level or a filter as
/// `tracing-subscriber` reads it (`info,queen_rbee=debug`); one that cannot be read counts
/// as `info`.
pub fn init_logging(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // A second call in one process (tests) keeps the first.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // A line that cannot be written is lost; reporting it there would panic.
        .log_internal_errors(false)
        .try_init();
}
