//! How a hive and a queen of another machine share one connection for everything, in both
//! directions. Either the hive joins a queen that cannot reach its machine: it uses an invitation
//! once, and keeps a connection to the queen from then on. Or it listens on an address, and the
//! queen connects to it. Workers listen on the loopback interface only.

mod connection;
mod errors;
mod incoming;
mod membership;
mod queen_port;

pub use connection::Uplink;
pub use incoming::Incoming;
pub use membership::{Invitee, join, leave};
pub use queen_port::LocalServer;
