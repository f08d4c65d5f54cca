//! Host keys: which are known, which one a server has, and how the user accepts one.

use std::{fs, io, io::Write as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD};
use diagnostics::Diagnostic;
use input_validation::HostKeyFingerprint;
use queen_contract::SshNode;
use sha2::{Digest as _, Sha256};

use crate::{
    SshSettings, errors,
    failure::last_line,
    options::{connection, option},
    process_group,
};

/// The host key of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    /// Its fingerprint, as OpenSSH prints it.
    pub fingerprint: HostKeyFingerprint,
    /// Its line in a file of known hosts (sshd(8)): hosts, type, key.
    line: String,
}

impl HostKey {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        let key = line.split(' ').nth(2)?;
        // The key is padded base64, the fingerprint is not padded.
        let bytes = BASE64_STANDARD_NO_PAD
            .decode(key.trim_end_matches('='))
            .ok()?;
        let digest = BASE64_STANDARD_NO_PAD.encode(Sha256::digest(bytes));
        Some(Self {
            fingerprint: format!("SHA256:{digest}").parse().ok()?,
            line: line.to_owned(),
        })
    }

    fn hosts(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }
}

/// Accepts the host key of a server for rbee, if it has this fingerprint. The known hosts of the
/// user are not changed.
///
/// Errors: [`Code::SshHostKeyUnknown`](diagnostics::Code::SshHostKeyUnknown) if the server has
/// another key, and the errors of connecting.
pub async fn accept_host_key(
    node: &SshNode,
    fingerprint: &HostKeyFingerprint,
    settings: &SshSettings,
) -> Result<(), Diagnostic> {
    let key = scan(node, settings).await?;
    if key.fingerprint != *fingerprint {
        return Err(errors::host_key_differs(
            node,
            fingerprint,
            &key.fingerprint,
        ));
    }
    add(&settings.known_hosts, &key).map_err(|e| errors::unusable(&settings.known_hosts, &e))
}

/// Returns the host key of a server. It is not verified, and nobody logs in.
///
/// It is read by ssh itself, so that aliases and jump hosts work, which ssh-keyscan(1) does not
/// know.
pub async fn scan(node: &SshNode, settings: &SshSettings) -> Result<HostKey, Diagnostic> {
    let dir = settings.runtime.create("k")?;
    let found = dir.path().join("found");
    let mut command = connection(node, settings);
    command
        .args(["-o", "StrictHostKeyChecking=accept-new", "-o"])
        .arg(option("UserKnownHostsFile", &[&found]))
        .args(["-o", "GlobalKnownHostsFile=/dev/null"])
        .args(["-o", "HashKnownHosts=no", "-o", "CheckHostIP=no"])
        .args(["-o", "PreferredAuthentications=none"])
        .args(["-S", "none", "--", node.host.as_str(), "exit"]);
    let output = process_group::output(command, settings.connect_limit)
        .await
        .map_err(|e| errors::no_ssh(&e))?
        .ok_or_else(|| errors::timed_out(node, settings.connect_limit))?;
    let known = fs::read_to_string(&found).unwrap_or_default();
    let key = known.lines().next_back().and_then(HostKey::parse);
    key.ok_or_else(|| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        errors::unreachable(node, last_line(&stderr))
    })
}

/// Adds a key to a file; replaces those of the same host.
fn add(file: &Path, key: &HostKey) -> io::Result<()> {
    let old = match fs::read_to_string(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let others = old
        .lines()
        .filter(|line| line.split(' ').next() != Some(key.hosts()));
    let mut text = String::new();
    for line in others.chain([key.line.as_str()]) {
        text.push_str(line);
        text.push('\n');
    }
    let dir = file.parent().unwrap_or(Path::new("/"));
    let mut temporary = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .tempfile_in(dir)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().sync_all()?;
    temporary.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "[127.0.0.1]:42022 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICKSfJinpXShbUY7wo/7jUc9cIABpS/ayauiYWM5f6wY";

    #[test]
    fn the_fingerprint_is_the_one_of_openssh() {
        // As `ssh-keygen -lf` prints it.
        let expected = "SHA256:IFfXKZFraj+qnHduQZEdw28VqzoEFbQp9XNqS/ItILo";
        let key = HostKey::parse(KEY).unwrap();
        assert_eq!(key.fingerprint.as_str(), expected);
        for bad in ["", "h", "h ssh-ed25519", "h ssh-ed25519 !"] {
            assert_eq!(HostKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_accepted_key_replaces_those_of_its_host_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hosts");
        let key = HostKey::parse(KEY).unwrap();
        add(&file, &key).unwrap();
        fs::write(
            &file,
            "[127.0.0.1]:42022 ssh-rsa AAAA\nother ssh-rsa BBBB\n",
        )
        .unwrap();
        add(&file, &key).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, format!("other ssh-rsa BBBB\n{KEY}\n"));
    }
}
