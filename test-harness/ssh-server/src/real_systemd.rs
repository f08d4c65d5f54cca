//! systemd as the service manager of the user.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixDatagram},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{files, systemd};

const MANAGER: &str = "/lib/systemd/systemd";
const START_LIMIT: Duration = Duration::from_secs(20);

/// systemd requires that it runs as the first process of the system, which it recognises by this
/// directory (sd_booted(3)).
const ENTER: &str =
    "mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec \"$0\" --user";

/// A running systemd. It and its services end when this is dropped.
#[derive(Debug)]
pub struct Systemd(Child);

impl Drop for Systemd {
    fn drop(&mut self) {
        // It stops its services when it is asked to end, and is a child, so the id is its own.
        let pid = self.0.id().to_string();
        let asked = Command::new("kill").args(["-s", "TERM", &pid]).status();
        if !asked.is_ok_and(|status| status.success()) {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// Starts systemd for the sessions of a machine. `loginctl` says that services outlive sessions.
pub(crate) fn start(dir: &Path, home: &Path) -> Result<Systemd> {
    ensure!(
        Path::new(MANAGER).exists(),
        "systemd is not installed: `apt-get install systemd`"
    );
    systemd::write(dir, "yes")?;
    let runtime = dir.join("runtime");
    fs::create_dir(&runtime)?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
    // systemd reports here when it has started (sd_notify(3)).
    let ready = UnixDatagram::bind(runtime.join("ready"))?;
    let log = fs::File::create(dir.join("systemd/log"))?;
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", ENTER])
        .arg(MANAGER)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("NOTIFY_SOCKET", runtime.join("ready"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run `unshare`")?;
    let systemctl = format!(
        "#!/bin/sh\necho \"systemctl $*\" >>'{}'\nexport XDG_RUNTIME_DIR='{}'\n\
         exec nsenter --target {} --mount /usr/bin/systemctl \"$@\"\n",
        dir.join("systemd/calls").display(),
        runtime.display(),
        child.id(),
    );
    files::program(dir, "systemctl", &systemctl)?;
    let manager = Systemd(child);
    ready.set_read_timeout(Some(START_LIMIT))?;
    let mut message = [0; 4096];
    loop {
        let length = ready.recv(&mut message).with_context(|| {
            let log = fs::read_to_string(dir.join("systemd/log")).unwrap_or_default();
            format!("systemd does not start: {log}")
        })?;
        if String::from_utf8_lossy(&message[..length])
            .lines()
            .any(|line| line == "READY=1")
        {
            break;
        }
    }
    Ok(manager)
}
