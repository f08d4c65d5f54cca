//! Computes which tokens keep a model's output within a JSON schema, a regular expression or a
//! grammar, or make it a tool call.
//!
//! A [`Compiler`] is created once per model. It turns an [`OutputConstraint`] into a
//! [`Matcher`], which follows one output token by token and returns the tokens allowed next as
//! a [`TokenMask`]. Matchers need a large stack and must run on threads created by
//! [`thread_builder`]. Grammars are implemented by llguidance
//! (<https://docs.rs/llguidance>): an Earley parser over derivatives of regular expressions.
//!
//! A constraint is untrusted input. This crate limits its size and compilation time;
//! llguidance limits the work per token. Exceeding a limit fails only the request, with
//! `INVALID_REQUEST`.

mod calls;
mod closed;
mod compiler;
mod errors;
mod grammar;
mod lenience;
mod mask;
mod matcher;
mod output;
mod references;
mod schema;
mod subschemas;
mod threads;

pub use compiler::{Compiler, ConstraintState, Vocabulary};
pub use mask::TokenMask;
pub use matcher::Matcher;
pub use output::{Calls, Fields, Function, OutputConstraint, Piece, Syntax, Trigger};
pub use threads::thread_builder;
pub use worker_contract::Constraint;
