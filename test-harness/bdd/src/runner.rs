use std::{
    env, fs, io,
    net::{Ipv6Addr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cucumber::{
    StatsWriter as _, World as _, WriterExt as _, cli, gherkin::tagexpr::TagOperation,
    tag::Ext as _, writer,
};
use futures::FutureExt as _;

use crate::{World, steps};

/// Reports that no scenario of these features can run on this machine.
pub fn not_run(features: &[&str], reason: &str) -> ExitCode {
    let text = |feature: &&str| fs::read_to_string(feature_file(feature)).unwrap();
    let count = |text: String| {
        let lines = text.lines();
        lines
            .filter(|line| line.trim_start().starts_with("Scenario"))
            .count()
    };
    let skipped: usize = features.iter().map(text).map(count).sum();
    println!("not run: {reason}");
    println!("bdd: 0 passed, 0 failed, {skipped} skipped");
    ExitCode::SUCCESS
}

/// Tags of scenarios that need something, with whether this machine has it.
fn requirements() -> Vec<(&'static str, bool)> {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    vec![
        ("gpu", env::var_os("RBEE_BDD_GPU").is_some()),
        ("ipv6", has_ipv6),
        (
            "workspace_build",
            env::var_os("RBEE_WORKSPACE_BUILD").is_some(),
        ),
        ("llama_cpp", env::var_os("RBEE_LLAMA_SERVER").is_some()),
        ("platforms", env::var_os("RBEE_PLATFORMS").is_some()),
    ]
}

fn feature_file(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(format!("features/{name}.feature"))
}

/// Runs feature files by name. Exit code 0 means that at least one scenario ran, none failed,
/// and no step was undefined.
///
/// `--tags` and `--name` select scenarios, and `RBEE_BDD_ONLY=110,140` selects features by
/// number. Scenarios with the tag `@gpu` run only with `RBEE_BDD_GPU=1`, those with `@ipv6` only
/// where the loopback interface has an IPv6 address, those with `@platforms` only in
/// `cargo xtask outside platforms`, those with `@llama_cpp` only in `cargo xtask outside engines`,
/// and those with `@workspace_build`, which build this workspace once more, only with
/// `RBEE_WORKSPACE_BUILD=1`. The others are counted as skipped.
pub async fn run(features: &[&str]) -> ExitCode {
    steps::link();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let reports =
        env::var_os("RBEE_BDD_REPORTS").map_or_else(|| root.join("target/bdd"), PathBuf::from);
    fs::create_dir_all(&reports).expect("the directory for reports is created");

    let (mut ok, mut passed, mut failed, mut skipped) = (true, 0, 0, 0);
    let only = env::var("RBEE_BDD_ONLY").unwrap_or_default();
    let selected = |feature: &str| {
        only.is_empty()
            || only
                .split(',')
                .any(|n| feature.starts_with(&format!("{n}-")))
    };
    for feature in features.iter().filter(|f| selected(f)) {
        let path = feature_file(feature);
        assert!(path.exists(), "{} is missing", path.display());
        let result = run_one(&path, &reports, feature).await;
        ok &= result.ok;
        passed += result.passed;
        failed += result.failed;
        skipped += result.skipped;
    }
    println!("bdd: {passed} passed, {failed} failed, {skipped} skipped");
    if !ok {
        ExitCode::FAILURE
    } else if passed == 0 {
        println!("bdd: no scenario matched");
        // A filter may match only scenarios of other features.
        if env::args().any(|a| a.starts_with("--tags") || a.starts_with("--name")) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    } else {
        ExitCode::SUCCESS
    }
}

/// Result of one feature.
struct FeatureResult {
    ok: bool,
    /// Number of scenarios that passed.
    passed: usize,
    /// Number of scenarios that failed.
    failed: usize,
    /// Number of scenarios that cannot run on this machine.
    skipped: usize,
}

async fn run_one(path: &Path, reports: &Path, name: &str) -> FeatureResult {
    let file = |extension: &str| {
        let path = reports.join(format!("{name}.{extension}"));
        fs::File::create(path).expect("the report is created")
    };
    let mut opts = cli::Opts::<_, _, _, cli::Empty>::parsed();
    let user: Option<TagOperation> = opts.tags_filter.take();
    let requirements = requirements();
    let skipped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&skipped);
    let outcome = World::cucumber()
        .max_concurrent_scenarios(4)
        .with_writer(
            writer::Basic::raw(io::stdout(), writer::Coloring::Never, 0)
                .summarized()
                .tee::<World, _>(writer::JUnit::for_tee(file("junit.xml"), 0))
                .tee::<World, _>(writer::Json::for_tee(file("json")))
                .normalized(),
        )
        .fail_on_skipped()
        .with_cli(opts)
        .after(|_, _, _, _, world| {
            async move {
                if let Some(world) = world {
                    world.check_tasks().await;
                }
            }
            .boxed_local()
        })
        .filter_run(path.to_path_buf(), move |feature, _, scenario| {
            let tags = || scenario.tags.iter().chain(&feature.tags);
            let has = |tag: &str| tags().any(|t| t == tag);
            let is_selected = !has("wip") && user.as_ref().is_none_or(|u| u.eval(tags()));
            let missing = requirements
                .iter()
                .find(|(tag, is_met)| !is_met && has(tag));
            if let (true, Some((tag, _))) = (is_selected, missing) {
                println!("not run: {}: this machine has no {tag}", scenario.name);
                counter.fetch_add(1, Ordering::Relaxed);
            }
            is_selected && missing.is_none()
        })
        .await;
    // Each scenario is one test case of the JUnit report.
    let report = fs::read_to_string(reports.join(format!("{name}.junit.xml"))).unwrap();
    let failed = report.matches("<failure").count();
    FeatureResult {
        ok: !outcome.execution_has_failed(),
        passed: report.matches("<testcase ").count().saturating_sub(failed),
        failed,
        skipped: skipped.load(Ordering::Relaxed),
    }
}
