//! Simulated clusters: a queen, its hives and their workers in one thread with a virtual clock and
//! a virtual network, in which everything fails that may fail: `cargo xtask sim`.
//!
//! Real code: the queen's [`Scheduler`](scheduler::Scheduler) with its queue and registry, the
//! relay's decisions about failures, the hive's state machines of starts and stops and its
//! admission by generation, and the worker's batching with its blocks of the KV cache.
//!
//! Models: what executes these decisions, which is asynchronous in the product (the dispatcher and
//! the loop of a request in `world::relay`, spawns in `world::spawning`, jobs of the hive in `world::hive`,
//! heartbeats and the engine in `world::worker` and `world::process`), the check of memory before a start,
//! and `world::network`. They follow the product step by step, with its limits of time.
//!
//! A [`Plan`] determines a run completely: machines, models, requests, deployments, faults and the
//! seed of the network. It is generated from [`Options`], and [`shrink()`] removes from it what a failure does
//! not need. [`Promise`] lists what is checked.

mod bug;
mod deployment_plan;
mod fault;
mod message;
mod plan;
mod promise;
mod random;
mod shrink;
mod world;

pub use bug::Bug;
pub use deployment_plan::{DeploymentChange, WantedWorkers};
pub use fault::{Fault, FaultKind, FaultSet};
pub use plan::{ModelPlan, NodePlan, Options, Plan, RequestPlan};
pub use promise::{Promise, Violation};
pub use shrink::shrink;
pub use world::Report;

/// Runs a plan until its end, or until it breaks a promise.
pub fn run(plan: &Plan, bug: Option<Bug>) -> anyhow::Result<Report> {
    Ok(world::World::new(plan, bug)?.run())
}
