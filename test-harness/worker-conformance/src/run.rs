use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use tokio::time::{Instant, timeout};

use crate::{
    bench::{Bench, Started},
    case::{Case, Needs},
    cases,
    endpoint::Endpoint,
    launch::{Launcher, Target},
    report::{Report, Row},
    verdict::{Checked, miss, not_applicable},
};

/// Much longer than a case takes; exceeded only by a worker that hangs.
const HANG: Duration = Duration::from_secs(60);

/// Checks all cases but those named in `skip`.
///
/// Fails if the worker cannot be started or reached; then there is nothing to check.
pub async fn run(target: Target, skip: &[String]) -> Result<Report> {
    let begin = Instant::now();
    let mut bench = match target {
        Target::Url { url, token_file } => {
            let read = |path: std::path::PathBuf| {
                let text: std::io::Result<String> = fs::read_to_string(&path);
                text.with_context(|| format!("cannot read {}", path.display()))
            };
            let token = token_file.map(read).transpose()?;
            let token = token.map(|token| token.trim().to_owned());
            let base = url.trim_end_matches('/').to_owned();
            let endpoint = Endpoint::new(base, token)?;
            Bench {
                endpoint,
                started: None,
            }
        }
        Target::Command {
            command,
            model,
            ready_limit,
        } => {
            let launcher = Launcher {
                command,
                model,
                ready_limit,
            };
            let (worker, idle) = tokio::try_join!(launcher.start(), launcher.start())?;
            Bench {
                endpoint: worker.endpoint.clone(),
                started: Some(Started {
                    launcher,
                    worker,
                    idle,
                }),
            }
        }
    };
    let info = bench.endpoint.info().await;
    let info = info.map_err(|verdict| {
        let url = &bench.endpoint.base;
        anyhow::anyhow!("`GET {url}/info` does not succeed: {verdict}")
    })?;
    let chosen = bench.endpoint.choose_inputs().await;
    chosen.map_err(|verdict| anyhow::anyhow!("the worker does not answer: {verdict}"))?;
    let mut report = Report {
        worker: format!(
            "{} {}",
            info["implementation"].as_str().unwrap_or("?"),
            info["version"].as_str().unwrap_or("?")
        ),
        seconds: 0.0,
        cases: Vec::new(),
    };
    for case in cases::all() {
        if !skip.iter().any(|name| name == case.name) {
            let begin = Instant::now();
            let checked = check(&mut bench, &case).await;
            let ms = begin.elapsed().as_millis() as u64;
            report.cases.push(Row::new(&case, checked, ms));
        }
    }
    report.seconds = begin.elapsed().as_secs_f64();
    Ok(report)
}

async fn check(bench: &mut Bench, case: &Case) -> Checked {
    if case.needs == Needs::Command && bench.started.is_none() {
        return Err(not_applicable("needs `--command`: it starts the worker"));
    }
    let limit = format!("the check ends within {} s", HANG.as_secs());
    let checked = timeout(HANG, (case.check)(bench)).await;
    checked.unwrap_or_else(|_| Err(miss(limit, "it does not end")))
}
