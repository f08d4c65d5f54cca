use diagnostics::{Code, Diagnostic};
use queen_lifecycle::{Ending, Stopped};
use serde_json::json;

use crate::{cli::Queen, failure::Failure, render::Screen, target::Target};

/// The commands of `rbee-keeper queen`.
pub async fn run(command: Queen, target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    match command {
        Queen::Start => start(target, screen).await,
        Queen::Stop {
            keep_workers,
            drain,
        } => {
            let lifecycle = target.own()?;
            let stopped = lifecycle.stop(!keep_workers, drain).await?;
            let left_behind = match &stopped {
                None if !keep_workers => lifecycle.stop_left_behind(drain).await?,
                _ => Vec::new(),
            };
            if let Some(stopped) = &stopped {
                cascaded(stopped, !keep_workers)?;
            }
            let answer = json!({ "queen": stopped, "left_behind": left_behind });
            screen
                .document(&answer, || {
                    let lines = left_behind.iter().map(|what| line(what));
                    lines.collect::<String>() + &told(stopped.as_ref())
                })
                .await
        }
        Queen::Status => {
            let queen = target.running().await?;
            let health = queen.health().await?;
            let answer = json!({
                "url": queen.base(), "pid": health.pid,
                "version": health.version, "api_version": health.api_version,
            });
            screen
                .document(&answer, || {
                    format!(
                        "queen {} runs at {} (pid {})\n",
                        diagnostics::escape(&health.version),
                        queen.base(),
                        health.pid
                    )
                })
                .await
        }
        Queen::Logs { lines } => {
            let log = target.own()?.logs(lines.lines as usize)?;
            screen.log(&log).await
        }
    }
}

/// `rbee-keeper queen start`.
pub async fn start(target: &Target, screen: &mut Screen) -> Result<(), Failure> {
    let queen = target.own()?.ensure().await?;
    let answer = json!({
        "url": queen.client.base(), "pid": queen.process.pid,
        "version": queen.version, "started": queen.started_by_us,
    });
    screen
        .document(&answer, || {
            format!(
                "queen {} {} at {} (pid {})\n",
                diagnostics::escape(&queen.version),
                if queen.started_by_us {
                    "started"
                } else {
                    "already runs"
                },
                queen.client.base(),
                queen.process.pid
            )
        })
        .await
}

/// A queen that had to be ended by a signal has not stopped its workers.
pub fn cascaded(stopped: &Stopped, cascade: bool) -> Result<(), Diagnostic> {
    match &stopped.refused {
        Some(why) if cascade => Err(Diagnostic::new(
            Code::QueenUnreachable,
            format!(
                "the queen (pid {}) had to be ended by {}; its hives and workers may still run: {why}",
                stopped.pid,
                signal(stopped.ending),
            ),
        )
        .hint("`rbee-keeper queen start`, then `rbee-keeper queen stop`, ends them as well")),
        _ => Ok(()),
    }
}

const fn signal(ending: Ending) -> &'static str {
    match ending {
        Ending::Shutdown => "a shutdown",
        Ending::Terminated => "SIGTERM",
        Ending::Killed => "SIGKILL",
    }
}

fn told(stopped: Option<&Stopped>) -> String {
    let Some(stopped) = stopped else {
        return "no queen is running\n".to_owned();
    };
    let last = match stopped.ending {
        Ending::Shutdown => format!("stopped the queen (pid {})", stopped.pid),
        by => format!("ended the queen (pid {}) by {}", stopped.pid, signal(by)),
    };
    let lines: Vec<String> = steps(stopped).chain([last]).collect();
    lines.join("\n") + "\n"
}

/// What the queen stopped before itself, one line each.
pub fn steps(stopped: &Stopped) -> impl Iterator<Item = String> {
    stopped
        .stopped
        .iter()
        .map(|what| format!("stopped {}", diagnostics::escape(what)))
}

fn line(what: &str) -> String {
    format!("stopped {}\n", diagnostics::escape(what))
}

#[cfg(test)]
mod tests {
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
    fn what_was_stopped_is_told_in_order() {
        assert_eq!(
            told(Some(&stopped(Ending::Shutdown, None))),
            "stopped worker w-1\nstopped hive local\nstopped the queen (pid 7)\n"
        );
        assert_eq!(told(None), "no queen is running\n");
    }

    #[test]
    fn a_cascade_that_did_not_happen_is_an_error() {
        let refused = || Some(Diagnostic::new(Code::QueenUnreachable, "refused"));
        let error = cascaded(&stopped(Ending::Killed, refused()), true).unwrap_err();
        assert!(error.message.contains("SIGKILL") && error.message.ends_with("refused"));
        assert_eq!(cascaded(&stopped(Ending::Killed, refused()), false), Ok(()));
        assert_eq!(cascaded(&stopped(Ending::Shutdown, None), true), Ok(()));
    }
}
