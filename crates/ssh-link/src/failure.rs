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
    /// The login succeeded, and the server refused to run a command.
    NoCommands,
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
    ("exec request failed on channel", Failure::NoCommands),
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

/// Returns the key that ssh ignored because others can read its file.
pub(crate) fn exposed_key(stderr: &str) -> Option<&str> {
    let line = stderr
        .lines()
        .find(|line| line.contains("' are too open."))?;
    line.split('\'').nth(1)
}

/// Lines of an ssh whose proxy has ended: the proxy wrote the reason before them.
const PROXY_ENDED: &[&str] = &[
    "kex_exchange_identification: ",
    "Connection closed by UNKNOWN port ",
    "Connection to UNKNOWN port ",
];
/// Last line of a jump host's ssh that cannot reach the next host; the line before has the reason.
const FORWARDING_FAILED: &str = "stdio forwarding failed";

/// Returns the line that says most: the last one that is not a consequence of another one.
pub(crate) fn last_line(stderr: &str) -> &str {
    let lines = || {
        stderr
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let reason = lines().rfind(|line| !is_consequence(line));
    reason.or_else(|| lines().next_back()).unwrap_or_default()
}

fn is_consequence(line: &str) -> bool {
    line == FORWARDING_FAILED || is_of_proxy(line)
}

fn is_of_proxy(line: &str) -> bool {
    PROXY_ENDED.iter().any(|text| line.starts_with(text))
}

/// Which host of the way to a server failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailedHost<'a> {
    /// The server itself, or its only proxy is not a jump host.
    Server,
    /// This jump host.
    Jump(&'a str),
    /// This jump host cannot reach the next host.
    After(&'a str),
}

/// Finds the host that failed. Each host has an ssh of its own, and each ssh after the one that
/// failed writes one line about its proxy ([`PROXY_ENDED`]); so does the one that failed if the
/// server closed the connection without a reason.
pub(crate) fn failed_host<'a>(stderr: &str, jump_hosts: &'a [String]) -> FailedHost<'a> {
    let lines: Vec<&str> = stderr.lines().map(str::trim).collect();
    let reason = lines
        .iter()
        .rposition(|line| !line.is_empty() && !is_of_proxy(line));
    let ended = lines[reason.unwrap_or_default()..].iter();
    let ended = ended
        .filter(|line| line.starts_with(PROXY_ENDED[0]))
        .count();
    let after = if reason.is_some() {
        ended
    } else {
        ended.saturating_sub(1)
    };
    // A jump host can have jump hosts of its own, which are not in the list.
    let failed = jump_hosts.len().saturating_sub(after);
    match jump_hosts.get(failed) {
        Some(host) if stderr.contains(FORWARDING_FAILED) => FailedHost::After(host),
        Some(host) => FailedHost::Jump(host),
        None => FailedHost::Server,
    }
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
            ("exec request failed on channel 0", Failure::NoCommands),
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
    fn an_exposed_key_is_found() {
        let text = "@  WARNING: UNPROTECTED PRIVATE KEY FILE!  @\r\nPermissions 0644 for '/k e' are too open.\r\n";
        assert_eq!(exposed_key(text), Some("/k e"));
        assert_eq!(exposed_key("Permission denied (publickey)."), None);
    }

    const ENDED: &str = "kex_exchange_identification: Connection closed by remote host\r\n";

    #[test]
    fn the_last_line_that_is_no_consequence_is_reported() {
        assert_eq!(last_line("a\r\nb\r\n\n"), "b");
        assert_eq!(last_line(""), "");
        assert_eq!(last_line(ENDED), ENDED.trim());
        let refused = "channel 0: open failed: connect failed: Connection refused";
        let text = format!("{refused}\r\nstdio forwarding failed\r\n{ENDED}{ENDED}");
        assert_eq!(last_line(&text), refused);
        let text = format!("no route\n{ENDED}Connection closed by UNKNOWN port 65535");
        assert_eq!(last_line(&text), "no route");
    }

    #[test]
    fn the_host_that_failed_is_found() {
        let jump_hosts = ["a".to_owned(), "b".to_owned()];
        let refused = "ssh: connect to host 192.0.2.1 port 22: Connection refused\n";
        for (text, expected) in [
            (refused.to_owned(), FailedHost::Server),
            (format!("{refused}{ENDED}"), FailedHost::Jump("b")),
            (format!("{refused}{ENDED}{ENDED}"), FailedHost::Jump("a")),
            (
                format!("{refused}{ENDED}{ENDED}{ENDED}"),
                FailedHost::Jump("a"),
            ),
            (
                format!("{FORWARDING_FAILED}\n{ENDED}"),
                FailedHost::After("b"),
            ),
            (
                format!("{FORWARDING_FAILED}\n{ENDED}{ENDED}"),
                FailedHost::After("a"),
            ),
            (ENDED.to_owned(), FailedHost::Server),
            (format!("{ENDED}{ENDED}"), FailedHost::Jump("b")),
            (
                format!("{ENDED}Connection closed by 192.0.2.1 port 22\n{ENDED}{ENDED}"),
                FailedHost::Jump("a"),
            ),
            (String::new(), FailedHost::Server),
        ] {
            assert_eq!(failed_host(&text, &jump_hosts), expected, "{text}");
            assert_eq!(failed_host(&text, &[]), FailedHost::Server);
        }
    }
}
