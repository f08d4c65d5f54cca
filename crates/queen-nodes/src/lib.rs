//! The nodes of a queen: a map from [`NodeName`](input_validation::NodeName) to [`Node`].
//!
//! A node is a value: its link, its token, the state of its hive and its capabilities. The
//! queen's own machine is the node named `local` and is treated like any other. Users register
//! further nodes ([`Nodes::register`]); a [`NodeConnector`] knows their
//! [`Link`](node_link::Link) and their [`HiveHost`](hive_lifecycle::HiveHost).
//!
//! [`Nodes`] provides workers to the dispatcher ([`WorkerSource`](queen_dispatch::WorkerSource))
//! and connections to the relay ([`WorkerAccess`](request_relay::WorkerAccess)). No other
//! crate calls a hive or uses the queen's store.

mod access;
mod binaries;
mod catalog;
mod connector;
mod copies;
mod deployment_list;
mod deployments;
mod engines;
mod errors;
mod facts;
mod fit;
mod gpu_yield;
mod joining;
mod model_path;
mod model_store;
mod models;
mod node;
mod node_table;
mod node_uses;
mod nodes;
mod possible;
mod preflight;
mod pull_for_spawn;
mod registration;
mod shutdown;
mod sleep_calls;
mod sleep_errors;
mod sleeping;
mod spawn_call;
mod spawn_device;
mod spawn_turns;
mod spawning;
mod split;
mod split_deployment;
mod split_errors;
mod split_parts;
mod split_table;
mod split_watch;
mod store;
mod suspend;
mod unopened;
mod worker_source;
mod workers;

pub use catalog::NodeModel;
pub use connector::{
    ByteStream, Narrate, NodeConnection, NodeConnector, NodeFindings, NodeParts, NodeTarget,
};
pub use errors::model_not_found;
pub use node::{Node, NodeConfig};
pub use nodes::{NodeLimits, Nodes};
pub use shutdown::Shutdown;
pub use store::QueenState;
