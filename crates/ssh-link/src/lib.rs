//! Reaches nodes by SSH: connections, commands, files, forwards, and the link of a node.
//!
//! The system's `ssh` does the work, so the user's configuration applies: aliases, agent, known
//! hosts, jump hosts. A node needs an SSH server and a POSIX shell only.
//!
//! ```text
//! SshSession ── one ssh process (master), which every other ssh process uses by its socket
//!    │ run, write_file, upload, probe, forward_to_node, forward_from_node
//! SshLink ── keeps a session connected and its forwards established (node_link::Link)
//! ```
//!
//! Security: nothing that a user supplies is part of a script. Scripts are constants and read
//! arguments ([`RemoteCommand`]). An unknown host key is refused until the user accepts its
//! fingerprint ([`accept_host_key`]).

mod client_config;
mod command;
mod errors;
mod failure;
mod forward;
mod host_key;
mod link;
mod master;
mod options;
mod probe;
mod process_group;
mod runtime_directory;
mod server_process;
mod session;
mod settings;
mod upload;

pub use command::{Output, RemoteCommand};
pub use host_key::{HostKey, accept_host_key, scan};
pub use link::{Connected, LinkConfig, LinkState, SshLink};
pub use probe::{GpuFound, Libc, NodeProbe, Tool, probe};
pub use runtime_directory::RuntimeDirectory;
pub use session::SshSession;
pub use settings::SshSettings;
