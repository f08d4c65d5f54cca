//! Values for git. They reach a command line as single arguments, so none may start with `-`, and
//! no URL may name a helper program (`ext::`, git-remote-ext(1)) or contain a password.

use crate::name::name;

const MAX_BYTES: usize = 1024;

/// Whether all of `text` is in the path of a repository, and there is something.
fn is_path(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._~/+%=-".contains(&b))
}

fn is_user(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether the text is `HOST[:PORT]/PATH`.
fn is_location(text: &str) -> bool {
    let Some((host, path)) = text.split_once('/') else {
        return false;
    };
    let (host, port) = host.split_once(':').unwrap_or((host, "1"));
    let is_port = (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    is_user(host) && is_port && is_path(path)
}

fn is_repository(text: &str) -> bool {
    if text.len() > MAX_BYTES {
        return false;
    }
    if let Some(path) = text.strip_prefix('/') {
        return is_path(path);
    }
    match text.split_once("://") {
        Some(("https" | "http" | "git", rest)) => is_location(rest),
        Some(("ssh", rest)) => match rest.split_once('@') {
            Some((user, rest)) => is_user(user) && is_location(rest),
            None => is_location(rest),
        },
        Some(("file", rest)) => rest.strip_prefix('/').is_some_and(is_path),
        // As scp writes it.
        _ => text.split_once('@').is_some_and(|(user, rest)| {
            let location = rest.split_once(':');
            is_user(user) && location.is_some_and(|(host, path)| is_user(host) && is_path(path))
        }),
    }
}

fn is_branch(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._/+#@-".contains(&b))
        && !text.starts_with(['-', '.', '/'])
}

name!(
    /// Git repository: a URL, an address as `scp` writes it, or an absolute path on the machine
    /// that clones it.
    RepositoryUrl, "repository", "`https://HOST/PATH`, `ssh://USER@HOST/PATH`, `USER@HOST:PATH`, \
    `file:///PATH` or an absolute path, without a password",
    "^(/[A-Za-z0-9._~/+%=-]+|file:///[A-Za-z0-9._~/+%=-]+|((https?|git)://|ssh://([A-Za-z0-9._][A-Za-z0-9._-]*@)?)[A-Za-z0-9._][A-Za-z0-9._-]*(:[0-9]{1,5})?/[A-Za-z0-9._~/+%=-]+|[A-Za-z0-9._][A-Za-z0-9._-]*@[A-Za-z0-9._][A-Za-z0-9._-]*:[A-Za-z0-9._~/+%=-]+)$",
    is_repository
);
name!(
    /// Branch or tag of a git repository.
    BranchName, "branch", "1 to 200 characters of `A-Z a-z 0-9 . _ / + # @ -`, without `-`, `.` \
    or `/` at the beginning",
    "^[A-Za-z0-9_+#@][A-Za-z0-9._/+#@-]{0,199}$", is_branch
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_git_executes_or_takes_for_an_option_is_accepted() {
        for bad in [
            "",
            "/",
            "-u",
            "--upload-pack=touch x",
            "ext::sh -c touch% x",
            "fd::17",
            "rsync://me@host:x",
            "https://",
            "https://-oProxyCommand=x/y",
            "ssh://-oProxyCommand=x/y",
            "ssh://-l@host/x",
            "ssh://me:secret@host/x",
            "https://me:secret@host/x",
            "https://token@host/x",
            "-me@host:x",
            "me@-host:x",
            "me@host:",
            "http://host/a b",
            "https://host/$(x)",
            "https://host/a;b",
            "/srv/a\nb",
            "relative/path",
        ] {
            assert!(bad.parse::<RepositoryUrl>().is_err(), "{bad}");
        }
        for good in [
            "https://git.example/team/rbee.git",
            "http://192.0.2.7:3000/rbee",
            "git@git.example:team/rbee.git",
            "git@git.example://srv/rbee.git",
            "ssh://git@git.example:2222/team/rbee.git",
            "git://git.example/rbee",
            "file:///srv/git/rbee.git",
            "/srv/git/rbee",
        ] {
            assert!(good.parse::<RepositoryUrl>().is_ok(), "{good}");
        }
        for bad in [
            "", "-b", ".x", "/x", "a b", "a;b", "$(x)", "a\nb", "a:b", "a..b\0",
        ] {
            assert!(bad.parse::<BranchName>().is_err(), "{bad}");
        }
        for good in ["main", "v0.1.0", "feature/x-1", "release_2", "fix#7"] {
            assert!(good.parse::<BranchName>().is_ok(), "{good}");
        }
    }
}
