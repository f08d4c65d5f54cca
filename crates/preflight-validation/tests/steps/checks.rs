//! The checks of the last report.

use bdd::{World, table};
use cucumber::{gherkin::Step, then};
use diagnostics::Code;
use hive_contract::{PreflightCheck, PreflightLevel, Verdict};

use super::State;

fn checks(world: &mut World) -> Vec<PreflightCheck> {
    let checks = world.get::<State>().report.checks.clone();
    assert!(!checks.is_empty(), "nothing was checked");
    checks
}

/// Finds a check by name, and by level if it is given, and remembers it.
fn find(world: &mut World, name: &str, of_worker: bool) -> PreflightCheck {
    let checks = checks(world);
    let mut found = checks.iter().filter(|check| {
        check.name == name && (!of_worker || check.level == PreflightLevel::Worker)
    });
    let check = found.next();
    let check = check.unwrap_or_else(|| panic!("no check {name} in {checks:#?}"));
    world.get::<State>().named = Some(check.clone());
    check.clone()
}

fn named(world: &mut World) -> PreflightCheck {
    world
        .get::<State>()
        .named
        .clone()
        .expect("a check is named")
}

fn codes(checks: &[PreflightCheck]) -> String {
    let codes: Vec<String> = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Fail)
        .map(|check| check.code.expect("a failure has a code").to_string())
        .collect();
    codes.join(", ")
}

#[then(regex = r"^the checks of the level (\w+) are$")]
fn verdicts(world: &mut World, level: String, step: &Step) {
    let level: PreflightLevel = serde_json::from_value(level.into()).unwrap();
    let found: Vec<(String, String)> = checks(world)
        .into_iter()
        .filter(|check| check.level == level)
        .map(|check| {
            let verdict = serde_json::to_value(check.verdict).unwrap();
            (check.name, verdict.as_str().unwrap().to_owned())
        })
        .collect();
    let expected: Vec<(String, String)> = table(step)
        .iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(found, expected);
}

#[then(regex = r"^the failed checks have the codes `(.*)`$")]
fn failed(world: &mut World, expected: String) {
    let checks = checks(world);
    assert_eq!(codes(&checks), expected, "{checks:#?}");
}

#[then(regex = r"^the failed checks of the worker have the codes `(.*)`$")]
fn failed_of_worker(world: &mut World, expected: String) {
    let mut checks = checks(world);
    checks.retain(|check| check.level == PreflightLevel::Worker);
    assert_eq!(codes(&checks), expected, "{checks:#?}");
}

#[then("no check fails")]
fn none_fails(world: &mut World) {
    failed(world, String::new());
}

#[then(regex = r"^the check `([^`]*)`( of the worker)? (passes|warns|is skipped)$")]
fn has_verdict(world: &mut World, name: String, level: String, verdict: String) {
    let check = find(world, &name, !level.is_empty());
    let expected = match verdict.as_str() {
        "passes" => Verdict::Pass,
        "warns" => Verdict::Warn,
        _ => Verdict::Skipped,
    };
    assert_eq!(check.verdict, expected, "{check:?}");
}

#[then(regex = r"^the check `([^`]*)`( of the worker)? fails with ([A-Z_]+)$")]
fn fails(world: &mut World, name: String, level: String, code: String) {
    let check = find(world, &name, !level.is_empty());
    let code: Code = serde_json::from_value(code.into()).unwrap();
    assert_eq!(check.verdict, Verdict::Fail, "{check:?}");
    assert_eq!(check.code, Some(code), "{check:?}");
}

#[then(regex = r"^the check `([^`]*)`( of the worker)? names `(.*)`$")]
fn names(world: &mut World, name: String, level: String, text: String) {
    let text = world.fill(&text);
    let check = find(world, &name, !level.is_empty());
    let message = check.message();
    assert!(message.contains(&text), "no `{text}` in: {message}");
}

#[then(regex = r"^its hint contains `(.*)`$")]
fn hint(world: &mut World, text: String) {
    let check = named(world);
    let hint = check.hint.clone().unwrap_or_default();
    assert!(hint.contains(&text), "no `{text}` in the hint of {check:?}");
}

#[then(regex = r"^the hint of `(.*)` contains `(.*)`$")]
fn hint_of(world: &mut World, name: String, text: String) {
    find(world, &name, false);
    hint(world, text);
}

/// The sentence has both numbers, as the user reads them.
#[then(regex = r"^its message has the values (\w+) and (\w+)$")]
fn has_values(world: &mut World, more: String, less: String) {
    let check = named(world);
    let details = check.details.as_ref().expect("details");
    let value = |name: &str| details[name].as_u64().expect("a number");
    let (more, less) = (value(&more), value(&less));
    assert!(more > less, "{check:?}");
    let message = check.message();
    for bytes in [more, less] {
        let size = match bytes {
            0..0x4000_0000 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        };
        assert!(message.contains(&size), "no {size} in: {message}");
    }
}
