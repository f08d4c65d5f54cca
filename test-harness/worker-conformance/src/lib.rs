//! The black-box test of the worker contract: what makes a program a worker of rbee. It starts
//! the program as a hive does, answers its heartbeats as a queen does, and sends requests. Each
//! [`Case`] is a promise of the contract; a worker conforms if no case fails.

mod bench;
mod case;
mod cases;
mod endpoint;
mod launch;
mod queen;
mod report;
mod response;
mod run;
mod stream;
mod verdict;

pub use case::{Case, Needs};
pub use cases::all;
pub use launch::{Launcher, Running, Target};
pub use report::{Outcome, Report, Row};
pub use run::run;
