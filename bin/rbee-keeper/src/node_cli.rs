use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use input_validation::{
    BranchName, CertificateFingerprint, HostKeyFingerprint, MacAddress, NodeUrl, RemoteDirectory,
    RepositoryUrl, SshHost, SshUser, whole_number,
};

use crate::{
    sleep_cli::{PowerArgs, SET_EXAMPLES, SLEEP_EXAMPLES, SleepArgs, WAKE_EXAMPLES},
    values::{LinesArg, NodeNameArg, parse, parse_expiry},
};

const ADD_EXAMPLES: &str = "\
Examples:
  rbee-keeper node add gpu-box
  rbee-keeper node add attic --host 192.0.2.7 --user me --key ~/.ssh/id_ed25519
  rbee-keeper node add shed --url http://127.0.0.1:9300 --hive-token-file ./token
  rbee-keeper node add barn --url https://192.0.2.9:9200 --certificate FINGERPRINT \\
    --hive-token-file ./token

Without `--host`, the name is the host or an alias in ~/.ssh/config.";

const INVITE_EXAMPLES: &str = "\
Examples:
  rbee-keeper node invite laptop --to ./invitation
  rbee-keeper node invite laptop --expires 10m

The other machine uses the invitation once, with `rbee-hive join`.";

const YIELD_EXAMPLES: &str = "\
Examples:
  rbee-keeper node yield gaming-pc --for 2h
  rbee-keeper node yield gaming-pc --never

Without this, a GPU is left to other programs while they use much of its memory, and used again
30 s after that ended.";

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Add a machine that runs workers; the connection is tested first
    #[command(after_help = ADD_EXAMPLES)]
    Add(Change),
    /// List the nodes
    List,
    /// Show a node
    Show(NodeNameArg),
    /// Change how a node is reached; options that are left out keep their value
    #[command(after_help = "Example:\n  rbee-keeper node update attic --host 192.0.2.8")]
    Update(Change),
    /// Remove a node; refused while workers run on it
    Remove {
        #[command(flatten)]
        node: NodeNameArg,
        /// Stop its workers first
        #[arg(long)]
        force: bool,
    },
    /// Invite a machine that the queen cannot reach to become a node
    #[command(after_help = INVITE_EXAMPLES)]
    Invite {
        #[command(flatten)]
        node: NodeNameArg,
        /// Refuse the invitation after this time, for example 30m, 2h or 7d
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_expiry)]
        expires: u32,
        /// Write the invitation to this new file instead of standard output
        #[arg(id = "invitation", long = "to", value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// List the invitations that can be used
    Invitations,
    /// Revoke the invitation for a name
    Uninvite(NodeNameArg),
    /// Install the hive of this release on a node
    Install(NodeNameArg),
    /// Replace the hive of a node by that of this release
    Upgrade(NodeNameArg),
    /// Remove the hive from the machine of a node; its models stay
    Uninstall {
        #[command(flatten)]
        node: NodeNameArg,
        /// Remove its models as well
        #[arg(long)]
        models: bool,
    },
    /// Leave the GPUs of a node to other programs, until `node resume`
    #[command(after_help = YIELD_EXAMPLES)]
    Yield {
        #[command(flatten)]
        node: NodeNameArg,
        /// Use them again after this time, for example 30m, 2h or 7d
        #[arg(long = "for", value_name = "TIME", value_parser = parse_expiry, conflicts_with = "never")]
        duration: Option<u32>,
        /// Never leave them to other programs instead, whatever these use
        #[arg(long)]
        never: bool,
    },
    /// Use the GPUs of a node, except while other programs use much of their memory (the default)
    Resume(NodeNameArg),
    /// Set how a node is woken, and when it is put to sleep
    #[command(after_help = SET_EXAMPLES)]
    Set(PowerArgs),
    /// Stop the workers of a node and suspend its machine
    #[command(after_help = SLEEP_EXAMPLES)]
    Sleep(SleepArgs),
    /// Wake a node by its network card, and wait until it responds
    #[command(after_help = WAKE_EXAMPLES)]
    Wake(NodeNameArg),
    /// Print the last lines of the log of a node's hive
    Logs {
        #[command(flatten)]
        node: NodeNameArg,
        /// Print the log of the last build on the node instead
        #[arg(long)]
        build: bool,
        #[command(flatten)]
        lines: LinesArg,
    },
}

/// Other names of commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Setup {
    /// Add a node, as `node add`
    AddNode(Box<Change>),
    /// List the nodes, as `node list`
    ListNodes,
    /// Remove a node, as `node remove`
    RemoveNode {
        #[command(flatten)]
        node: NodeNameArg,
        /// Stop its workers first
        #[arg(long)]
        force: bool,
    },
}

impl From<Setup> for Node {
    fn from(setup: Setup) -> Self {
        match setup {
            Setup::AddNode(change) => Self::Add(*change),
            Setup::ListNodes => Self::List,
            Setup::RemoveNode { node, force } => Self::Remove { node, force },
        }
    }
}

/// How a node is reached. The variants have no help of their own, which would double the length
/// of the help of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LinkKind {
    Ssh,
    Direct,
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    #[command(flatten)]
    pub(crate) node: NodeNameArg,
    /// Reach the node through its SSH server, or directly by the address of a hive that is already
    /// running [default: ssh, or direct with `--url`]
    #[arg(long, value_name = "LINK", value_enum)]
    pub(crate) link: Option<LinkKind>,
    /// Set the host name, the address, or an alias in ~/.ssh/config [default: NAME]
    #[arg(long, value_name = "HOST", value_parser = parse::<SshHost>)]
    pub(crate) host: Option<SshHost>,
    /// Set the port of the SSH server [default: that of the SSH configuration, else 22]
    #[arg(long, value_name = "PORT", value_parser = whole_number(1..=u16::MAX))]
    pub(crate) port: Option<u16>,
    /// Set the user on the machine [default: that of the SSH configuration]
    #[arg(long, value_name = "USER", value_parser = parse::<SshUser>)]
    pub(crate) user: Option<SshUser>,
    /// Log in with this private key [default: those of the SSH configuration and agent]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Set the directory for rbee on the machine [default: ~/.rbee]
    #[arg(long, value_name = "DIR", value_parser = parse::<RemoteDirectory>)]
    pub(crate) dir: Option<RemoteDirectory>,
    /// Build rbee on the machine from this git repository if the programs of this release do not
    /// run there; needs git, cargo and a C compiler [default: such a machine is refused]
    #[arg(long, value_name = "URL", value_parser = parse::<RepositoryUrl>)]
    pub(crate) repository: Option<RepositoryUrl>,
    /// Build this branch or tag [default: the default branch of the repository]
    #[arg(long, value_name = "BRANCH", value_parser = parse::<BranchName>)]
    pub(crate) branch: Option<BranchName>,
    /// Trust the machine's SSH host key if it is unknown and has this fingerprint
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse::<HostKeyFingerprint>)]
    pub(crate) accept_host_key: Option<HostKeyFingerprint>,
    /// Wake the node by the network card with this MAC address [default: those that its hive
    /// reports]
    #[arg(long, value_name = "MAC", value_parser = parse::<MacAddress>)]
    pub(crate) mac: Option<MacAddress>,
    /// Do not install the hive if it is missing
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Set the address of the hive, for the link direct
    #[arg(long, value_name = "URL", value_parser = parse::<NodeUrl>)]
    pub(crate) url: Option<NodeUrl>,
    /// Set the fingerprint of the hive's certificate, for an address with https
    #[arg(long, value_name = "FINGERPRINT", value_parser = parse::<CertificateFingerprint>)]
    pub(crate) certificate: Option<CertificateFingerprint>,
    /// Send secrets to another machine without encryption, in a network that encrypts everything
    /// itself
    #[arg(long)]
    pub(crate) allow_unencrypted: bool,
    /// Set the address of the queen for the workers of the node, for an address with http
    /// [default: the queen's, if the hive is on the same machine]
    #[arg(long, value_name = "URL", value_parser = parse::<NodeUrl>)]
    pub(crate) queen_url: Option<NodeUrl>,
    /// Read the token of the hive from this file, for the link direct
    #[arg(long, value_name = "FILE")]
    pub(crate) hive_token_file: Option<PathBuf>,
}
