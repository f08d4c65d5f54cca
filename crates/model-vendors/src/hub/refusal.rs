//! What the hub refuses, and why: the reason is in the header `X-Error-Code`.

use diagnostics::{Diagnostic, excerpt};

use super::api::Repository;
use crate::{errors, http::Reply};

impl Repository<'_> {
    /// Turns a refusal into an error.
    pub(super) fn check(&self, reply: &Reply) -> Result<(), Diagnostic> {
        self.check_revision(reply, "")
    }

    /// Turns a refusal of a request for a revision into an error.
    pub(super) fn check_revision(&self, reply: &Reply, revision: &str) -> Result<(), Diagnostic> {
        if reply.status.is_success() {
            return Ok(());
        }
        let (name, status) = (self.name, reply.status.as_u16());
        let with_token = match self.token {
            Some(_) => "with an account that has access, and set `HF_TOKEN` to its token",
            None => "and set `HF_TOKEN` to a token of your account",
        };
        Err(match (reply.header("x-error-code"), status) {
            (Some("GatedRepo"), _) => errors::access_denied(
                format!("the repository {name} requires that its licence is accepted"),
                format!("accept the licence at {} {with_token}", self.page_url()),
            ),
            (Some("RepoNotFound"), _) => errors::not_found(
                &format!("the repository {name} does not exist, or it is private"),
                match self.token {
                    Some(_) => "check the reference; the token in `HF_TOKEN` may have no access",
                    None => "check the reference; for a private repository set `HF_TOKEN`",
                },
            ),
            (Some("RevisionNotFound"), _) => errors::not_found(
                &format!(
                    "the repository {name} has no revision `{}`",
                    excerpt(revision, 80)
                ),
                "check the part of the reference after `@`: a branch, a tag or a commit",
            ),
            (Some("EntryNotFound"), _) => errors::not_found(
                &format!("a file of the repository {name} does not exist"),
                "check the name of the file",
            ),
            (_, 401) if self.token.is_some() => errors::access_denied(
                format!("the hub does not accept the token for {name}"),
                "set `HF_TOKEN` to a valid token, or unset it".to_owned(),
            ),
            (_, 401 | 403) => errors::access_denied(
                format!("the hub denies access to {name}"),
                format!("accept the licence at {} {with_token}", self.page_url()),
            ),
            (_, 404) => errors::not_found(
                &format!("the hub has no repository {name}"),
                "check the reference and `HF_ENDPOINT`",
            ),
            _ => errors::unexpected_status(&self.page_url(), status),
        })
    }
}
