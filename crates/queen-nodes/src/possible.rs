//! Whether the machines can have the workers that a deployment asks for, before anything is changed.

use std::time::Duration;

use diagnostics::{Code, Diagnostic};
use futures_util::future::join_all;
use hive_contract::{PreflightCheck, PreflightReport, PreflightRequest};
use input_validation::{Backend, ModelRef, NodeName};
use queen_contract::DeploymentSpec;
use scheduler::by_reason;
use tokio::time::timeout;

use crate::{Node, Nodes, catalog::is_fetched, nodes::hive_settled};

/// Time limit for a hive: what it does not say in time, the start of the worker finds out.
const LIMIT: Duration = Duration::from_secs(5);

/// The checks whose result only a change by the user changes. Memory and devices may be free later.
const LASTING: [&str; 3] = ["model", "engine", "context"];

impl Nodes {
    /// Checks whether one of these nodes can have a worker of the deployment.
    ///
    /// Fails with the reasons of all nodes if each of them refuses its model, engine or context. A
    /// node that does not respond might not.
    pub(crate) async fn check_possible(
        &self,
        spec: &DeploymentSpec,
        nodes: &[NodeName],
    ) -> Result<(), Diagnostic> {
        let named = self.all().into_iter();
        let named = named.filter(|node| node.has_hive() && nodes.contains(node.name()));
        let asked: Vec<_> = named.collect();
        let answers = asked.iter().map(|node| async move {
            let answer = timeout(LIMIT, refusal_of(node, spec)).await;
            (node.name().clone(), answer.ok().flatten())
        });
        let mut refusals = Vec::new();
        for (node, refusal) in join_all(answers).await {
            let Some(refusal) = refusal else {
                return Ok(());
            };
            refusals.push((node, refusal));
        }
        joined(&spec.model, &refusals).map_or(Ok(()), Err)
    }
}

/// Why the node cannot have the worker on any of its kinds of devices; `None` if it can, or does not
/// respond.
async fn refusal_of(node: &Node, spec: &DeploymentSpec) -> Option<Diagnostic> {
    hive_settled(node, LIMIT).await;
    let hive = node.hive_now().ok()?;
    let mut refusal = None;
    for backend in backends(node, spec) {
        let request = PreflightRequest {
            model: Some(spec.model.clone()),
            device: None,
            backend: Some(backend),
            engine: spec.engine.clone(),
            context_length: spec.context_length,
            slots: spec.slots,
        };
        let report = hive.client.preflight(&request).await.ok()?;
        refusal = Some(lasting(report, &spec.model)?);
    }
    refusal
}

/// The kinds of devices on which the worker may run; the CPU comes last, whose reasons are shown.
fn backends(node: &Node, spec: &DeploymentSpec) -> Vec<Backend> {
    if let Some(backend) = spec.backend {
        return vec![backend];
    }
    let devices = node.entry().devices.into_iter();
    let mut backends: Vec<Backend> = devices.map(|device| device.backend).collect();
    backends.retain(|backend| *backend != Backend::Cpu);
    backends.dedup();
    backends.push(Backend::Cpu);
    backends
}

/// The refusal of a report, as far as waiting does not help.
fn lasting(mut report: PreflightReport, model: &ModelRef) -> Option<Diagnostic> {
    let is_lasting = |check: &PreflightCheck| {
        // What a node lacks is fetched, or copied from another one.
        let may_arrive = check.name == "model" && is_fetched(model);
        LASTING.contains(&check.name.as_str()) && !may_arrive
    };
    report.checks.retain(is_lasting);
    report.refusal()
}

/// One error of the refusals of all nodes, of which there may be none.
fn joined(model: &ModelRef, refusals: &[(NodeName, Diagnostic)]) -> Option<Diagnostic> {
    let code = refusals.first().map(|(_, error)| error.code)?;
    let same = refusals.iter().all(|(_, error)| error.code == code);
    let named = |of: fn(&Diagnostic) -> Option<&String>| {
        let reasons = refusals
            .iter()
            .filter_map(|(node, error)| Some((node.to_string(), of(error)?)));
        by_reason(reasons).into_iter().map(|(nodes, reason)| {
            let node = if nodes.len() == 1 { "node" } else { "nodes" };
            (format!("{node} {}", nodes.join(", ")), reason)
        })
    };
    let reasons = named(|error| Some(&error.message));
    let reasons: Vec<String> = reasons.map(|(on, why)| format!("{on}: {why}")).collect();
    let message = format!("{model} cannot be deployed so: {}", reasons.join("; "));
    let hints = named(|error| error.hint.as_ref()).map(|(on, hint)| match refusals.len() {
        1 => hint.clone(),
        _ => format!("on {on}: {hint}"),
    });
    let hints: Vec<String> = hints.collect();
    let error = Diagnostic::new(if same { code } else { Code::InvalidRequest }, message);
    Some(if hints.is_empty() {
        error
    } else {
        error.hint(hints.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use hive_contract::{PreflightLevel, Verdict};

    use super::*;

    fn failed(name: &str, code: Code) -> PreflightCheck {
        PreflightCheck {
            level: PreflightLevel::Worker,
            name: name.to_owned(),
            requirement: "much".to_owned(),
            measured: "little".to_owned(),
            verdict: Verdict::Fail,
            code: Some(code),
            hint: Some("get more".to_owned()),
            details: None,
        }
    }

    #[test]
    fn only_what_waiting_does_not_change_is_refused() {
        let refused = |check: PreflightCheck, model: &str| {
            let report = PreflightReport {
                checks: vec![failed("memory", Code::InsufficientRam), check],
            };
            lasting(report, &model.parse().unwrap()).map(|error| error.code)
        };
        let engine = failed("engine", Code::NotFound);
        assert_eq!(refused(engine, "hf:org/a"), Some(Code::NotFound));
        let context = failed("context", Code::ConfigInvalid);
        assert_eq!(refused(context, "file:/a"), Some(Code::ConfigInvalid));
        let missing = || failed("model", Code::ModelNotFound);
        assert_eq!(refused(missing(), "file:/a"), Some(Code::ModelNotFound));
        assert_eq!(refused(missing(), "hf:org/a"), None);
        assert_eq!(
            refused(failed("disk", Code::InsufficientDisk), "file:/a"),
            None
        );
    }

    #[test]
    fn the_reasons_of_all_nodes_are_named() {
        let model: ModelRef = "file:/a".parse().unwrap();
        let refusal = |node: &str, code| {
            let node: NodeName = node.parse().unwrap();
            let message = format!("no engine \"x\" ({node})");
            (
                node,
                Diagnostic::new(code, message).hint("use one of: builtin"),
            )
        };
        assert_eq!(joined(&model, &[]), None);
        let one = joined(&model, &[refusal("attic", Code::NotFound)]).unwrap();
        assert_eq!(one.hint.as_deref(), Some("use one of: builtin"));
        let refusals = [
            refusal("attic", Code::NotFound),
            refusal("desk", Code::UnsupportedModel),
        ];
        let both = joined(&model, &refusals).unwrap();
        assert_eq!(both.code, Code::InvalidRequest);
        assert_eq!(
            both.message,
            "file:/a cannot be deployed so: node attic: no engine \"x\" (attic); node desk: no \
             engine \"x\" (desk)"
        );
        assert_eq!(
            both.hint.as_deref(),
            Some("on nodes attic, desk: use one of: builtin")
        );
        let same = ["attic", "desk", "shed"].map(|node| {
            let error = Diagnostic::new(Code::NotFound, "no engine \"x\"");
            (node.parse().unwrap(), error)
        });
        assert_eq!(
            joined(&model, &same).unwrap().message,
            "file:/a cannot be deployed so: nodes attic, desk, shed: no engine \"x\""
        );
    }
}
