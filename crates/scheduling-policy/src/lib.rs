//! Scripts of users that change where workers start and which worker serves a request.
//!
//! A script in [Rhai](https://rhai.rs) has a function `route(request, worker)`, a function
//! `place(request, place)`, or both. rbee calls it for each candidate of a decision, and it returns
//! an [`Opinion`] of the candidate. `docs/policies.md` describes them for users.
//!
//! Scripts are not trusted: they can only compute, within the limits in [`limits`], and the same
//! script always returns the same for the same facts. A script that fails never stops a decision:
//! its caller decides as without one.

mod engine;
mod errors;
mod facts;
pub mod limits;
mod opinion;
mod policy;

pub use errors::{CompileError, PolicyFailure};
pub use facts::{Origin, PlaceFacts, RequestFacts, WorkerFacts};
pub use opinion::{Opinion, ranked};
pub use policy::Policy;
