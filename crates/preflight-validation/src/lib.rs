//! Decides before a start whether a node can run a worker. Every rule is a pure function over
//! what a probe found, and returns checks with requirement, finding, verdict and hint. All rules
//! run, so that a user sees all failures at once.
//!
//! - [`check_queen`]: whether a queen can run on this machine.
//! - [`check_ssh`]: whether a node can be used over SSH.
//! - [`check_hive`] and [`check_machine`]: whether the hive of a node and its machine can be used.
//! - [`plan_split`]: how a model is divided over machines that have enough memory together.
//! - [`check_worker`]: whether a worker for a model can be started on a device of the machine.
//!   [`choose_engine`] is the only place where its engine is chosen.
//!   [`select_device`] is the only place where the device is chosen; a GPU that was requested is
//!   never replaced by the CPU.

#![warn(missing_docs)]

mod check;
mod choice;
mod device;
mod driver;
mod engines;
mod hive;
mod machine;
mod memory;
mod model;
mod need;
mod plan;
mod queen;
mod request;
mod split;
mod ssh;
#[cfg(test)]
mod testing;
mod toolchain;
mod units;
mod worker;

pub use choice::{ADAPTER, ChosenEngine, check_runnable, choose_engine};
pub use device::select_device;
pub use driver::is_usable;
pub use engines::worker_binary;
pub use hive::{HiveProbe, Version, check_hive};
pub use machine::check_machine;
pub use memory::{WorkerMemory, worker_memory};
pub use model::ModelFacts;
pub use need::requested_kv_bytes;
pub use plan::{Engines, Freed, WorkerPlan};
pub use queen::{Port, Program, QueenProbe, check_queen, check_queen_responds};
pub use request::validate;
pub use split::{SplitNeed, SplitPlace, SplitShare, plan_split};
pub use ssh::{Finding, SshProbe, check_ssh};
pub use toolchain::check_toolchain;
pub use worker::{ENGINE_CHECK, check_worker};
