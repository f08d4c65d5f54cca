//! The worker contract, checked from outside with `worker-conformance`: our workers keep it, the
//! one in the documentation as well, and a worker that breaks a promise fails the case of that
//! promise and no other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

use std::{path::PathBuf, time::Duration};

use futures_util::{StreamExt as _, stream};
use worker_conformance::{Launcher, Needs, Outcome, Report, Row, Target, all, run};

const MOCK: &str = env!("CARGO_BIN_EXE_mock-worker-rbee");
const CANDLE: &str = env!("CARGO_BIN_EXE_llm-cpu-worker-rbee");
/// Outputs that last long enough to be interrupted.
const SLOW: &str = "tokens_per_second=500,length=3500,load_ms=200";
/// Number of broken workers that run at the same time. They mostly wait.
const PARALLEL: usize = 6;
/// Waits for 5 s.
const INTERVAL: &str = "heartbeat-interval";
/// Cases that start further processes or wait. They are left out where another promise is broken,
/// unless it is one of these: starting hundreds of processes takes minutes.
const APART: [&str; 7] = [
    INTERVAL,
    "version",
    "self-test",
    "port-taken",
    "no-token",
    "fenced",
    "shutdown",
];

fn case_of_a_program(name: &str) -> bool {
    APART.contains(&name)
}

fn file(path: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(path).to_str().unwrap().to_owned()
}

async fn check(command: &[&str], model: &str, skip: &[String]) -> Report {
    let target = Target::Command {
        command: command.iter().map(ToString::to_string).collect(),
        model: model.to_owned(),
        ready_limit: Duration::from_secs(60),
    };
    run(target, skip)
        .await
        .unwrap_or_else(|e| panic!("{command:?}: {e:#}"))
}

/// Fails if a case failed, or if another one than `not_applicable` was not checked.
#[track_caller]
fn conforms(report: &Report, not_applicable: &[&str]) {
    assert!(report.failed().is_empty(), "{report}");
    let is_unchecked = |outcome: &Outcome| matches!(outcome, Outcome::NotApplicable { .. });
    let rows = report.cases.iter().filter(|row| is_unchecked(&row.outcome));
    let unchecked: Vec<&str> = rows.map(|row| row.case).collect();
    assert!(
        unchecked.iter().all(|case| not_applicable.contains(case)),
        "{report}"
    );
    assert_eq!(report.cases.len(), all().len());
}

#[tokio::test]
async fn the_mock_worker_conforms() {
    conforms(&check(&[MOCK], SLOW, &[]).await, &["reasoning"]);
    // What only some models can do.
    let skip: Vec<String> = all().iter().map(|case| case.name.to_owned()).collect();
    let skip: Vec<String> = skip
        .into_iter()
        .filter(|name| name != "reasoning")
        .collect();
    let report = check(&[MOCK], "answer=think", &skip).await;
    assert_eq!(
        (report.cases.len(), report.failed().len()),
        (1, 0),
        "{report}"
    );
    assert_eq!(report.cases[0].outcome, Outcome::Passed, "{report}");
}

fn launcher(command: &[&str], model: &str) -> Launcher {
    Launcher {
        command: command.iter().map(ToString::to_string).collect(),
        model: model.to_owned(),
        ready_limit: Duration::from_secs(60),
    }
}

#[tokio::test]
async fn a_worker_that_runs_is_checked_and_stays_as_it_was() {
    let worker = launcher(&[MOCK], SLOW).start().await.unwrap();
    let target = |token_file| Target::Url {
        url: format!("{}/", worker.endpoint.base),
        token_file,
    };
    // The second run finds nothing of the first one.
    for _ in 0..2 {
        let file = worker.process.token_file.clone();
        let report = run(target(Some(file)), &[]).await.unwrap();
        let of_programs = all().into_iter().filter(|c| c.needs == Needs::Command);
        let unchecked: Vec<&str> = of_programs.map(|case| case.name).collect();
        conforms(&report, &[&unchecked[..], &["reasoning"]].concat());
        let is_unchecked = |row: &&Row| matches!(row.outcome, Outcome::NotApplicable { .. });
        let count = report.cases.iter().filter(is_unchecked).count();
        assert_eq!(count, unchecked.len() + 1, "{report}");
    }
    let error = run(target(None), &[]).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}

#[tokio::test]
async fn a_running_worker_that_breaks_a_promise_fails_its_case() {
    const BROKEN: &str = "max-tokens";
    let script = file("bin/worker-rbee/tests/conformance/broken_worker.py");
    let command = [
        "python3",
        &script,
        "--break",
        BROKEN,
        "--inner",
        MOCK,
        "{options}",
    ];
    let worker = launcher(&command, SLOW).start().await.unwrap();
    let target = Target::Url {
        url: worker.endpoint.base.clone(),
        token_file: Some(worker.process.token_file.clone()),
    };
    let report = run(target, &[]).await.unwrap();
    assert_eq!(report.failed(), [BROKEN], "{report}");
}

#[tokio::test]
async fn the_worker_of_the_embedded_model_conforms() {
    let model = file("models/haiku/rbee-haiku-tiny-f16.gguf");
    let report = check(&[CANDLE], &model, &[]).await;
    // Its context is short and its engine fast, so an output can end before it is interrupted.
    let too_short = ["cancel", "deadline", "duplicate-id", "heartbeat-on-change"];
    conforms(
        &report,
        &[&too_short[..], &["reasoning", "stop-sequences"]].concat(),
    );
}

#[tokio::test]
async fn the_worker_of_the_documentation_conforms() {
    let report = check(&["python3", &file("docs/worker-in-python.py")], "any", &[]).await;
    conforms(
        &report,
        &[
            "tokenize",
            "embed",
            "logprobs",
            "constraints",
            "tools",
            "reasoning",
        ],
    );
}

#[tokio::test]
async fn a_broken_promise_fails_its_case_and_no_other() {
    let script = file("bin/worker-rbee/tests/conformance/broken_worker.py");
    let check_broken = async |name: &'static str| {
        let is_in_the_way =
            |case: &&str| *case != name && (!case_of_a_program(name) || *case == INTERVAL);
        let apart = APART.iter().copied().filter(is_in_the_way);
        let skip: Vec<String> = apart.map(ToOwned::to_owned).collect();
        let command = [
            "python3",
            &script,
            "--break",
            name,
            "--inner",
            MOCK,
            "{options}",
        ];
        let report = check(&command, SLOW, &skip).await;
        (report.failed() != [name]).then(|| format!("--break {name}:\n{report}"))
    };
    let wrong: Vec<String> = stream::iter(all())
        .map(|case| check_broken(case.name))
        .buffer_unordered(PARALLEL)
        .filter_map(async |wrong| wrong)
        .collect()
        .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
