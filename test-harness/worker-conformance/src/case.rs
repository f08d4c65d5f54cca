use futures_util::future::BoxFuture;

use crate::{bench::Bench, verdict::Checked};

/// What a case needs besides a worker that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Worker,
    /// To start and stop the worker.
    Command,
}

/// Function that checks a case.
pub type Check = for<'a> fn(&'a mut Bench) -> BoxFuture<'a, Checked>;

/// A promise of the worker contract, and how it is checked.
#[derive(Clone, Copy)]
pub struct Case {
    /// Name, unique among the cases. The ids of its requests begin with it.
    pub name: &'static str,
    /// The promise, as a clause after "the worker".
    pub promise: &'static str,
    pub needs: Needs,
    pub check: Check,
}
