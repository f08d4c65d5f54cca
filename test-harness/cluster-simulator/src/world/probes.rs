//! Requests after the faults: every model can be used again.

use std::time::Duration;

use scheduler::RequestOutcome;

use crate::{
    message::Event,
    plan::RequestPlan,
    promise::Promise,
    world::{World, relay::Request},
};

/// How long a probe may take.
const PROBE_LIMIT_MS: u64 = 150_000;
/// Maximum number of models that are probed.
const PROBES: usize = 8;
/// Time after the last probe: workers that are gone are forgotten.
const END: Duration = Duration::from_secs(60);

impl World<'_> {
    pub(super) fn probe(&mut self, model: usize) {
        if self.ended < self.requests.len() {
            let deadlines = self.plan.requests.iter().map(RequestPlan::deadline);
            let latest = deadlines.max().unwrap_or_default() + Duration::from_secs(10);
            if self.now > latest {
                let open = self
                    .requests
                    .iter()
                    .position(|request| request.ended.is_none());
                let message = format!("request {} never ended", open.unwrap_or(0));
                return self.violate(Promise::OneEnd, message);
            }
            return self.at(self.now + Duration::from_secs(5), Event::Probe(model));
        }
        if model == 0 {
            self.check_deployments();
            self.remove_deployments();
        }
        if model >= self.plan.models.len().min(PROBES) {
            return self.at(self.now + END, Event::End);
        }
        let index = self.requests.len();
        self.probes.push(RequestPlan {
            number: index as u32,
            model,
            at_us: self.now.as_micros() as u64,
            prompt_tokens: 8,
            output_tokens: 8,
            deadline_ms: PROBE_LIMIT_MS,
            cancel_ms: None,
            node: None,
        });
        self.requests.push(Request::new());
        self.arrive(index);
    }

    /// A client received the end of its request.
    pub(crate) fn client_ended(&mut self, index: usize, outcome: RequestOutcome) {
        self.counts[match outcome {
            RequestOutcome::Completed => 0,
            RequestOutcome::Failed => 1,
            RequestOutcome::Cancelled => 2,
        }] += 1;
        let completed = outcome == RequestOutcome::Completed;
        if index >= self.plan.requests.len() {
            let model = self.plan_of(index).model;
            if !completed {
                let message = format!("model {model} cannot be used after the faults");
                self.violate(Promise::Recovery, message);
            }
            self.at(self.now + Duration::from_secs(1), Event::Probe(model + 1));
            return;
        }
        let plan = self.plan_of(index);
        let is_generous = plan.deadline_ms >= 600_000 && plan.cancel_ms.is_none();
        let was_accepted = self.requests[index].received > 0 || self.requests[index].id.is_some();
        if self.plan.faults.is_empty() && is_generous && was_accepted && !completed {
            self.violate(
                Promise::Completion,
                format!("request {index} did not complete"),
            );
        }
    }
}
