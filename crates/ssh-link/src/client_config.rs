use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use diagnostics::Diagnostic;
use queen_contract::SshNode;

use crate::{SshSettings, errors, failure::last_line, options::connection, process_group};

/// What the configuration of the SSH client says about a server, as `ssh -G` prints it (ssh(1)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClientConfig {
    /// Files of known hosts of the user.
    pub(crate) known_hosts: Vec<PathBuf>,
    /// Jump hosts in their order (`ProxyJump`, ssh_config(5)).
    pub(crate) jump_hosts: Vec<String>,
    /// Files with private keys, some of which may not exist.
    identity_files: Vec<PathBuf>,
}

impl ClientConfig {
    pub(crate) async fn of(node: &SshNode, settings: &SshSettings) -> Result<Self, Diagnostic> {
        let mut command = connection(node, settings);
        command.args(["-G", "--", node.host.as_str()]);
        // The configuration can run programs (`Match exec`).
        let output = process_group::output(command, settings.connect_limit)
            .await
            .map_err(|e| errors::no_ssh(&e))?
            .ok_or_else(|| errors::config_timed_out(settings.connect_limit))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(errors::config_invalid(last_line(&stderr)));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&output.stdout)))
    }

    fn parse(text: &str) -> Self {
        let mut config = Self::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(' ') else {
                continue;
            };
            match name {
                "userknownhostsfile" => {
                    let files = value
                        .split(' ')
                        .filter(|file| !matches!(*file, "" | "none"));
                    config.known_hosts = files.map(PathBuf::from).collect();
                }
                "proxyjump" if value != "none" => {
                    config.jump_hosts = value.split(',').map(str::to_owned).collect();
                }
                "identityfile" if value != "none" => config.identity_files.push(value.into()),
                _ => {}
            }
        }
        config
    }

    /// Returns a key file that cannot be used without its passphrase.
    pub(crate) fn key_with_passphrase(&self) -> Option<PathBuf> {
        let home = std::env::home_dir().unwrap_or_default();
        let files = self.identity_files.iter();
        files
            .map(|file| {
                file.strip_prefix("~")
                    .map_or(file.clone(), |rest| home.join(rest))
            })
            .find(|file| has_passphrase(file))
    }
}

fn has_passphrase(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| is_encrypted(&text))
}

/// Whether a private key is encrypted: in the format of OpenSSH (PROTOCOL.key in its sources), or
/// in PEM (RFC 1421, RFC 5958).
fn is_encrypted(text: &str) -> bool {
    let begins = |title: &str| text.starts_with(&format!("-----BEGIN {title}-----"));
    if !begins("OPENSSH PRIVATE KEY") {
        return begins("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
    }
    let base64: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    let Ok(bytes) = BASE64_STANDARD.decode(base64) else {
        return false;
    };
    // The name of the cipher follows, after its length in 4 bytes.
    let rest = bytes.strip_prefix(b"openssh-key-v1\0");
    rest.is_some_and(|rest| !rest.starts_with(b"\0\0\0\x04none"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_output_of_ssh_is_read() {
        let text = "host far\nuserknownhostsfile /a /b\nproxyjump me@near:2222,mid\n\
                    identityfile ~/.ssh/id\nidentityfile /k\ntunnel\n";
        let expected = ClientConfig {
            known_hosts: vec!["/a".into(), "/b".into()],
            jump_hosts: vec!["me@near:2222".into(), "mid".into()],
            identity_files: vec!["~/.ssh/id".into(), "/k".into()],
        };
        assert_eq!(ClientConfig::parse(text), expected);
        let nothing = "userknownhostsfile none\nproxyjump none\nidentityfile none\n";
        assert_eq!(ClientConfig::parse(nothing), ClientConfig::default());
    }

    #[test]
    fn keys_with_a_passphrase_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        for (format, passphrase) in [
            ("RFC4716", ""),
            ("RFC4716", "secret"),
            ("PEM", ""),
            ("PEM", "secret"),
            ("PKCS8", ""),
            ("PKCS8", "secret"),
        ] {
            let file = dir.path().join(format!("{format}{passphrase}"));
            let status = Command::new("ssh-keygen")
                .args(["-q", "-t", "ecdsa", "-m", format, "-N", passphrase, "-f"])
                .arg(&file)
                .status();
            assert!(status.unwrap().success());
            assert_eq!(has_passphrase(&file), !passphrase.is_empty(), "{format}");
        }
        assert!(!has_passphrase(&dir.path().join("none")));
    }
}
