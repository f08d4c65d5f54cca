//! TLS with a self-signed certificate that the other side knows by its fingerprint: nobody else
//! can pretend to be the server, and no authority is involved.

#![warn(missing_docs)]

mod client;
mod identity;

pub use client::{AnotherCertificate, Fingerprint, client_config};
pub use identity::Identity;
