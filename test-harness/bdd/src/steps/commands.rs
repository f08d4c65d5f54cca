use std::time::Duration;

use cucumber::{gherkin::Step, given, then, when};
use daemon_shell::Signal;

use crate::{World, eventually};

pub(super) fn link() {}

#[given(regex = r"^I ran `(.*)`$")]
async fn ran(world: &mut World, line: String) {
    let finished = world.run(&line).await.clone();
    assert_eq!(finished.code, Some(0), "{finished:#?}");
}

#[when(regex = r"^I run `(.*)`$")]
async fn run(world: &mut World, line: String) {
    world.run(&line).await;
}

#[given(regex = r"^I started `(.*)` as (\w+)$")]
#[when(regex = r"^I start `(.*)` as (\w+)$")]
fn start(world: &mut World, line: String, name: String) {
    let running = world.start(&line);
    world.running.insert(name, running);
}

#[given(regex = r"^(\w+) has printed `(.*)`$")]
#[when(regex = r"^(\w+) has printed `(.*)`$")]
#[then(regex = r"^(\w+) prints `(.*)`$")]
async fn has_printed(world: &mut World, name: String, text: String) {
    let running = &world.running[&name];
    eventually(Duration::from_secs(30), || async {
        let (out, err) = (running.stdout(), running.stderr());
        if out.contains(&text) || err.contains(&text) {
            Ok(())
        } else {
            Err(format!("no `{text}` in\nstdout: {out}\nstderr: {err}"))
        }
    })
    .await;
}

#[when(regex = r"^(\w+) has printed something to stdout$")]
async fn has_printed_something(world: &mut World, name: String) {
    let running = &world.running[&name];
    eventually(Duration::from_secs(30), || async {
        if running.stdout().trim().is_empty() {
            Err(format!("stdout is empty; stderr: {}", running.stderr()))
        } else {
            Ok(())
        }
    })
    .await;
}

#[when(regex = r"^(\w+) gets (SIGTERM|SIGINT|SIGKILL)$")]
fn send_signal(world: &mut World, name: String, signal: String) {
    world.running[&name].signal(match signal.as_str() {
        "SIGTERM" => Signal::Term,
        "SIGINT" => Signal::Int,
        _ => Signal::Kill,
    });
}

#[then(regex = r"^(\w+) is still running$")]
fn is_running(world: &mut World, name: String) {
    let running = world.running.get_mut(&name).expect("it was started");
    assert!(running.is_running(), "{}", running.stderr());
}

#[then(regex = r"^(\w+) exits$")]
async fn exits(world: &mut World, name: String) {
    exits_within(world, name, 60).await;
}

#[then(regex = r"^(\w+) exits within (\d+) s$")]
async fn exits_within(world: &mut World, name: String, seconds: u64) {
    let running = world.running.remove(&name).expect("it was started");
    world.finished = Some(running.finish(Duration::from_secs(seconds)).await);
}

#[then(regex = r"^the exit code is (\d+)$")]
fn exit_code(world: &mut World, code: i32) {
    let last = world.last();
    assert_eq!(last.code, Some(code), "{last:#?}");
}

#[then(regex = r"^(stdout|stderr) contains `(.*)`$")]
fn contains(world: &mut World, stream: String, text: String) {
    let text = world.fill(&text);
    let output = output(world, &stream);
    assert!(
        output.contains(&text),
        "no `{text}` in:\n{output}\n{:#?}",
        world.last()
    );
}

#[then(regex = r"^(stdout|stderr) does not contain `(.*)`$")]
fn does_not_contain(world: &mut World, stream: String, text: String) {
    let text = world.fill(&text);
    let output = output(world, &stream);
    assert!(!output.contains(&text), "`{text}` in:\n{output}");
}

#[then(regex = r"^(stdout|stderr) is empty$")]
fn is_empty(world: &mut World, stream: String) {
    assert_eq!(output(world, &stream), "", "{:#?}", world.last());
}

#[then(regex = r"^(stdout|stderr) is not empty$")]
fn is_not_empty(world: &mut World, stream: String) {
    assert!(
        !output(world, &stream).trim().is_empty(),
        "{:#?}",
        world.last()
    );
}

/// A line break at the end of the output is ignored.
#[then("stdout is")]
fn stdout_is(world: &mut World, step: &Step) {
    let expected = step
        .docstring
        .as_deref()
        .expect("a text")
        .trim_matches('\n');
    let last = world.last();
    let stdout = last.stdout.strip_suffix('\n').unwrap_or(&last.stdout);
    assert_eq!(stdout, expected, "{last:#?}");
}

#[then(regex = r"^stdout is one of (`.*`)$")]
fn is_one_of(world: &mut World, texts: String) {
    let stdout = world.last().stdout.trim_end();
    let mut texts = texts.trim_matches('`').split("`, `");
    assert!(texts.any(|text| text == stdout), "{stdout}");
}

/// Returns the first error message on standard error.
fn error_line(stderr: &str) -> &str {
    let mut errors = stderr.lines().filter_map(|l| l.strip_prefix("error: "));
    errors
        .next()
        .unwrap_or_else(|| panic!("no error in:\n{stderr}"))
}

#[then(regex = r"^the error is `(.*)`$")]
fn error_is(world: &mut World, text: String) {
    assert_eq!(error_line(&world.last().stderr), world.fill(&text));
}

#[then(regex = r"^the error contains `(.*)`$")]
fn error_contains(world: &mut World, text: String) {
    let text = world.fill(&text);
    let error = error_line(&world.last().stderr);
    assert!(error.contains(&text), "no `{text}` in: {error}");
}

#[then(regex = r"^the hint contains `(.*)`$")]
fn hint_contains(world: &mut World, text: String) {
    let stderr = &world.last().stderr;
    let hint = stderr.split("\n\nhint: ").nth(1);
    assert!(
        hint.is_some_and(|h| h.contains(&text)),
        "no hint with `{text}` in:\n{stderr}"
    );
}

#[then(regex = r"^stdout is (\d+) JSON documents?$")]
fn json_documents(world: &mut World, count: usize) {
    let stdout = &world.last().stdout;
    let documents: Vec<serde_json::Value> = serde_json::Deserializer::from_str(stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap_or_else(|e| panic!("{e}: {stdout}"));
    assert_eq!(documents.len(), count, "{stdout}");
}

#[when(regex = r"^I note the output as (\w+)$")]
fn note_output(world: &mut World, name: String) {
    let output = world.last().stdout.clone();
    assert!(!output.trim().is_empty(), "{:#?}", world.last());
    world.noted.insert(name, output);
}

#[then(regex = r"^the output equals the output noted as (\w+)$")]
fn equals_noted(world: &mut World, name: String) {
    assert_eq!(world.last().stdout, world.noted[&name]);
}

fn output<'a>(world: &'a World, stream: &str) -> &'a str {
    let last = world.last();
    if stream == "stdout" {
        &last.stdout
    } else {
        &last.stderr
    }
}
