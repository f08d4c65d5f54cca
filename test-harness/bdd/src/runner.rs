use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cucumber::{
    StatsWriter as _, World as _, WriterExt as _, cli, gherkin::tagexpr::TagOperation,
    tag::Ext as _, writer,
};
use futures::FutureExt as _;

use crate::{World, steps};

/// Runs feature files by name. Exit code 0 means that at least one scenario ran, none failed,
/// and no step was undefined.
///
/// `--tags` and `--name` select scenarios, and `RBEE_BDD_ONLY=110,140` selects features by
/// number. Scenarios with the tag `@gpu` run only with `RBEE_BDD_GPU=1`.
pub async fn run(features: &[&str]) -> ExitCode {
    steps::link();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let reports =
        env::var_os("RBEE_BDD_REPORTS").map_or_else(|| root.join("target/bdd"), PathBuf::from);
    fs::create_dir_all(&reports).expect("the directory for reports is created");

    let (mut ok, mut passed, mut failed) = (true, 0, 0);
    let only = env::var("RBEE_BDD_ONLY").unwrap_or_default();
    let selected = |feature: &str| {
        only.is_empty()
            || only
                .split(',')
                .any(|n| feature.starts_with(&format!("{n}-")))
    };
    for feature in features.iter().filter(|f| selected(f)) {
        let path = root.join(format!("features/{feature}.feature"));
        assert!(path.exists(), "{} is missing", path.display());
        let result = run_one(&path, &reports, feature).await;
        ok &= result.ok;
        passed += result.passed;
        failed += result.failed;
    }
    println!("bdd: {passed} passed, {failed} failed");
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
}

async fn run_one(path: &Path, reports: &Path, name: &str) -> FeatureResult {
    let file = |extension: &str| {
        let path = reports.join(format!("{name}.{extension}"));
        fs::File::create(path).expect("the report is created")
    };
    let mut opts = cli::Opts::<_, _, _, cli::Empty>::parsed();
    let user: Option<TagOperation> = opts.tags_filter.take();
    let gpu = env::var_os("RBEE_BDD_GPU").is_some();
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
            !has("wip") && (gpu || !has("gpu")) && user.as_ref().is_none_or(|u| u.eval(tags()))
        })
        .await;
    // Each scenario is one test case of the JUnit report.
    let report = fs::read_to_string(reports.join(format!("{name}.junit.xml"))).unwrap();
    let failed = report.matches("<failure").count();
    FeatureResult {
        ok: !outcome.execution_has_failed(),
        passed: report.matches("<testcase ").count().saturating_sub(failed),
        failed,
    }
}
