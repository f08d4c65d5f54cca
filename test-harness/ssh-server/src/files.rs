//! The files of a server and of its client.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
};

use anyhow::{Result, ensure};

use crate::ALIAS;

pub(crate) fn write_all(dir: &Path, port: u16, shell: &Path) -> Result<()> {
    fs::create_dir(dir.join("home"))?;
    key(&dir.join("user_key"))?;
    host_key(dir)?;
    let public = fs::read_to_string(dir.join("host_key.pub"))?;
    let known = format!("[127.0.0.1]:{port} {public}");
    fs::write(dir.join("known_hosts"), known)?;
    fs::write(dir.join("ssh_config"), client_config(dir, port))?;
    fs::write(dir.join("sshd_config"), server_config(dir))?;
    let session = dir.join("session");
    fs::write(&session, session_script(dir, shell))?;
    Ok(fs::set_permissions(session, Permissions::from_mode(0o755))?)
}

pub(crate) fn host_key(dir: &Path) -> Result<()> {
    let file = dir.join("host_key");
    if file.exists() {
        fs::remove_file(&file)?;
    }
    key(&file)
}

fn key(file: &Path) -> Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
        .arg(file)
        .status()?;
    ensure!(status.success(), "ssh-keygen fails");
    Ok(())
}

fn client_config(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        "Host {ALIAS}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {dir}/user_key\n\
         Host *\n  IdentitiesOnly yes\n  UserKnownHostsFile {dir}/known_hosts\n  \
         GlobalKnownHostsFile /dev/null\n"
    )
}

fn server_config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "HostKey {dir}/host_key\nPidFile none\nAuthorizedKeysFile {dir}/user_key.pub\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin yes\nPrintMotd no\n\
         ForceCommand {dir}/session\nLogLevel VERBOSE\n"
    )
}

/// Runs the command of a session with the home directory of the test.
fn session_script(dir: &Path, shell: &Path) -> String {
    let (dir, shell) = (dir.display(), shell.display());
    format!(
        "#!/bin/sh\nexport HOME={dir}/home SHELL={shell}\nunset RBEE_HOME\ncd \"$HOME\" || exit 1\n\
         exec {shell} -c \"$SSH_ORIGINAL_COMMAND\"\n"
    )
}
