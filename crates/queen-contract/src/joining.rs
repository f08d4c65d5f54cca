//! Machines that connect to the queen: invitations, and what such a machine sends.

use std::{fmt, num::NonZeroU16, str::FromStr};

use diagnostics::{Code, Diagnostic};
use input_validation::{CertificateFingerprint, NodeName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::NodeSecret;

/// How long an invitation is valid, in seconds, unless something else is requested.
pub const DEFAULT_EXPIRY_SECONDS: u32 = 3600;
/// Longest validity of an invitation, in seconds: 30 days.
pub const MAX_EXPIRY_SECONDS: u32 = 30 * 24 * 3600;

/// Body of `POST /v1/invitations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InviteNode {
    /// Name of the node that the machine becomes.
    pub name: NodeName,
    /// How long the invitation is valid. Default: one hour.
    #[serde(default = "default_expiry")]
    #[schema(minimum = 1, maximum = 2_592_000)]
    pub expires_seconds: u32,
}

const fn default_expiry() -> u32 {
    DEFAULT_EXPIRY_SECONDS
}

/// Invitation of a machine, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// Name of the node that the machine becomes.
    pub name: NodeName,
    /// Six hexadecimal characters that identify the secret without revealing it.
    #[schema(pattern = "^[0-9a-f]{6}$")]
    pub fingerprint: String,
    /// Time at which it was created.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Time from which on it is refused.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// Response of `GET /v1/invitations`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationList {
    /// Invitations that can be used, in order of their names.
    pub invitations: Vec<Invitation>,
}

/// Response of `POST /v1/invitations`: the only one that contains the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewInvitation {
    /// The invitation.
    #[serde(flatten)]
    pub invitation: Invitation,
    /// Text for the file that `rbee-hive join` reads.
    pub token: NodeSecret,
    /// Base URLs under which other machines may reach the queen; empty if it listens on the
    /// loopback interface only.
    pub queen_urls: Vec<String>,
}

/// What the owner of a machine gets: the secret of an invitation, and the fingerprint of the
/// queen's certificate. `Debug` does not show the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct InvitationToken {
    /// The secret: 64 hexadecimal characters.
    pub secret: String,
    /// Certificate by which the machine recognizes the queen.
    pub certificate: CertificateFingerprint,
}

const PREFIX: &str = "rbee-invitation";

impl fmt::Debug for InvitationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InvitationToken(certificate {})", self.certificate)
    }
}

impl InvitationToken {
    /// Returns the text that [`FromStr`] parses.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}.{}.{}", self.secret, self.certificate)
    }
}

impl FromStr for InvitationToken {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let is_secret = |text: &str| text.parse::<CertificateFingerprint>().is_ok();
        match parts[..] {
            [PREFIX, secret, certificate] if is_secret(secret) => Ok(Self {
                secret: secret.to_owned(),
                certificate: certificate.parse().map_err(|_| not_an_invitation())?,
            }),
            _ => Err(not_an_invitation()),
        }
    }
}

/// The text is not repeated: it may be a secret.
fn not_an_invitation() -> Diagnostic {
    Diagnostic::new(Code::ConfigInvalid, "the text is not an invitation").hint(
        "use the complete line that `rbee-keeper node invite NAME` prints on the machine of the \
         queen",
    )
}

/// Body of `POST /v1/join`, which a machine sends with an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinRequest {
    /// Version of the hive.
    pub version: String,
    /// Version of the hive's interface.
    pub api_version: u32,
    /// A random text that the machine sends again if it did not receive the response: only the
    /// machine that has used an invitation can repeat the call.
    pub attempt: NodeSecret,
}

/// Response of `POST /v1/join`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JoinResponse {
    /// Name of the node.
    pub name: NodeName,
    /// Token of the node, for everything that its hive and its workers send from now on.
    pub token: NodeSecret,
}

/// Query of `GET /v1/link`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LinkHello {
    /// Version of the hive.
    pub version: String,
    /// Version of the hive's interface.
    pub api_version: u32,
    /// Port of the node's loopback interface that leads to the queen.
    #[param(value_type = u16, minimum = 1)]
    pub queen_port: NonZeroU16,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> InvitationToken {
        InvitationToken {
            secret: "5e".repeat(32),
            certificate: "ab".repeat(32).parse().unwrap(),
        }
    }

    #[test]
    fn an_invitation_is_one_line_and_is_not_shown() {
        let text = token().to_text();
        assert_eq!(text.parse::<InvitationToken>().unwrap(), token());
        assert_eq!(
            format!(" {text}\n").parse::<InvitationToken>().unwrap(),
            token()
        );
        assert!(!format!("{:?}", token()).contains("5e5e"));
    }

    #[test]
    fn another_text_is_refused_without_repeating_it() {
        let text = token().to_text();
        for bad in [
            "",
            "secret",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}.x"),
        ] {
            let error = bad.parse::<InvitationToken>().unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid);
            assert!(!error.to_string().contains("5e5e"), "{error}");
        }
    }
}
