//! Which tokens keep an answer within a JSON schema, a regular expression or a grammar, or
//! make it a call of a function.
//!
//! A [`Compiler`] is made once for a model. It turns a [`Shape`] into a [`Matcher`],
//! which follows one answer: told each token, it tells which may come next, as a
//! [`TokenMask`]. A matcher uses much of the stack, so it is used on threads made by
//! [`thread_builder`]. The grammars themselves are llguidance's business
//! (<https://docs.rs/llguidance>): an Earley parser over derivatives of regular expressions.
//!
//! A constraint is foreign input. Its size is bounded here, the work for it by llguidance's
//! own counters, and its compilation by a time limit; what exceeds one of them is refused or
//! ends its request with `INVALID_REQUEST`, and nothing else.

mod compiler;
mod fault;
mod mask;
mod matcher;
mod schema;
mod shape;
mod source;

pub use compiler::{Begun, Compiler, Vocabulary};
pub use mask::TokenMask;
pub use matcher::Matcher;
pub use shape::{Calls, Function, Piece, Shape};
pub use worker_contract::Constraint;

use std::thread;

/// Enough for grammars of the largest size whose rules all refer to the next: 9000 of them
/// take more than 2 and less than 64 MiB. Only what is touched takes memory.
const STACK_BYTES: usize = 64 << 20;

/// A builder of threads on which matchers may be used.
pub fn thread_builder(name: &str) -> thread::Builder {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
}
