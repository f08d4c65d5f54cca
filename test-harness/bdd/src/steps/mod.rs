//! The shared steps. A crate that owns a feature has the steps that only this feature uses.

mod acceptance;
mod commands;
mod concurrent;
mod constraints;
mod daemons;
mod files;
mod http;
mod inference;
mod joining;
mod nodes;
mod reference;
mod releases;
mod secrets;
pub(crate) mod ssh;
mod ssh_ways;
mod streams;
mod waiting;

/// Makes the linker keep the steps: they are registered by statics that no code names.
pub(crate) fn link() {
    acceptance::link();
    commands::link();
    concurrent::link();
    constraints::link();
    daemons::link();
    files::link();
    http::link();
    inference::link();
    joining::link();
    nodes::link();
    reference::link();
    secrets::link();
    releases::link();
    ssh::link();
    ssh_ways::link();
    streams::link();
    waiting::link();
}
