use std::path::PathBuf;

use diagnostics::{Code, Diagnostic};
use hive_contract::{Disk, PreflightCheck, PreflightLevel};

use crate::{check::Check, machine::disk, ssh::Finding};

/// A program that a queen needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Where it is expected.
    pub path: PathBuf,
    /// Whether an executable file is there.
    pub executable: bool,
}

/// A TCP port that the queen listens on.
#[derive(Debug, Clone, PartialEq)]
pub enum Port {
    /// Any free port will do.
    Any,
    /// Nothing listens on it.
    Free(u16),
    /// The running queen of this home listens at this URL.
    Queen(String),
    /// It cannot be used.
    Unusable(Diagnostic),
}

/// What a probe found on the machine of a queen.
#[derive(Debug, Clone, PartialEq)]
pub struct QueenProbe {
    /// The home directory, or why it cannot be used.
    pub home: Result<PathBuf, Diagnostic>,
    /// Disk of the home; absent if it was not probed.
    pub disk: Option<Disk>,
    /// The binaries of queen and hive.
    pub programs: Vec<Program>,
    /// The port of the queen.
    pub port: Port,
}

/// Checks whether the queen responds.
pub fn check_queen_responds(responds: &Finding<String>) -> PreflightCheck {
    let check = Check::new(PreflightLevel::Queen, "api", "a queen that responds");
    match responds {
        Finding::Met(url) => check.pass(format!("it responds at {url}")),
        Finding::NotMet(error) => check.refuse(error, "see its log with `rbee-keeper queen logs`"),
        Finding::Unknown => check.skip("no queen was started, because of the failed checks"),
    }
}

/// Checks whether a queen can run on this machine.
pub fn check_queen(probe: &QueenProbe) -> Vec<PreflightCheck> {
    let level = PreflightLevel::Queen;
    let home = Check::new(level, "home", "a home directory that can be written");
    let home = match &probe.home {
        Ok(path) => home.pass(path.display().to_string()),
        Err(error) => home.refuse(error, "choose another directory with `--home DIR`"),
    };
    let space = match probe.disk {
        Some(space) => disk(level, space),
        None => Check::new(level, "disk", "free space").skip("the home cannot be used"),
    };
    vec![home, space, programs(&probe.programs), port(&probe.port)]
}

fn programs(programs: &[Program]) -> PreflightCheck {
    let check = Check::new(
        PreflightLevel::Queen,
        "binaries",
        "the programs of queen and hive",
    );
    let paths = |programs: &[&Program]| {
        let paths: Vec<String> = programs
            .iter()
            .map(|program| program.path.display().to_string())
            .collect();
        paths.join(", ")
    };
    let (found, missing): (Vec<_>, Vec<_>) =
        programs.iter().partition(|program| program.executable);
    if missing.is_empty() {
        return check.pass(paths(&found));
    }
    check.fail(
        format!("no executable at {}", paths(&missing)),
        Code::QueenStartFailed,
        "rbee binaries must be in the same directory; build them with `cargo build`",
    )
}

fn port(port: &Port) -> PreflightCheck {
    let check = Check::new(PreflightLevel::Queen, "port", "a port for the queen");
    match port {
        Port::Any => check.pass("any free port"),
        Port::Free(port) => check.pass(format!("port {port} is free")),
        Port::Queen(url) => check.pass(format!("the queen listens at {url}")),
        // The hint of the error names the option of the queen, not that of the keeper.
        Port::Unusable(error) => check.fail(
            error.message.clone(),
            error.code,
            "stop the process that listens there, or choose another port with `--queen-port PORT`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use hive_contract::Verdict;

    use super::*;
    use crate::testing::assert_explained;

    #[test]
    fn everything_that_keeps_a_queen_from_starting_is_named_at_once() {
        let program = |name: &str, executable| Program {
            path: PathBuf::from("/bin").join(name),
            executable,
        };
        let good = QueenProbe {
            home: Ok("/srv/rbee".into()),
            disk: Some(Disk {
                total_bytes: 1 << 40,
                free_bytes: 1 << 39,
            }),
            programs: vec![program("queen-rbee", true), program("rbee-hive", true)],
            port: Port::Free(8500),
        };
        let verdicts = |probe: &QueenProbe| {
            let checks = check_queen(probe);
            assert_explained(&checks);
            checks
                .iter()
                .map(|check| (check.verdict, check.code))
                .collect::<Vec<_>>()
        };
        assert_eq!(verdicts(&good), [(Verdict::Pass, None); 4]);
        let broken = QueenProbe {
            home: Err(Diagnostic::new(Code::StateUnusable, "permission denied")),
            disk: None,
            programs: vec![program("queen-rbee", true), program("rbee-hive", false)],
            port: Port::Unusable(Diagnostic::new(Code::PortInUse, "in use")),
        };
        assert_eq!(
            verdicts(&broken),
            [
                (Verdict::Fail, Some(Code::StateUnusable)),
                (Verdict::Skipped, None),
                (Verdict::Fail, Some(Code::QueenStartFailed)),
                (Verdict::Fail, Some(Code::PortInUse)),
            ]
        );
        assert!(check_queen(&broken)[2].measured.contains("/bin/rbee-hive"));
    }
}
