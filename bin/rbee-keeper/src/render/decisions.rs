//! Text about decisions.

use diagnostics::escape;
use queen_contract::{Decision, DecisionKind};

/// Formats the result of `rbee-keeper why`: each decision, its reason, and what was considered.
pub(crate) fn list(decisions: &[Decision]) -> String {
    if decisions.is_empty() {
        return "no decisions since the queen was started\n".into();
    }
    decisions.iter().map(decision).collect()
}

fn decision(decision: &Decision) -> String {
    let names = decision.candidates.iter().map(|c| c.name.chars().count());
    let width = names.max().unwrap_or(0);
    let candidates = decision.candidates.iter().map(|candidate| {
        let mark = if candidate.chosen { '*' } else { ' ' };
        let (name, note) = (escape(&candidate.name), escape(&candidate.note));
        format!("  {mark} {name:<width$}  {note}")
    });
    let more = decision.more_candidates;
    let more = (more > 0).then(|| format!("    and {more} more"));
    let lines = [
        format!("{:.0}  {}", decision.time, escape(&headline(decision))),
        format!("    {}", escape(&decision.reason)),
    ];
    let lines = lines.into_iter().chain(candidates).chain(more);
    lines.map(|line| line + "\n").collect::<Vec<_>>().concat()
}

fn headline(decision: &Decision) -> String {
    let of = |name: &str, value: Option<String>| {
        value.map_or(String::new(), |value| format!("{name}{value}"))
    };
    let request = of(
        "request ",
        decision.request.as_ref().map(ToString::to_string),
    );
    let worker = of("worker ", decision.worker.as_ref().map(ToString::to_string));
    let model = of(" for ", decision.model.as_ref().map(ToString::to_string));
    let node = of(" on node ", decision.node.as_ref().map(ToString::to_string));
    match decision.kind {
        DecisionKind::Route => format!("{request}{model} runs on {worker}{node}"),
        DecisionKind::Wait => format!("{request}{model} waits"),
        DecisionKind::Spawn => format!("a worker{model} is started{node}"),
        DecisionKind::Engine => {
            let mut candidates = decision.candidates.iter();
            let engine = candidates.find(|candidate| candidate.chosen);
            let engine = engine.map_or("another engine", |engine| engine.name.as_str());
            format!("{worker}{model} uses the engine {engine}{node}")
        }
        DecisionKind::SpawnFailed => format!("a worker{model} was not started{node}"),
        DecisionKind::AttemptFailed => format!("{worker} did not complete {request}{model}"),
        DecisionKind::Refuse => format!("{request}{model} ended with an error"),
        DecisionKind::PolicyFailed => format!("the policy failed for {request}{model}"),
        DecisionKind::Stop => format!("{worker}{model} is stopped"),
        DecisionKind::Lost => format!("{worker} was removed"),
    }
}

#[cfg(test)]
mod tests {
    use queen_contract::DecisionCandidate;

    use super::*;

    #[test]
    fn a_decision_is_shown_with_its_reason_and_its_candidates() {
        let candidate = |name: &str, chosen, note: &str| DecisionCandidate {
            name: name.into(),
            chosen,
            note: note.into(),
        };
        let route = Decision {
            time: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            kind: DecisionKind::Route,
            request: Some("r-1".parse().unwrap()),
            model: Some("builtin:haiku".parse().unwrap()),
            worker: Some("haiku-0".parse().unwrap()),
            node: Some("attic".parse().unwrap()),
            reason: "it has the least load of 12 workers".into(),
            candidates: vec![
                candidate("haiku-0", true, "node attic, 4 of 4 slots free"),
                candidate("haiku-10", false, "node \u{1b}[31m"),
            ],
            more_candidates: 10,
        };
        assert_eq!(
            list(&[route]),
            "2026-01-02T03:04:05Z  request r-1 for builtin:haiku runs on worker haiku-0 on node attic\n    \
             it has the least load of 12 workers\n  \
             * haiku-0   node attic, 4 of 4 slots free\n    \
             haiku-10  node \\u{1b}[31m\n    \
             and 10 more\n"
        );
        assert_eq!(list(&[]), "no decisions since the queen was started\n");
    }
}
