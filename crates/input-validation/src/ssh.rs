//! Values for SSH. They reach a command line as single arguments, so none may start with `-`.

use crate::name::name;

fn is_host(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
}

fn is_user(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

fn is_fingerprint(text: &str) -> bool {
    text.strip_prefix("SHA256:").is_some_and(|digest| {
        digest.len() == 43
            && digest
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
    })
}

fn is_directory(text: &str) -> bool {
    let relative = match text.strip_prefix("~/") {
        Some(rest) => rest,
        None => match text.strip_prefix('/') {
            Some(rest) => rest,
            None => return false,
        },
    };
    text.len() <= 1024
        && !relative.is_empty()
        && !text.contains(char::is_control)
        && relative
            .split('/')
            .all(|part| !matches!(part, "" | "." | ".."))
}

name!(
    /// Host of an SSH server: a host name, an address, or an alias in the user's SSH
    /// configuration.
    SshHost, "SSH host", "a host name, an address or an alias: 1 to 253 characters of \
    `A-Z a-z 0-9 . _ : -`, without `-` at the beginning",
    "^[A-Za-z0-9._:][A-Za-z0-9._:-]{0,252}$", is_host
);
name!(
    /// User name on the host of an SSH server.
    SshUser, "SSH user", "1 to 64 characters of `A-Z a-z 0-9 . _ @ -`, without `-` at the beginning",
    "^[A-Za-z0-9._@][A-Za-z0-9._@-]{0,63}$", is_user
);
name!(
    /// Fingerprint of a host key, as OpenSSH prints it.
    HostKeyFingerprint, "host key fingerprint", "`SHA256:` and 43 characters of base64",
    "^SHA256:[A-Za-z0-9+/]{43}$", is_fingerprint
);
name!(
    /// Directory on another machine: absolute, or `~/` and a path in the home directory of the
    /// user.
    RemoteDirectory, "remote directory", "an absolute path, or `~/` and a path, without `.`, `..` \
    and control characters",
    "^(~/|/)[^/\\x00-\\x1f\\x7f-\\x9f]+(/[^/\\x00-\\x1f\\x7f-\\x9f]+)*$", is_directory
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ssh_takes_for_an_option_is_accepted() {
        for bad in ["-oProxyCommand=x", "", "a b", "a;b", "a@b", "$(x)", "a\nb"] {
            assert!(bad.parse::<SshHost>().is_err(), "{bad}");
        }
        for good in ["gpu-box", "192.0.2.7", "fe80::1", "my_box.lan"] {
            assert!(good.parse::<SshHost>().is_ok(), "{good}");
        }
        for bad in ["-l", "", "a b", "a;b", "`x`"] {
            assert!(bad.parse::<SshUser>().is_err(), "{bad}");
        }
        assert!("me@example.org".parse::<SshUser>().is_ok());
    }

    #[test]
    fn remote_directories_are_clean_paths() {
        for bad in [
            "", "/", "~", "~/", "rbee", "/a/../b", "/a//b", "/a/", "/a\n", "~x/a",
        ] {
            assert!(bad.parse::<RemoteDirectory>().is_err(), "{bad}");
        }
        for good in ["/opt/rbee", "~/.rbee", "/srv/my models", "~/$HOME;x"] {
            assert!(good.parse::<RemoteDirectory>().is_ok(), "{good}");
        }
    }

    #[test]
    fn fingerprints_are_those_of_openssh() {
        let good = "SHA256:uNiVztksCsDhcc0u9e8BrsXVu2EUfuW5cVCx1BnZS8E";
        assert!(good.parse::<HostKeyFingerprint>().is_ok());
        for bad in ["", "MD5:00", &good[..49], "SHA256:!"] {
            assert!(bad.parse::<HostKeyFingerprint>().is_err(), "{bad}");
        }
    }
}
