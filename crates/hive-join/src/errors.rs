//! The errors of this crate.

use std::{io, path::Path};

use diagnostics::{Code, Diagnostic, excerpt};
use input_validation::{NodeName, NodeUrl};

/// Secrets would be readable by others.
pub(crate) fn unencrypted(queen: &NodeUrl) -> Diagnostic {
    let https = queen.as_str().replacen("http://", "https://", 1);
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("the connection to {queen} would not be encrypted"),
    )
    .hint(format!(
        "use `--queen {https}`; `--allow-unencrypted` permits it in a network that encrypts \
         everything itself"
    ))
}

pub(crate) fn invitation_unreadable(file: &Path, error: &io::Error) -> Diagnostic {
    let file = excerpt(&file.display().to_string(), 200);
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("cannot read the invitation in {file}: {error}"),
    )
    .hint("`rbee-keeper node invite NAME --to FILE` writes one on the machine of the queen")
}

/// The queen refused the invitation, or cannot be reached.
pub(crate) fn not_joined(queen: &NodeUrl, reason: Diagnostic) -> Diagnostic {
    let message = format!("this machine did not join: {}", reason.message);
    let unreachable = reason.code == Code::QueenUnreachable && reason.hint.is_none();
    let error = Diagnostic { message, ..reason };
    if unreachable {
        return error.hint(format!(
            "check that the queen runs and that this machine can reach {queen}; for other machines \
             it must be started with `--bind ADDRESS --api-key-file FILE`"
        ));
    }
    error
}

pub(crate) fn no_token_sent(queen: &NodeUrl) -> Diagnostic {
    Diagnostic::new(
        Code::QueenUnreachable,
        format!("the queen at {queen} sent no token"),
    )
}

/// The queen does not know the token of this node any more.
pub(crate) fn removed(node: &NodeName, queen: &NodeUrl) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidApiKey,
        format!("the queen at {queen} refuses this machine: node {node} was removed"),
    )
    .hint(format!(
        "to join again, use a new invitation (`rbee-keeper node invite {node}` on the machine of the \
         queen) with `rbee-hive join`; `rbee-hive leave` forgets the queen"
    ))
}

pub(crate) fn token_missing(error: Diagnostic) -> Diagnostic {
    error.hint("join again with a new invitation: `rbee-hive join`")
}
