//! The link to a node over one connection that carries everything in both directions. Either the
//! node's hive connects to the queen, because the queen cannot reach the machine: a laptop behind a
//! router, for example. Or the queen connects to the hive. The connection is lost and returns, and
//! nothing on the node is started or stopped.

mod dial;
mod link;
mod sockets;

pub use dial::keep_dialled;
pub use link::{LinkState, TunnelLink};

/// The port of the hive of a node, wherever it listens.
pub use node_tunnel::OWN_PORT as HIVE_PORT;
pub use node_tunnel::{Side, Timing};
