//! The link to a node whose hive connects to the queen, because the queen cannot reach the
//! machine: a laptop behind a router, for example. One connection carries everything in both
//! directions; it is lost and returns, and nothing on the node is started or stopped.

mod link;
mod sockets;

pub use link::{JoinedLink, LinkState};

/// The port of the hive of a node, wherever it listens.
pub use node_tunnel::OWN_PORT as HIVE_PORT;
pub use node_tunnel::Timing;
