use std::io::{IsTerminal as _, Write as _};

use diagnostics::{Diagnostic, FatalLine, escape};

/// Writes the error that ends the process to standard error: message and hint for the user and,
/// unless standard error is a terminal, a [`FatalLine`] for the process that started this one.
pub fn report_fatal(error: Diagnostic) {
    let mut stderr = std::io::stderr();
    let hint = error
        .hint
        .as_deref()
        .map_or(String::new(), |hint| format!("\nhint: {}\n", escape(hint)));
    let mut text = format!("error: {}\n{hint}", escape(&error.message));
    if !stderr.is_terminal()
        && let Ok(line) = serde_json::to_string(&FatalLine { fatal: error })
    {
        text.push_str(&line);
        text.push('\n');
    }
    // Without standard error there is nowhere to report to.
    let _ = stderr.write_all(text.as_bytes());
}
