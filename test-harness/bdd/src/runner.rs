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

/// Runs feature files by name and reports like a test runner: exit code 0 only when at least
/// one scenario ran and none failed or was skipped for want of a step.
///
/// Tags: `--tags` narrows the choice; `RBEE_BDD_ONLY=110,140` leaves only these numbers; `@gpu` scenarios run only with `RBEE_BDD_GPU=1`.
pub async fn run(features: &[&str]) -> ExitCode {
    steps::link();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let reports =
        env::var_os("RBEE_BDD_REPORTS").map_or_else(|| root.join("target/bdd"), PathBuf::from);
    fs::create_dir_all(&reports).expect("a folder for reports");

    let mut failed = false;
    let (mut passed_count, mut failed_count) = (0, 0);
    let only = env::var("RBEE_BDD_ONLY").unwrap_or_default();
    let chosen = |feature: &str| {
        only.is_empty()
            || only
                .split(',')
                .any(|n| feature.starts_with(&format!("{n}-")))
    };
    for feature in features.iter().filter(|f| chosen(f)) {
        let path = root.join(format!("features/{feature}.feature"));
        assert!(path.exists(), "{} is missing", path.display());
        let (ok, passed, broken) = run_one(&path, &reports, feature).await;
        failed |= !ok;
        passed_count += passed;
        failed_count += broken;
    }
    println!("bdd: {passed_count} passed, {failed_count} failed");
    if failed {
        ExitCode::FAILURE
    } else if passed_count == 0 {
        println!("bdd: no scenario matched");
        // A filter that leaves nothing in this file is not a failure of the file.
        if env::args().any(|a| a.starts_with("--tags") || a.starts_with("--name")) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    } else {
        ExitCode::SUCCESS
    }
}

async fn run_one(path: &Path, reports: &Path, stem: &str) -> (bool, usize, usize) {
    let file = |ending: &str| {
        fs::File::create(reports.join(format!("{stem}.{ending}"))).expect("a report file")
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
    let ok = !outcome.execution_has_failed();
    // Each scenario counts once in the JUnit report, which the writers have just closed.
    let report = fs::read_to_string(reports.join(format!("{stem}.junit.xml"))).unwrap_or_default();
    let cases = report.matches("<testcase ").count();
    let broken = report.matches("<failure").count();
    (ok, cases.saturating_sub(broken), broken)
}
