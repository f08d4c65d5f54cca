//! Chooses the engine that runs a model.
//!
//! An engine declares what it can run ([`Declaration`]); a model and a request say what they need
//! ([`Needs`]). [`choose`] is the rule:
//!
//! 1. the engine that the user named, if it can run the model;
//! 2. else the built-in engine, if it supports the model entirely;
//! 3. else the first installed engine that does;
//! 4. else the first package that does, which needs the user's agreement before it is provisioned.
//!
//! An engine that runs already has a model of its own, and is used only if it is named.
//!
//! [`builtin`] is what rbee's own workers run. Every engine that was not chosen has its reasons, and a refusal names what is missing and the
//! package that would help.

#![warn(missing_docs)]

mod builtin;
mod choose;
mod declaration;
mod needs;

pub use builtin::{BUILTIN, builtin};
pub use choose::{Choice, Step, Verdict, choose};
pub use declaration::{Availability, Declaration, Feature, Format, Support};
pub use needs::{Gap, Needs};
