//! Separates the reasoning of a model from its answer.
//!
//! A [`Format`] says how a model marks its reasoning. It is detected once per model from the chat
//! template and the vocabulary. For each request, [`Format::plan`] translates the wish of the
//! request to variables of the template, [`Format::start`] says where the output begins, and a
//! [`Splitter`] separates the output as it arrives.

mod controls;
mod format;
mod harmony;
mod marks;
mod phase;
mod plan;
mod source;
mod splitter;

pub use format::Format;
pub use phase::{Phase, Start};
pub use plan::{Plan, Wish};
pub use splitter::Splitter;
