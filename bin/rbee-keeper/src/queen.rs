use diagnostics::{Diagnostic, escape};
use queen_lifecycle::{Ending, Stopped};
use serde_json::json;

use crate::{
    cli::Queen,
    errors,
    failure::Failure,
    render::Screen,
    stopping,
    target::Target,
    values::{DrainArg, LinesArg},
};

/// Runs a subcommand of `rbee-keeper queen`.
pub(crate) async fn run(
    command: Queen,
    target: &Target,
    screen: &mut Screen,
) -> Result<(), Failure> {
    match command {
        Queen::Start => start(target, screen).await,
        Queen::Stop {
            keep_workers,
            drain: DrainArg { drain },
        } => {
            let lifecycle = target.managed()?;
            let stop = lifecycle.stop(!keep_workers, drain);
            let stopped = stopping::narrated(lifecycle, drain, screen, stop).await?;
            let left_behind = match &stopped {
                None if !keep_workers => lifecycle.stop_left_behind(drain).await?,
                _ => Vec::new(),
            };
            if let Some(stopped) = &stopped {
                check_cascade(stopped, !keep_workers)?;
            }
            let result = json!({ "queen": stopped, "left_behind": left_behind });
            screen
                .document(&result, || stop_summary(&left_behind, stopped.as_ref()))
                .await
        }
        Queen::Status => {
            let queen = target.running().await?;
            let health = queen.health().await?;
            let result = json!({
                "url": queen.base(), "pid": health.pid,
                "version": health.version, "api_version": health.api_version,
            });
            screen
                .document(&result, || {
                    located("is running", &health.version, queen.base(), health.pid)
                })
                .await
        }
        Queen::Logs {
            lines: LinesArg { lines },
        } => {
            let log = target.managed()?.logs(lines as usize)?;
            screen.log(&log).await
        }
    }
}

/// Runs `rbee-keeper queen start`.
pub(crate) async fn start(target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let queen = target.managed()?.ensure().await?;
    let result = json!({
        "url": queen.client.base(), "pid": queen.process.pid,
        "version": queen.version, "started": queen.started_by_us,
    });
    let state = if queen.started_by_us {
        "started"
    } else {
        "is already running"
    };
    screen
        .document(&result, || {
            located(
                state,
                &queen.version,
                queen.client.base(),
                queen.process.pid,
            )
        })
        .await
}

fn located(state: &str, version: &str, url: &str, pid: u32) -> String {
    format!("queen {} {state} at {url} (pid {pid})\n", escape(version))
}

/// Returns an error if the queen should have stopped its workers and hives but had to be
/// stopped with a signal, which leaves them running.
pub(crate) fn check_cascade(stopped: &Stopped, cascade: bool) -> Result<(), Diagnostic> {
    match &stopped.refused {
        Some(reason) if cascade => Err(errors::queen_killed(
            stopped.pid,
            signal(stopped.ending),
            reason,
        )),
        _ => Ok(()),
    }
}

const fn signal(ending: Ending) -> &'static str {
    match ending {
        Ending::Shutdown => "a shutdown request",
        Ending::Terminated => "SIGTERM",
        Ending::Killed => "SIGKILL",
    }
}

fn stop_summary(left_behind: &[String], stopped: Option<&Stopped>) -> String {
    let mut lines: Vec<String> = left_behind.iter().map(|what| stopped_line(what)).collect();
    if let Some(stopped) = stopped {
        lines.extend(stopped_lines(stopped));
        let queen = format!("stopped the queen (pid {})", stopped.pid);
        lines.push(match stopped.ending {
            Ending::Shutdown => queen,
            ending => format!("{queen} with {}", signal(ending)),
        });
    } else {
        lines.push(errors::NO_QUEEN.to_owned());
    }
    lines.join("\n") + "\n"
}

/// Returns one line for each worker and hive that the queen stopped before itself.
pub(crate) fn stopped_lines(stopped: &Stopped) -> impl Iterator<Item = String> {
    stopped.stopped.iter().map(|what| stopped_line(what))
}

fn stopped_line(what: &str) -> String {
    format!("stopped {}", escape(what))
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    fn stopped(ending: Ending, refused: Option<Diagnostic>) -> Stopped {
        Stopped {
            pid: 7,
            ending,
            stopped: vec!["worker w-1".into(), "hive local".into()],
            refused,
        }
    }

    #[test]
    fn stop_summary_lists_processes_in_order() {
        assert_eq!(
            stop_summary(&[], Some(&stopped(Ending::Shutdown, None))),
            "stopped worker w-1\nstopped hive local\nstopped the queen (pid 7)\n"
        );
        assert_eq!(
            stop_summary(&[], Some(&stopped(Ending::Killed, None))),
            "stopped worker w-1\nstopped hive local\nstopped the queen (pid 7) with SIGKILL\n"
        );
        assert_eq!(stop_summary(&[], None), "no queen is running\n");
        assert_eq!(
            stop_summary(&["worker w-\u{1b}2".into()], None),
            "stopped worker w-\\u{1b}2\nno queen is running\n"
        );
    }

    #[test]
    fn failed_cascade_is_an_error() {
        let refused = || Some(Diagnostic::new(Code::QueenUnreachable, "refused"));
        let error = check_cascade(&stopped(Ending::Killed, refused()), true).unwrap_err();
        assert_eq!(
            error,
            Diagnostic::new(
                Code::QueenUnreachable,
                "the queen (pid 7) had to be stopped with SIGKILL; its hives and workers may \
                 still be running: refused"
            )
            .hint("run `rbee-keeper queen stop` to stop them")
        );
        assert_eq!(
            check_cascade(&stopped(Ending::Killed, refused()), false),
            Ok(())
        );
        assert_eq!(
            check_cascade(&stopped(Ending::Shutdown, None), true),
            Ok(())
        );
    }
}
