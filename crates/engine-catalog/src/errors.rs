//! All errors of this crate, each with its hint.

use std::{io, path::Path};

use diagnostics::{Code, Diagnostic, excerpt};

/// Longest reason of the parser that is shown, in characters.
const REASON_CHARS: usize = 300;

fn show(path: &Path) -> String {
    diagnostics::escape(&path.to_string_lossy())
}

pub(crate) fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::storage(format!("cannot read {}: {error}", show(path)), error)
}

pub(crate) fn invalid(path: &Path, problem: &str) -> Diagnostic {
    let message = format!(
        "{} describes no engine: {}",
        show(path),
        excerpt(problem, REASON_CHARS)
    );
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("correct the file; the section \"Other engines\" of the README has its keys")
}

pub(crate) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Diagnostic {
    let line = error.span().map(|span| {
        let before = text.get(..span.start).unwrap_or_default();
        before.matches('\n').count() + 1
    });
    let reason = error.message();
    match line {
        Some(line) => invalid(path, &format!("line {line}: {reason}")),
        None => invalid(path, reason),
    }
}

pub(crate) fn world_writable(path: &Path) -> Diagnostic {
    let message = format!("everybody may write {}, and it names a program", show(path));
    Diagnostic::new(Code::ConfigInvalid, message).hint(format!(
        "take the permission away with `chmod o-w {}`",
        show(path)
    ))
}

pub(crate) fn reserved(path: &Path, name: &str) -> Diagnostic {
    let message = format!("{}: an engine cannot have the name {name}", show(path));
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("rename the file; its name is that of the engine")
}

pub(crate) fn bad_name(path: &Path, error: &Diagnostic) -> Diagnostic {
    let message = format!("{}: {}", show(path), error.message);
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("rename the file; its name is that of the engine")
}
