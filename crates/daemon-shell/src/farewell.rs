use std::io::{IsTerminal as _, Write as _};

use diagnostics::{Diagnostic, FatalLine, escape};

/// The last words of a program that gives up, on standard error: for a person, and where no
/// person watches, as a [`FatalLine`] behind it for the program that started this one.
pub fn tell_failure(error: Diagnostic) {
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
    // Without a standard error there is nobody to tell.
    let _ = stderr.write_all(text.as_bytes());
}
