//! The shared vocabulary: commands, daemons, HTTP, inference, constraints. What a crate's own features need beside
//! it stands in that crate, named after what it is about.

mod commands;
mod constraints;
mod daemons;
mod http;
mod inference;

/// Makes the linker keep the steps: they are registered by statics that nothing names.
pub(crate) fn link() {
    commands::link();
    constraints::link();
    daemons::link();
    http::link();
    inference::link();
}
