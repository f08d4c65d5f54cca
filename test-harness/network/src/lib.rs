//! Machines in network namespaces (`network_namespaces`(7)), for tests with real partitions.
//!
//! ```text
//! private namespace: the test program, queen, keeper      namespace of a machine: sshd, hive
//!   rbee0 10.77.1.1 ──────────────── Wire ──────────────── 10.77.1.2 rbee0
//! ```
//!
//! A wire connects two TUN devices. This process moves the packets between them, and delays or
//! drops them, so that neither the kernel's `netem` nor a firewall is needed, and neither end
//! notices a partition by anything but silence. Namespaces and devices vanish with the process.

mod namespace;
mod private;
mod wire;

pub use namespace::Namespace;
pub use private::enter;
pub use wire::{Conditions, Wire};
