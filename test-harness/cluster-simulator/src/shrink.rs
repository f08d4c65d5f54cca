//! Makes a failing plan small: what is not needed for the failure is removed.

use crate::{Bug, Plan, Promise, run};

/// Removes faults, requests and deployments from a plan while it still breaks the same promise,
/// with at most `runs` runs.
pub fn shrink(
    plan: &Plan,
    bug: Option<Bug>,
    promise: Promise,
    runs: usize,
) -> anyhow::Result<Plan> {
    let mut shrinking = Shrinking { bug, promise, runs };
    let mut plan = plan.clone();
    loop {
        let size = |plan: &Plan| {
            (
                plan.faults.len(),
                plan.requests.len(),
                plan.deployments.len(),
            )
        };
        let before = size(&plan);
        plan.faults = shrinking.without(&plan, &plan.faults.clone(), |plan, faults| {
            plan.faults = faults;
        })?;
        plan.requests = shrinking.without(&plan, &plan.requests.clone(), |plan, requests| {
            plan.requests = requests;
        })?;
        plan.deployments =
            shrinking.without(&plan, &plan.deployments.clone(), |plan, deployments| {
                plan.deployments = deployments;
            })?;
        if size(&plan) == before || shrinking.runs == 0 {
            return Ok(plan);
        }
    }
}

struct Shrinking {
    bug: Option<Bug>,
    promise: Promise,
    runs: usize,
}

impl Shrinking {
    /// The items that remain when as many as possible are removed, in parts of half their number,
    /// then of a quarter, and so on.
    fn without<T: Clone>(
        &mut self,
        plan: &Plan,
        items: &[T],
        set: impl Fn(&mut Plan, Vec<T>),
    ) -> anyhow::Result<Vec<T>> {
        let mut items = items.to_vec();
        let mut part = items.len();
        while part > 0 {
            let mut start = 0;
            while start < items.len() {
                let end = (start + part).min(items.len());
                let rest = [&items[..start], &items[end..]].concat();
                let mut smaller = plan.clone();
                set(&mut smaller, rest.clone());
                if self.still_fails(&smaller)? {
                    items = rest;
                } else {
                    start = end;
                }
            }
            part /= 2;
        }
        Ok(items)
    }

    fn still_fails(&mut self, plan: &Plan) -> anyhow::Result<bool> {
        if self.runs == 0 {
            return Ok(false);
        }
        self.runs -= 1;
        let violation = run(plan, self.bug)?.violation;
        Ok(violation.is_some_and(|violation| violation.promise == self.promise))
    }
}
