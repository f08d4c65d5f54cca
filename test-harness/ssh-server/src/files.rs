//! The files of a server and of its client.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::ALIAS;

/// Writes the files of a server at `address` and of its client to `dir`: keys, configurations,
/// known hosts, the home directory, and `session`, which runs the command in
/// `SSH_ORIGINAL_COMMAND` there.
pub fn write_all(dir: &Path, address: SocketAddr, shell: &Path) -> Result<()> {
    fs::create_dir(dir.join("home"))?;
    fs::create_dir(dir.join("programs"))?;
    key(&dir.join("user_key"), "")?;
    host_key(dir)?;
    let public = fs::read_to_string(dir.join("host_key.pub"))?;
    let known = format!("[{}]:{} {public}", address.ip(), address.port());
    fs::write(dir.join("known_hosts"), known)?;
    let config = client_block(dir, address, ALIAS) + &client_defaults(dir);
    fs::write(dir.join("ssh_config"), config)?;
    fs::write(dir.join("sshd_config"), server_config(dir))?;
    let session = dir.join("session");
    fs::write(&session, session_script(dir, shell))?;
    Ok(fs::set_permissions(session, Permissions::from_mode(0o755))?)
}

/// Writes a program that sessions find before others of this name.
pub(crate) fn program(dir: &Path, name: &str, script: &str) -> Result<()> {
    let file = dir.join("programs").join(name);
    fs::write(&file, script)?;
    Ok(fs::set_permissions(file, Permissions::from_mode(0o755))?)
}

/// Makes sessions find no programs but those of [`program`] and those of `PATH` that are not
/// `hidden`.
pub(crate) fn hide_programs(dir: &Path, hidden: &[&str]) -> Result<()> {
    let others = dir.join("others");
    fs::create_dir(&others)?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    for directory in std::env::split_paths(&path) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_hidden = hidden.iter().any(|hidden| name == *hidden);
            if !is_hidden && !others.join(&name).exists() {
                // Links that lead nowhere are in `PATH` as well.
                let _ = std::os::unix::fs::symlink(entry.path(), others.join(name));
            }
        }
    }
    Ok(())
}

pub(crate) fn host_key(dir: &Path) -> Result<()> {
    let file = dir.join("host_key");
    if file.exists() {
        fs::remove_file(&file)?;
    }
    key(&file, "")
}

/// Creates a key pair.
pub(crate) fn key(file: &Path, passphrase: &str) -> Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-C", "test", "-N", passphrase, "-f"])
        .arg(file)
        .status()?;
    ensure!(status.success(), "ssh-keygen fails");
    Ok(())
}

/// Changes the passphrase of a private key, which has none.
pub(crate) fn set_passphrase(file: &Path, passphrase: &str) -> Result<()> {
    let status = Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", passphrase, "-f"])
        .arg(file)
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "ssh-keygen fails");
    Ok(())
}

/// The lines of a client's configuration for this server.
pub(crate) fn client_block(dir: &Path, address: SocketAddr, alias: &str) -> String {
    let (dir, ip, port) = (dir.display(), address.ip(), address.port());
    format!(
        "Host {alias}\n  HostName {ip}\n  Port {port}\n  IdentityFile {dir}/user_key\n  \
         UserKnownHostsFile {dir}/known_hosts\n"
    )
}

fn client_defaults(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Host *\n  IdentitiesOnly yes\n  UserKnownHostsFile {dir}/known_hosts\n  \
         GlobalKnownHostsFile /dev/null\n"
    )
}

/// The login shell of the user that runs the tests reads no file of that user.
fn server_config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "HostKey {dir}/host_key\nPidFile none\nAuthorizedKeysFile {dir}/user_key.pub\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin yes\nPrintMotd no\n\
         ForceCommand {dir}/session\nLogLevel VERBOSE\nSetEnv HOME={dir}/home\n"
    )
}

/// Runs the command of a session with the home directory of the test.
fn session_script(dir: &Path, shell: &Path) -> String {
    let (dir, shell) = (dir.display(), shell.display());
    format!(
        "#!/bin/sh\nexport HOME={dir}/home SHELL={shell} PATH=\"{dir}/programs:$PATH\"\n\
         if [ -e {dir}/others ]; then PATH={dir}/programs:{dir}/others; fi\n\
         unset RBEE_HOME XDG_CONFIG_HOME XDG_RUNTIME_DIR\ncd \"$HOME\" || exit 1\nexec {shell} -c \"$SSH_ORIGINAL_COMMAND\"\n"
    )
}
