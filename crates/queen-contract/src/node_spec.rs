use std::num::NonZeroU16;

use input_validation::{
    BranchName, CertificateFingerprint, NodeUrl, RemoteDirectory, RepositoryUrl, SshHost, SshUser,
};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// How the queen reaches a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "link", rename_all = "snake_case")]
pub enum NodeSpec {
    /// The machine of the queen.
    Local,
    /// Another machine, through its SSH server.
    Ssh(SshNode),
    /// A hive that listens on an address that the queen can reach.
    Direct(DirectNode),
    /// A hive that connects to the queen, which cannot reach it.
    Joined,
}

/// Machine with an SSH server. What is absent is what the user's SSH configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshNode {
    /// Host name, address, or alias in the SSH configuration of the queen's user.
    pub host: SshHost,
    /// TCP port of the SSH server.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "port"
    )]
    #[schema(minimum = 1, nullable = false)]
    pub port: Option<u16>,
    /// User on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user: Option<SshUser>,
    /// Absolute path of a private key on the machine of the queen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub key_file: Option<String>,
    /// Directory of rbee on the node [default: `~/.rbee`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub directory: Option<RemoteDirectory>,
    /// Git repository of rbee, from which the programs are built on the node if those of the queen
    /// do not run there. Without it, such a node is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub repository: Option<RepositoryUrl>,
    /// Branch or tag of the repository [default: its default branch].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub branch: Option<BranchName>,
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    let port = Option::<NonZeroU16>::deserialize(deserializer)?;
    Ok(port.map(NonZeroU16::get))
}

/// Hive that is reached by its address. With `https`, one connection carries everything, and the
/// workers of the node reach the queen through it. With `http`, the queen connects to the ports of
/// the workers as well, and they to the queen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DirectNode {
    /// Base URL of the hive. The workers of the node have the same host.
    pub url: NodeUrl,
    /// Base URL under which the workers of the node reach the queen [default: the URL of the
    /// queen, if the hive is on the same machine].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub queen_url: Option<NodeUrl>,
    /// Certificate of the hive, required for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub certificate: Option<CertificateFingerprint>,
    /// Whether to send secrets to another machine without encryption. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_unencrypted: bool,
}
