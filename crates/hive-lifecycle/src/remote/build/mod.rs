//! Programs that are built on the node, because those of this release do not run there.

use std::time::Duration;

use diagnostics::{Diagnostic, Narration, escape};
use input_validation::{BranchName, RepositoryUrl};
use preflight_validation::check_toolchain;
use ssh_link::{RemoteCommand, SshSession};
use tokio::time::{Instant, sleep};

use super::{RemoteHive, Report, release::Release, scripts::with_runs, text};
use crate::{errors, log_tail};

/// Longest time for a build.
const LIMIT: Duration = Duration::from_secs(2 * 3600);
/// How often a build is asked how far it is. It continues while the link is lost.
const POLL: Duration = Duration::from_secs(1);
/// Longest time without a link to the node, after which nobody waits for the build any more.
const LINK_LIMIT: Duration = Duration::from_secs(120);
/// Lines of its log that are reported if a build fails.
const LOG_LINES: usize = 10;
/// Status of [`START`] if another build is running.
const OTHER_BUILD: i32 = 73;
/// What is built.
pub(super) const PROGRAMS: &[&str] = &[Release::HIVE, "llm-cpu-worker-rbee"];

const TOOLCHAIN: &str = include_str!("toolchain.sh");
const START: &str = with_runs!(include_str!("start.sh"));
const STATE: &str = with_runs!(include_str!("state.sh"));
const TAKE: &str = include_str!("take.sh");

/// Where the source of rbee is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub repository: RepositoryUrl,
    /// `None` is the default branch of the repository.
    pub branch: Option<BranchName>,
}

/// How far a build is.
#[derive(Debug, PartialEq, Eq)]
struct BuildState {
    progress: BuildProgress,
    /// The commit that is built, when it is known.
    commit: Option<String>,
    last_line: String,
}

#[derive(Debug, PartialEq, Eq)]
enum BuildProgress {
    Running,
    /// It ended with this status.
    Ended(i32),
    /// It was killed.
    Lost,
}

impl RemoteHive {
    /// Builds the programs on the node; returns the name of their directory. Their versions are
    /// not checked.
    pub(super) async fn build(
        &self,
        session: &SshSession,
        source: &Source,
        report: Report<'_>,
    ) -> Result<String, Diagnostic> {
        let node = &self.config.name;
        let tools = session
            .run_ok(&RemoteCommand::new("find the toolchain", TOOLCHAIN))
            .await?;
        let tools = String::from_utf8_lossy(&tools.stdout).into_owned();
        let found = check_toolchain(&tools).map_err(|m| errors::no_toolchain(node, &m))?;
        let of = match &source.branch {
            Some(branch) => format!("{branch} of {}", source.repository),
            None => source.repository.to_string(),
        };
        let message = format!("Building {of} on {node} with {found}.");
        report(Narration::info("queen", "build", message));

        let log = self.home().build_log();
        let branch = source.branch.as_ref().map_or("", BranchName::as_str);
        let mut start = RemoteCommand::new("start the build", START)
            .arg(self.config.directory.as_str())
            .arg(source.repository.as_str())
            .arg(branch)
            .arg(text(&log)?);
        for program in PROGRAMS {
            start = start.arg(program);
        }
        let started = session.run(&start).await?;
        match started.status {
            0 => {}
            OTHER_BUILD => return Err(errors::other_build(node)),
            status => return Err(errors::build_not_started(node, status, &started.stderr)),
        }
        let commit = self.follow(report).await?;
        let version = format!("{}-git-{}", Release::VERSION, &commit[..8]);
        let mut take = RemoteCommand::new("take the programs", TAKE)
            .arg(self.config.directory.as_str())
            .arg(&version);
        for program in PROGRAMS {
            take = take.arg(program);
        }
        self.session().await?.run_ok(&take).await?;
        let message = format!("Built commit {}.", &commit[..8]);
        report(Narration::info("queen", "build", message));
        Ok(version)
    }

    /// Waits for the build and reports what it does. Returns the commit that was built.
    async fn follow(&self, report: Report<'_>) -> Result<String, Diagnostic> {
        let node = &self.config.name;
        let deadline = Instant::now() + LIMIT;
        let mut lost_since = None;
        let mut shown = String::new();
        while Instant::now() < deadline {
            let state = match self.build_state().await {
                Ok(state) => state,
                Err(error) => {
                    let since = *lost_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > LINK_LIMIT {
                        return Err(error);
                    }
                    sleep(POLL).await;
                    continue;
                }
            };
            lost_since = None;
            if state.last_line != shown && !state.last_line.is_empty() {
                shown.clone_from(&state.last_line);
                report(Narration::info("queen", "build", state.last_line));
            }
            match (state.progress, state.commit) {
                (BuildProgress::Running, _) => sleep(POLL).await,
                (BuildProgress::Ended(0), Some(commit)) => return Ok(commit),
                (BuildProgress::Ended(status), _) => {
                    let what = format!("ended with status {status}");
                    return Err(self.build_failed(&what).await);
                }
                (BuildProgress::Lost, _) => return Err(self.build_failed("was killed").await),
            }
        }
        Err(errors::build_too_slow(node, LIMIT))
    }

    async fn build_state(&self) -> Result<BuildState, Diagnostic> {
        let log = self.home().build_log();
        let command = RemoteCommand::new("follow the build", STATE)
            .arg(self.config.directory.as_str())
            .arg(text(&log)?);
        let output = self.session().await?.run_ok(&command).await?;
        let printed = String::from_utf8_lossy(&output.stdout);
        parse(&printed).ok_or_else(|| errors::build_unknown(&self.config.name, &printed))
    }

    async fn build_failed(&self, what: &str) -> Diagnostic {
        let log = self.log(queen_contract::NodeLog::Build, 200).await;
        let lines = log_tail::last_lines_in(&log.unwrap_or_default(), LOG_LINES);
        errors::build_failed(&self.config.name, what, &lines)
    }
}

fn parse(printed: &str) -> Option<BuildState> {
    let mut lines = printed.lines();
    let progress = match lines.next()? {
        "running" => BuildProgress::Running,
        "lost" => BuildProgress::Lost,
        status => BuildProgress::Ended(status.parse().ok()?),
    };
    let commit = lines.next()?;
    let is_commit = commit.len() >= 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    Some(BuildState {
        progress,
        commit: is_commit.then(|| commit.to_owned()),
        last_line: lines
            .next()
            .map(|line| escape(line.trim()))
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_build_is_read() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let state = |progress, commit: Option<&str>, last_line: &str| BuildState {
            progress,
            commit: commit.map(str::to_owned),
            last_line: last_line.to_owned(),
        };
        for (text, expected) in [
            ("running\n\n", Some(state(BuildProgress::Running, None, ""))),
            (
                &format!("0\n{commit}\n    Finished `release`\n"),
                Some(state(
                    BuildProgress::Ended(0),
                    Some(commit),
                    "Finished `release`",
                )),
            ),
            (
                "101\n../../x\nerror: \u{1b}[31m\n",
                Some(state(BuildProgress::Ended(101), None, r"error: \u{1b}[31m")),
            ),
            ("lost\n\n", Some(state(BuildProgress::Lost, None, ""))),
            ("x\n\n", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
