use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;

use crate::cargo::{build_binaries, root};

/// Options of `cargo xtask haiku`.
#[derive(Args)]
pub struct HaikuArgs {
    /// Backend that must run the model: `cpu`, `cuda` or `metal`
    #[arg(long, default_value = "cpu")]
    pub backend: String,
    /// Model to use instead of the embedded one
    #[arg(long)]
    pub model: Option<String>,
    /// Node that must run the model
    #[arg(long)]
    pub node: Option<String>,
    /// Use release builds, which take longer to build
    #[arg(long)]
    pub release: bool,
}

/// Runs the haiku acceptance test and prints its output.
pub fn run(args: &HaikuArgs) -> Result<()> {
    let bin_dir = build_binaries(args.release)?;
    let (report, path) = accept(&bin_dir, args, true)?;
    println!();
    println!("report: {}", path.display());
    if report.passed() {
        println!(
            "haiku: passed in {:.1} s",
            report.details["seconds"].as_f64().unwrap_or(0.0)
        );
        return Ok(());
    }
    for miss in &report.misses {
        println!("haiku: {miss}");
    }
    bail!("the haiku acceptance test failed");
}

/// Runs the test with the binaries in `bin_dir`; returns the report and its path.
pub fn accept(bin_dir: &Path, args: &HaikuArgs, show: bool) -> Result<(haiku::Report, PathBuf)> {
    let stamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let directory = root().join("target/haiku");
    let home = directory.join(format!("home-{stamp}"));
    fs::create_dir_all(&directory).context("cannot create the directory of the report")?;
    let options = haiku::Options {
        bin_dir: bin_dir.to_owned(),
        home: home.clone(),
        model: args.model.clone(),
        backend: args.backend.clone(),
        node: args.node.clone(),
        environment: BTreeMap::new(),
        show,
    };
    let report = haiku::run(&options).map_err(|e| anyhow!("{e}"));
    let logs = directory.join(format!("logs-{stamp}"));
    if report.as_ref().is_ok_and(haiku::Report::passed) {
        fs::remove_dir_all(&home).context("cannot remove the state directory of the test")?;
    } else {
        fs::rename(&home, &logs)?;
        println!("logs: {}", logs.display());
    }
    let report = report?;
    let path = directory.join(format!("report-{stamp}.json"));
    fs::write(&path, serde_json::to_vec_pretty(&report.details)?)?;
    Ok((report, path))
}
