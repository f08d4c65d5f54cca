use diagnostics::Diagnostic;

/// Returns the message of an error with its hint: most clients show nothing else.
pub(crate) fn shown_message(error: &Diagnostic) -> String {
    match &error.hint {
        Some(hint) => format!("{}; {hint}", error.message),
        None => error.message.clone(),
    }
}
