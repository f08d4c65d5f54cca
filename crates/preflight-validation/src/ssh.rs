use diagnostics::{Code, Diagnostic};
use hive_contract::{PreflightCheck, PreflightLevel};

use crate::{check::Check, hive::Version};

/// Latency of a connection above which a user is warned, in milliseconds.
const SLOW_MS: u64 = 100;

/// What a probe found about one requirement.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding<T = ()> {
    /// It is met.
    Met(T),
    /// It is not met.
    NotMet(Diagnostic),
    /// It was not probed, because an earlier requirement is not met.
    Unknown,
}

/// What a probe found about a node over SSH.
#[derive(Debug, Clone, PartialEq)]
pub struct SshProbe {
    /// Whether the SSH server responds.
    pub reachable: Finding,
    /// Whether it accepts the credentials.
    pub authenticated: Finding,
    /// Whether it runs a command.
    pub runs_commands: Finding,
    /// Duration of a command that does nothing, in milliseconds.
    pub latency_ms: Option<u64>,
    /// Version of the hive's binary on the node.
    pub hive: Finding<Version>,
}

/// Checks whether a node can be used over SSH by a queen of version `own`.
pub fn check_ssh(probe: &SshProbe, own: &Version) -> Vec<PreflightCheck> {
    let check = |name, requirement: &str| Check::new(PreflightLevel::Ssh, name, requirement);
    let step = |check: Check, finding: &Finding, met: &str, hint: &str| match finding {
        Finding::Met(()) => check.pass(met),
        Finding::NotMet(error) => check.refuse(error, hint),
        Finding::Unknown => check.skip("not checked"),
    };
    vec![
        step(
            check("reachable", "the SSH server responds"),
            &probe.reachable,
            "it responds",
            "check host, port and network: `ssh -v HOST`",
        ),
        step(
            check("authenticated", "the SSH server accepts the key"),
            &probe.authenticated,
            "it accepts the key",
            "list the keys of the agent with `ssh-add -l`, and check the permissions of the key",
        ),
        step(
            check("commands", "the user can run commands"),
            &probe.runs_commands,
            "a command ran",
            "check the login shell of the user: `ssh HOST true`",
        ),
        latency(
            check("latency", "at most 100 ms for a command"),
            probe.latency_ms,
        ),
        installed(
            check("hive binary", "rbee-hive is installed on the node"),
            &probe.hive,
            own,
        ),
    ]
}

fn latency(check: Check, latency_ms: Option<u64>) -> PreflightCheck {
    let Some(latency) = latency_ms else {
        return check.skip("not checked");
    };
    let check = check.detail("latency_ms", latency);
    if latency > SLOW_MS {
        check.warn(
            format!("{latency} ms"),
            "each token takes this long at least once; prefer a node that is closer",
        )
    } else {
        check.pass(format!("{latency} ms"))
    }
}

fn installed(check: Check, hive: &Finding<Version>, own: &Version) -> PreflightCheck {
    match hive {
        Finding::Met(version) if version.version == own.version => {
            check.pass(format!("version {}", version.version))
        }
        Finding::Met(version) => check
            .detail("hive_version", version.version.as_str())
            .detail("queen_version", own.version.as_str())
            .warn(
                format!(
                    "version {}, the queen has version {}",
                    version.version, own.version
                ),
                "install the release of the queen on the node",
            ),
        Finding::NotMet(error) => check.refuse(error, "install rbee on the node"),
        Finding::Unknown => check.skip("not checked"),
    }
}

impl Finding {
    /// Creates the finding of a step that failed with `code`.
    pub fn not_met(code: Code, message: impl Into<String>) -> Self {
        Self::NotMet(Diagnostic::new(code, message))
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::Verdict;

    use super::*;
    use crate::testing::assert_explained;

    fn version(version: &str) -> Version {
        Version {
            version: version.to_owned(),
            api_version: 1,
        }
    }

    fn good() -> SshProbe {
        SshProbe {
            reachable: Finding::Met(()),
            authenticated: Finding::Met(()),
            runs_commands: Finding::Met(()),
            latency_ms: Some(100),
            hive: Finding::Met(version("1")),
        }
    }

    #[test]
    fn each_finding_has_its_check() {
        use Verdict::{Fail, Pass, Skipped, Warn};
        let unreachable = SshProbe {
            reachable: Finding::not_met(Code::SshUnreachable, "no connection in 10 s"),
            authenticated: Finding::Unknown,
            runs_commands: Finding::Unknown,
            latency_ms: None,
            hive: Finding::Unknown,
        };
        let refused = SshProbe {
            reachable: Finding::Met(()),
            authenticated: Finding::not_met(Code::SshAuthFailed, "permission denied"),
            ..unreachable.clone()
        };
        let slow = SshProbe {
            latency_ms: Some(101),
            ..good()
        };
        let missing = SshProbe {
            hive: Finding::NotMet(Diagnostic::new(Code::HiveNotInstalled, "no rbee-hive")),
            ..good()
        };
        let older = SshProbe {
            hive: Finding::Met(version("0")),
            ..good()
        };
        for (probe, verdicts, code) in [
            (good(), [Pass; 5], None),
            (
                unreachable,
                [Fail, Skipped, Skipped, Skipped, Skipped],
                Some(Code::SshUnreachable),
            ),
            (
                refused,
                [Pass, Fail, Skipped, Skipped, Skipped],
                Some(Code::SshAuthFailed),
            ),
            (slow, [Pass, Pass, Pass, Warn, Pass], None),
            (
                missing,
                [Pass, Pass, Pass, Pass, Fail],
                Some(Code::HiveNotInstalled),
            ),
            (older, [Pass, Pass, Pass, Pass, Warn], None),
        ] {
            let checks = check_ssh(&probe, &version("1"));
            assert_explained(&checks);
            let found: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
            assert_eq!(found, verdicts, "{probe:?}");
            assert_eq!(checks.iter().find_map(|check| check.code), code);
        }
    }
}
