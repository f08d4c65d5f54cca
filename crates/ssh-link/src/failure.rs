//! Why a connection was not established, from what ssh wrote to its standard error.

/// Reason of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no connection. Another attempt can succeed.
    Unreachable,
    /// The server refused the credentials.
    AuthFailed,
    /// No file of known hosts has the host key.
    HostKeyUnknown,
    /// A file of known hosts has another key for this host.
    HostKeyChanged,
    /// The configuration of the SSH client is invalid.
    ConfigInvalid,
}

/// Texts of OpenSSH's ssh, the most specific first: several can be in one output.
const TEXTS: &[(&str, Failure)] = &[
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        Failure::HostKeyChanged,
    ),
    ("Host key verification failed", Failure::HostKeyUnknown),
    ("Bad configuration option", Failure::ConfigInvalid),
    ("bad configuration options", Failure::ConfigInvalid),
    ("Bad owner or permissions on", Failure::ConfigInvalid),
    ("Permission denied (", Failure::AuthFailed),
    ("Too many authentication failures", Failure::AuthFailed),
    ("no more authentication methods", Failure::AuthFailed),
];

/// Finds the reason in the output of ssh.
pub(crate) fn classify(stderr: &str) -> Failure {
    TEXTS
        .iter()
        .find(|(text, _)| stderr.contains(text))
        .map_or(Failure::Unreachable, |(_, failure)| *failure)
}

/// Whether ssh ignored a key because others can read its file.
pub(crate) fn key_is_exposed(stderr: &str) -> bool {
    stderr.contains("UNPROTECTED PRIVATE KEY FILE")
}

/// Returns the line that says most: the last one.
pub(crate) fn last_line(stderr: &str) -> &str {
    let mut lines = stderr.lines().map(str::trim);
    lines.rfind(|line| !line.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_openssh_are_classified() {
        for (text, failure) in [
            (
                "ssh: connect to host h port 22: Connection refused\r\n",
                Failure::Unreachable,
            ),
            (
                "ssh: Could not resolve hostname h: Name or service not known",
                Failure::Unreachable,
            ),
            ("", Failure::Unreachable),
            ("me@h: Permission denied (publickey).", Failure::AuthFailed),
            (
                "Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures",
                Failure::AuthFailed,
            ),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\nHost key verification failed.",
                Failure::HostKeyUnknown,
            ),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
                Failure::HostKeyChanged,
            ),
            (
                "/c: line 1: Bad configuration option: x\n/c: terminating, 1 bad configuration options",
                Failure::ConfigInvalid,
            ),
        ] {
            assert_eq!(classify(text), failure, "{text}");
        }
    }

    #[test]
    fn the_last_line_is_reported() {
        assert_eq!(last_line("a\r\nb\r\n\n"), "b");
        assert_eq!(last_line(""), "");
    }
}
