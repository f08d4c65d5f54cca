use diagnostics::{Code, Diagnostic};
use hive_contract::{PreflightCheck, PreflightLevel};

use crate::check::Check;

/// Versions of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Version of the binary.
    pub version: String,
    /// Version of the interface that it speaks.
    pub api_version: u32,
}

/// What the queen found when it called a hive.
#[derive(Debug, Clone, PartialEq)]
pub struct HiveProbe {
    /// What the hive responded, or why it did not.
    pub responds: Result<Version, Diagnostic>,
    /// Version of the queen, with the version of the hive's interface that it speaks.
    pub queen: Version,
}

/// Checks whether the queen can use a hive.
pub fn check_hive(probe: &HiveProbe) -> Vec<PreflightCheck> {
    let api = Check::new(PreflightLevel::Hive, "api", "the hive responds");
    let version = Check::new(
        PreflightLevel::Hive,
        "version",
        format!("interface version {}", probe.queen.api_version),
    );
    match &probe.responds {
        Ok(hive) => vec![
            api.pass("it responds"),
            compatible(version, hive, &probe.queen),
        ],
        // The handshake has compared the versions already.
        Err(error) if error.code == Code::VersionIncompatible => {
            vec![api.pass("it responds"), version.refuse(error, UPGRADE)]
        }
        Err(error) => vec![
            api.refuse(
                error,
                "see the log of the hive, in the directory `logs` of its home",
            ),
            version.skip("the hive does not respond"),
        ],
    }
}

const UPGRADE: &str = "install the same release of rbee for hive and queen, then restart both: \
                       `rbee-keeper queen stop`, `rbee-keeper queen start`";

fn compatible(check: Check, hive: &Version, queen: &Version) -> PreflightCheck {
    let check = check
        .detail("hive_version", hive.version.as_str())
        .detail("queen_version", queen.version.as_str())
        .detail("hive_api_version", hive.api_version)
        .detail("queen_api_version", queen.api_version);
    let both = format!(
        "hive {} with interface version {}, queen {} with interface version {}",
        hive.version, hive.api_version, queen.version, queen.api_version
    );
    if hive.api_version != queen.api_version {
        check.fail(both, Code::VersionIncompatible, UPGRADE)
    } else if hive.version != queen.version {
        check.warn(both, UPGRADE)
    } else {
        check.pass(format!(
            "{} with interface version {}",
            hive.version, hive.api_version
        ))
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::Verdict;

    use super::*;
    use crate::testing::assert_explained;

    fn version(version: &str, api_version: u32) -> Version {
        Version {
            version: version.to_owned(),
            api_version,
        }
    }

    #[test]
    fn both_versions_are_named() {
        use Verdict::{Fail, Pass, Skipped, Warn};
        let down = Diagnostic::new(Code::HiveUnreachable, "connection refused");
        let handshake = Diagnostic::new(Code::VersionIncompatible, "2 and 1");
        for (responds, verdicts, code) in [
            (Ok(version("0.1", 1)), [Pass, Pass], None),
            (Ok(version("0.2", 1)), [Pass, Warn], None),
            (
                Ok(version("0.2", 2)),
                [Pass, Fail],
                Some(Code::VersionIncompatible),
            ),
            (Err(down), [Fail, Skipped], Some(Code::HiveUnreachable)),
            (
                Err(handshake),
                [Pass, Fail],
                Some(Code::VersionIncompatible),
            ),
        ] {
            let probe = HiveProbe {
                responds,
                queen: version("0.1", 1),
            };
            let checks = check_hive(&probe);
            assert_explained(&checks);
            let found: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
            assert_eq!(found, verdicts, "{probe:?}");
            assert_eq!(checks.iter().find_map(|check| check.code), code);
        }
        let probe = HiveProbe {
            responds: Ok(version("0.2", 2)),
            queen: version("0.1", 1),
        };
        let message = check_hive(&probe)[1].message();
        assert!(
            message.contains("0.2") && message.contains("0.1"),
            "{message}"
        );
    }
}
