//! How a hive joins a queen that cannot reach its machine: it uses an invitation once, and keeps
//! a connection to the queen from then on. Everything goes through that connection, in both
//! directions, and nothing listens on another interface than loopback.

mod backoff;
mod connection;
mod errors;
mod membership;

pub use connection::{LocalPort, Uplink};
pub use membership::{Invitee, join, leave};
