use queen_contract::{Decision, DecisionKind};

use super::*;

fn decisions(s: &Scheduler, about: Option<&str>) -> Vec<Decision> {
    s.decisions(about, 100, |at| Timestamp::UNIX_EPOCH + at)
}

fn kinds(decisions: &[Decision]) -> Vec<DecisionKind> {
    decisions.iter().map(|decision| decision.kind).collect()
}

fn node(free_bytes: u64, has_files: bool) -> NodeFacts {
    NodeFacts {
        state: NodeState::Up,
        devices: vec![DeviceFacts {
            id: "CPU-0".parse().unwrap(),
            backend: input_validation::Backend::Cpu,
            free_bytes,
            has_worker: true,
        }],
        models: has_files
            .then(|| (HAIKU.parse().unwrap(), 1))
            .into_iter()
            .collect(),
        yielded: std::collections::BTreeMap::new(),
    }
}

#[test]
fn the_way_of_a_request_is_explained_from_its_arrival_to_its_worker() {
    let gib = 1 << 30;
    let down = NodeFacts {
        state: NodeState::Down(Diagnostic::new(Code::SshUnreachable, "no route")),
        ..NodeFacts::default()
    };
    let mut s = with_nodes(&[
        ("attic", node(gib, true)),
        ("cellar", down),
        ("garage", node(4 * gib, false)),
    ]);
    submit(&mut s, "r-1", secs(1));
    let mut started = worker("w-0", 1, 2);
    started.hive_id = "attic".parse().unwrap();
    beat(&mut s, started, 1, secs(3));

    let of_request = decisions(&s, Some("r-1"));
    assert_eq!(
        kinds(&of_request),
        [DecisionKind::Spawn, DecisionKind::Wait, DecisionKind::Route]
    );
    let spawn = &of_request[0];
    assert_eq!(spawn.time, Timestamp::UNIX_EPOCH + secs(1));
    assert_eq!(spawn.node, Some("attic".parse().unwrap()));
    assert_eq!(
        spawn.reason,
        "no worker has the model; its files are on this node"
    );
    let notes: Vec<_> = spawn
        .candidates
        .iter()
        .map(|c| (c.name.as_str(), c.chosen, c.note.as_str()))
        .collect();
    assert_eq!(
        notes,
        [
            ("attic cpu", true, "has the files, 1.0 GiB free"),
            ("garage cpu", false, "does not have the files, 4.0 GiB free"),
            ("cellar cpu", false, "the node is down: no route"),
        ]
    );
    let route = &of_request[2];
    assert_eq!(route.worker, Some("w-0".parse().unwrap()));
    assert_eq!(route.candidates[0].note, "node attic, 2 of 2 slots free");

    assert_eq!(kinds(&decisions(&s, Some("w-0"))), [DecisionKind::Route]);
    assert_eq!(decisions(&s, Some(HAIKU)).len(), 3);
    assert_eq!(decisions(&s, Some("r-2")), []);
}

#[test]
fn the_least_loaded_worker_is_chosen_and_a_failed_one_is_avoided_with_a_reason() {
    let mut s = scheduler();
    beat(&mut s, worker("w-0", 1, 1), 1, T0);
    beat(&mut s, worker("w-1", 1, 4), 1, T0);
    submit(&mut s, "r-1", secs(1));
    let chosen = decisions(&s, Some("r-1")).pop().unwrap();
    assert_eq!(chosen.worker, Some("w-1".parse().unwrap()));
    assert_eq!(chosen.reason, "it has the least load of 2 workers");

    let fault = AttemptFailure::Fault(Diagnostic::new(Code::Internal, "broken"));
    s.handle(SchedulerEvent::AttemptFailed(id("r-1"), fault), secs(2));
    let of_request = decisions(&s, Some("r-1"));
    assert_eq!(
        kinds(&of_request[1..]),
        [DecisionKind::AttemptFailed, DecisionKind::Route]
    );
    assert_eq!(of_request[1].reason, "broken; another worker is tried");
    let route = &of_request[2];
    assert_eq!(route.worker, Some("w-0".parse().unwrap()));
    assert!(route.reason.starts_with("attempt 2: "), "{}", route.reason);
    assert!(
        route.candidates[1]
            .note
            .ends_with("it failed this request before"),
        "{:?}",
        route.candidates
    );
}

#[test]
fn a_refusal_names_every_place_and_only_the_latest_decisions_are_kept() {
    let mut s = with_nodes(&[(
        "attic",
        NodeFacts {
            state: NodeState::Down(Diagnostic::new(Code::SshUnreachable, "no route")),
            ..NodeFacts::default()
        },
    )]);
    submit(&mut s, "r-1", T0);
    let refused = decisions(&s, Some("r-1")).pop().unwrap();
    assert_eq!(refused.kind, DecisionKind::Refuse);
    assert_eq!(refused.reason, "no route");
    assert_eq!(refused.candidates[0].note, "the node is down: no route");

    for number in 0..2500 {
        submit(&mut s, &format!("q-{number}"), secs(1));
    }
    let all = s.decisions(None, usize::MAX, |at| Timestamp::UNIX_EPOCH + at);
    assert_eq!(all.len(), 2000);
    assert_eq!(all.last().unwrap().request, Some(id("q-2499")));
    assert_eq!(decisions(&s, Some("r-1")), []);
    assert_eq!(decisions(&s, None).len(), 100);
}
