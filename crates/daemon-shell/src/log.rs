use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Sends `tracing` to standard error. `filter` is a level or a filter in the syntax of
/// `tracing-subscriber` (`info,queen_rbee=debug`). An invalid filter counts as `info`.
pub fn init_logging(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    // Fails on a second call in the same process, as in tests; the first one stays in effect.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // Reporting a line that cannot be written to standard error would panic there.
        .log_internal_errors(false)
        .try_init();
}
