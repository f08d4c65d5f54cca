//! The nodes of a queen: a map from [`NodeName`](input_validation::NodeName) to [`Node`].
//!
//! A node is a value: its link, its token, the state of its hive and its capabilities. The
//! queen's own machine is the node named `local` and is treated like any other. To add a
//! remote node, register a [`Node`] with its own [`Link`](node_link::Link) and
//! [`HiveHost`](hive_lifecycle::HiveHost) by [`Nodes::add`].
//!
//! [`Nodes`] provides workers to the dispatcher ([`WorkerSource`](queen_dispatch::WorkerSource))
//! and connections to the relay ([`WorkerAccess`](request_relay::WorkerAccess)). No other
//! crate calls a hive or uses the queen's store.

mod access;
mod catalog;
mod deployments;
mod errors;
mod model_path;
mod model_store;
mod models;
mod node;
mod nodes;
mod pull_for_spawn;
mod shutdown;
mod spawning;
mod store;
mod workers;

pub use catalog::NodeModel;
pub use errors::model_not_found;
pub use node::{Node, NodeConfig};
pub use nodes::{NodeLimits, Nodes};
pub use shutdown::Shutdown;
pub use store::QueenState;
