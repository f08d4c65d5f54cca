//! Many byte streams in both directions over one connection, with yamux
//! (<https://github.com/hashicorp/yamux/blob/master/spec.md>).
//!
//! Each side opens streams to ports of the other one; which server a port stands for is for that
//! side to decide. Every stream has a window of its own, so that a reader that is slow delays no
//! other stream, and what is buffered is limited. Both sides send something every few seconds:
//! a connection on which nothing arrives is lost, whatever the network reports.

#![warn(missing_docs)]

mod activity;
mod backoff;
mod closed;
mod drive;
mod tunnel;

pub use backoff::Backoff;
pub use closed::Closed;
pub use tunnel::{Side, Timing, Tunnel, TunnelStream, join_streams};

/// The port of a side's own HTTP server: that of the queen, or that of the hive of a node.
pub const OWN_PORT: u16 = 0;
