//! A bounded set of seeds, and bugs that are planted to show that the promises can be broken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use cluster_simulator::{Bug, FaultSet, Options, Plan, run, shrink};

/// Number of seeds of each kind.
const SEEDS: u64 = 40;
/// Number of seeds within which a planted bug must be found.
const SEEDS_OF_BUG: u64 = 60;

fn options(seed: u64, faults: &str) -> Options {
    Options {
        seed,
        hives: 3,
        workers: 4,
        requests: 120,
        deployments: 6,
        faults: faults.parse::<FaultSet>().unwrap(),
        roomy: false,
        rate: None,
    }
}

fn roomy(seed: u64) -> Options {
    Options {
        roomy: true,
        requests: 400,
        deployments: 0,
        ..options(seed, "none")
    }
}

fn check(options: &Options) {
    let report = run(&Plan::generate(options), None).unwrap();
    let seed = options.seed;
    assert_eq!(
        report.violation, None,
        "replay and shrink it with `cargo xtask sim --seed {seed} --requests {} --hives {} --workers {}`: {:#?}",
        options.requests, options.hives, options.workers, report.decisions
    );
}

#[test]
fn every_promise_is_kept_whatever_fails() {
    for seed in 0..SEEDS {
        check(&options(seed, "all"));
    }
}

#[test]
fn every_promise_is_kept_with_each_kind_of_fault() {
    let kinds = [
        "loss",
        "delay",
        "duplicate",
        "reorder",
        "partition",
        "asymmetric",
        "skew",
        "crash",
        "stop",
        "slow-disk",
        "full-disk",
        "lying",
        "flapping",
        "policy",
        "none",
    ];
    for kind in kinds {
        for seed in 0..SEEDS / 8 {
            check(&options(seed, kind));
        }
    }
}

#[test]
fn every_request_completes_without_faults_if_there_is_room() {
    for seed in 0..SEEDS / 4 {
        let options = roomy(seed);
        check(&options);
        let report = run(&Plan::generate(&options), None).unwrap();
        assert_eq!(
            report.failed + report.cancelled,
            report.refused,
            "{report:#?}"
        );
    }
}

#[test]
fn a_plan_is_generated_and_runs_the_same_way_again() {
    let mut traces = Vec::new();
    for seed in 0..6 {
        let plan = Plan::generate(&options(seed, "all"));
        let text = serde_json::to_string(&plan).unwrap();
        let read: Plan = serde_json::from_str(&text).unwrap();
        assert_eq!(read, Plan::generate(&options(seed, "all")));
        let report = run(&plan, None).unwrap();
        assert_eq!(report, run(&read, None).unwrap());
        assert!(report.events > 1_000, "{report:#?}");
        traces.push(report.trace);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 6, "other seeds are other runs");
}

#[test]
fn planted_bugs_are_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found = (0..SEEDS_OF_BUG).find_map(|seed| {
            let plans = [
                options(seed, "all"),
                options(seed, "crash"),
                options(seed, "stop,partition"),
                roomy(seed),
            ];
            plans.iter().find_map(|options| {
                let report = run(&Plan::generate(options), Some(bug)).unwrap();
                report.violation
            })
        });
        if found.is_none() {
            missed.push(bug);
        }
    }
    assert_eq!(missed, [], "no seed found them");
}

#[test]
fn a_failing_plan_shrinks_and_still_fails() {
    let bug = Some(Bug::ContinueTooEarly);
    let (plan, violation) = (0..SEEDS_OF_BUG)
        .find_map(|seed| {
            let plan = Plan::generate(&options(seed, "crash"));
            let violation = run(&plan, bug).unwrap().violation?;
            Some((plan, violation))
        })
        .unwrap();
    let small = shrink(&plan, bug, violation.promise, 300).unwrap();
    assert!(small.faults.len() <= 2, "{:#?}", small.faults);
    assert!(small.requests.len() <= 8, "{:#?}", small.requests);
    let again = run(&small, bug).unwrap().violation.unwrap();
    assert_eq!(again.promise, violation.promise);
}
