use std::{
    env,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use crate::{Namespace, Wire};

/// Environment variable of a program that is in its private namespace.
const INSIDE: &str = "RBEE_TEST_NAMESPACE";

/// Starts this program again in a network namespace of its own, where it may create others. Returns
/// in there. Call it before the first thread is started.
///
/// Root needs nothing else; other users need user namespaces (`user_namespaces`(7)).
///
/// Errors: why namespaces or TUN devices are not available on this machine.
pub fn enter() -> Result<(), String> {
    if env::var_os(INSIDE).is_some() {
        return try_out().map_err(|error| format!("{error:#}"));
    }
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.arg("--net");
        if !rustix::process::geteuid().is_root() {
            command.args(["--map-current-user", "--keep-caps"]);
        }
        command.args(["--", "sh", "-c", script]).env(INSIDE, "1");
        command
    };
    let output = unshare("ip link set lo up")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run `unshare`: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("no network namespaces: {}", stderr.trim()));
    }
    let error = unshare(r#"ip link set lo up && exec "$0" "$@""#)
        .arg(program)
        .args(env::args_os().skip(1))
        .exec();
    Err(error.to_string())
}

/// Creates what the tests need, once.
fn try_out() -> anyhow::Result<()> {
    let namespace = Namespace::new()?;
    Wire::to(&namespace)?;
    Ok(())
}
