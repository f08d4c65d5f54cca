//! The errors of this crate.

use std::{io, path::Path, time::Duration};

use diagnostics::{Code, Diagnostic, excerpt};
use hive_contract::{API_VERSION, HiveHealth};
use input_validation::{NodeName, NodeUrl};
use state_files::Home;

pub(crate) fn catalog_invalid() -> Diagnostic {
    let message = "the URL or the key of the catalog contains a control character";
    Diagnostic::new(Code::ConfigInvalid, message)
        .hint("`--catalog` is a URL, `--catalog-key` one line of Base64 or a file with it")
}

pub(crate) fn cannot_execute(program: &Path, error: &io::Error) -> Diagnostic {
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::HiveNotInstalled,
        _ => Code::HiveStartFailed,
    };
    Diagnostic::new(code, format!("cannot start {}: {error}", program.display()))
        .hint("rbee binaries must be in the same directory; build them with `cargo build`")
}

/// The hive reported why it cannot start.
pub(crate) fn start_refused(reason: Diagnostic, log: &Path) -> Diagnostic {
    let hint = match reason.code {
        Code::PortInUse => {
            "stop the process that listens there, or choose another port: `rbee-keeper --hive-port PORT queen start`"
                .to_owned()
        }
        _ => reason.hint.unwrap_or_else(|| see(log)),
    };
    Diagnostic::new(
        Code::HiveStartFailed,
        format!("the hive cannot start: {}", reason.message),
    )
    .hint(hint)
}

/// The hive did not start and reported no reason.
pub(crate) fn start_failed(what: &str, last_log_lines: &[String], log: &Path) -> Diagnostic {
    let log_end = if last_log_lines.is_empty() {
        String::new()
    } else {
        format!("; its log ends with: {}", last_log_lines.join(" | "))
    };
    Diagnostic::new(Code::HiveStartFailed, format!("the hive {what}{log_end}")).hint(see(log))
}

pub(crate) fn version_incompatible(url: &str, health: &HiveHealth) -> Diagnostic {
    Diagnostic::new(
        Code::VersionIncompatible,
        format!(
            "the hive at {url} is version {} (interface {}), this queen is version {} (interface {API_VERSION})",
            excerpt(&health.version, 40),
            health.api_version,
            env!("CARGO_PKG_VERSION"),
        ),
    )
    .hint("stop the old hive, then start the queen again: `rbee-keeper queen stop`, `rbee-keeper queen start`")
    .detail("hive_api_version", health.api_version)
    .detail("queen_api_version", API_VERSION)
}

pub(crate) fn exited() -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        "the hive exited and is being restarted",
    )
}

/// A hive that someone else starts does not respond. `cause` says why.
pub(crate) fn not_running(node: &NodeName, url: &NodeUrl, cause: &str) -> Diagnostic {
    let port = url.as_str().rsplit(':').next().unwrap_or_default();
    Diagnostic::new(
        Code::HiveUnreachable,
        format!("node {node} is not reachable: {cause}"),
    )
    .hint(format!(
        "start its hive on that machine: `rbee-hive --hive-id {node} --port {port}`; its log says \
         why it stopped"
    ))
}

pub(crate) fn lost(node: &NodeName, url: &NodeUrl) -> Diagnostic {
    not_running(node, url, &format!("the hive at {url} stopped responding"))
}

/// The hive refused the token of the node. It is no error of the client's key, so it has another
/// code.
pub(crate) fn wrong_token(node: &NodeName, url: &NodeUrl) -> Diagnostic {
    Diagnostic::new(
        Code::HiveStartFailed,
        format!("the hive at {url} does not accept the token of node {node}"),
    )
    .hint(format!(
        "its token is in `{}` of its home, or in the file of its `--token-file`; `rbee-keeper node \
         update {node} --hive-token-file FILE` sends it to the queen",
        Home::NODE_TOKEN
    ))
}

/// The hive of a node whose software the queen manages refused its token. It is no error of the
/// client's key, so it has another code.
pub(crate) fn other_token(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveStartFailed,
        format!(
            "the hive of node {node} does not accept the token of this queen: another queen started \
             it, or the token was replaced since"
        ),
    )
    .hint(format!(
        "`rbee-keeper node upgrade {node}` replaces it by a hive of this queen"
    ))
}

/// The hive has the name of another node.
pub(crate) fn other_name(node: &NodeName, url: &NodeUrl, found: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!("the hive at {url} belongs to the node {found}, not to {node}"),
    )
    .hint(format!(
        "start it with `--hive-id {node}`, or use the name {found}"
    ))
}

pub(crate) fn does_not_exit(pid: u32) -> Diagnostic {
    Diagnostic::internal(format!("the hive (process {pid}) does not exit"))
}

/// There is no log of a build.
pub(crate) fn not_built(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::InvalidRequest,
        format!("nothing was built on node {node}: its programs were copied there"),
    )
    .hint(format!(
        "`rbee-keeper node logs {node}` shows the log of its hive"
    ))
}

fn see(log: &Path) -> String {
    format!("see {}", log.display())
}

/// The address in the record of a hive has no port.
pub(crate) fn no_port(url: &str) -> Diagnostic {
    let url = excerpt(url, 100);
    Diagnostic::new(
        Code::HiveBadResponse,
        format!("the hive is at {url}, which has no port"),
    )
}

/// The hive that responds is not the one of the node.
pub(crate) fn another_hive(url: &str, health: &HiveHealth, node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveBadResponse,
        format!(
            "the hive at {url} is process {} of node {}, not the hive of node {node}",
            health.pid, health.hive_id
        ),
    )
    .hint(
        "another node, or another queen, uses the same directory of the machine; remove one of them, \
         or choose another directory with `--dir DIR`",
    )
}

pub(crate) fn remote_version_incompatible(node: &NodeName, health: &HiveHealth) -> Diagnostic {
    Diagnostic::new(
        Code::VersionIncompatible,
        format!(
            "the hive of node {node} is version {} (interface {}), this queen is version {} (interface {API_VERSION})",
            excerpt(&health.version, 40),
            health.api_version,
            env!("CARGO_PKG_VERSION"),
        ),
    )
    .hint(format!("`rbee-keeper node upgrade {node}`"))
    .detail("hive_api_version", health.api_version)
    .detail("queen_api_version", API_VERSION)
}

/// The hive of a node that connects to the queen has another version.
pub(crate) fn joined_version_incompatible(node: &NodeName, health: &HiveHealth) -> Diagnostic {
    let error = remote_version_incompatible(node, health);
    error.hint(format!(
        "install version {} of rbee on the machine of {node}, and start `rbee-hive` there again",
        env!("CARGO_PKG_VERSION")
    ))
}

pub(crate) fn joined_unresponsive(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveUnreachable,
        format!("node {node} is connected, but its hive does not respond"),
    )
    .hint("the log of `rbee-hive` on that machine says why")
}

pub(crate) fn not_installed(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!("no hive is installed on node {node}"),
    )
    .hint(format!("`rbee-keeper node install {node}`"))
}

/// The hive wrote something else than its record.
pub(crate) fn no_record(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveBadResponse,
        format!("the hive of node {node} wrote a damaged record"),
    )
}

/// The script that starts the hive failed.
pub(crate) fn not_started(node: &NodeName, status: i32, stderr: &str) -> Diagnostic {
    Diagnostic::new(
        Code::HiveStartFailed,
        format!(
            "node {node} cannot start its hive (status {status}): {}",
            excerpt(stderr.trim(), 300)
        ),
    )
}

pub(crate) fn no_release(directory: &Path, error: &io::Error) -> Diagnostic {
    Diagnostic::new(
        Code::ConfigInvalid,
        format!(
            "cannot read the programs of this release in {}: {error}",
            directory.display()
        ),
    )
    .hint("rbee binaries must be in the same directory; build them with `cargo build`")
}

/// `found` is the platform of the node and that of this release.
pub(crate) fn other_platform(node: &NodeName, found: &str) -> Diagnostic {
    Diagnostic::new(Code::HiveNotInstalled, format!("node {node} is {found}"))
        .hint(build_there(node))
}

pub(crate) fn no_space_to_install(node: &NodeName, need: u64, free: u64) -> Diagnostic {
    Diagnostic::new(
        Code::InsufficientDisk,
        format!("node {node} has {free} bytes of free disk space, and rbee needs {need}"),
    )
    .hint("free space on the node, or choose another directory with `--dir DIR`")
    .detail("need_bytes", need)
    .detail("free_bytes", free)
}

/// The copied programs do not run. `printed` is their output.
pub(crate) fn does_not_run(node: &NodeName, printed: &str) -> Diagnostic {
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!(
            "the programs of this release do not run on node {node}: {}",
            excerpt(printed.trim(), 300)
        ),
    )
    .hint(build_there(node))
}

/// How to get programs that run on a node.
fn build_there(node: &NodeName) -> String {
    format!(
        "build it there from a git repository: `rbee-keeper node update {node} --repository URL`, \
         `rbee-keeper node install {node}`"
    )
}

/// What a build needs is not on the node.
pub(crate) fn no_toolchain(node: &NodeName, missing: &[String]) -> Diagnostic {
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!(
            "rbee cannot be built on node {node}: it has no {}",
            missing.join(", no ")
        ),
    )
    .hint(
        "install on the node what is missing, for example by `sudo apt-get install -y git \
         build-essential`, and cargo by https://rustup.rs",
    )
    .detail("missing", missing.to_vec())
}

pub(crate) fn other_build(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!("another repository or branch is being built on node {node}"),
    )
    .hint(format!(
        "wait until it has ended; `rbee-keeper node logs {node} --build` shows what it does"
    ))
}

pub(crate) fn build_not_started(node: &NodeName, status: i32, stderr: &str) -> Diagnostic {
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!(
            "node {node} cannot start the build (status {status}): {}",
            excerpt(stderr.trim(), 300)
        ),
    )
}

/// The build on a node failed: `what` happened to it.
pub(crate) fn build_failed(node: &NodeName, what: &str, last_log_lines: &[String]) -> Diagnostic {
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!(
            "the build on node {node} {what}; its log ends with: {}",
            last_log_lines.join(" | ")
        ),
    )
    .hint(format!("`rbee-keeper node logs {node} --build` shows more"))
}

pub(crate) fn build_too_slow(node: &NodeName, limit: Duration) -> Diagnostic {
    let minutes = limit.as_secs() / 60;
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!("the build on node {node} is not complete after {minutes} min"),
    )
    .hint(format!(
        "it continues; `rbee-keeper node install {node}` waits for it again"
    ))
}

/// The script that follows a build printed something else.
pub(crate) fn build_unknown(node: &NodeName, printed: &str) -> Diagnostic {
    Diagnostic::new(
        Code::HiveBadResponse,
        format!(
            "node {node} does not say how its build is: {}",
            excerpt(printed.trim(), 100)
        ),
    )
}

/// The programs that were built do not run, or are of another version.
pub(crate) fn built_does_not_run(node: &NodeName, printed: &str) -> Diagnostic {
    Diagnostic::new(
        Code::VersionIncompatible,
        format!(
            "the programs that were built on node {node} are not version {}: {}",
            env!("CARGO_PKG_VERSION"),
            excerpt(printed.trim(), 300)
        ),
    )
    .hint(format!(
        "choose the branch or tag of this version: `rbee-keeper node update {node} --branch BRANCH`"
    ))
}

pub(crate) fn no_previous_version(node: &NodeName) -> Diagnostic {
    Diagnostic::new(
        Code::HiveNotInstalled,
        format!("no previous version is installed on node {node}"),
    )
}

/// An upgrade failed, and the previous version runs again.
pub(crate) fn rolled_back(node: &NodeName, version: &str, reason: Diagnostic) -> Diagnostic {
    Diagnostic {
        message: format!(
            "the upgrade of node {node} failed, and {} runs again: {}",
            excerpt(version, 40),
            reason.message
        ),
        ..reason
    }
}
