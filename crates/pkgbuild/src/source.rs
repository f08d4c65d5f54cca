use crate::errors::{PkgbuildError, invalid};

/// A source of a package: an entry of the array `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name of its file or directory: a single part of a path.
    pub name: String,
    /// Where it is.
    pub kind: SourceKind,
}

/// Where a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// A file beside the PKGBUILD.
    Local,
    /// A file on an HTTP server.
    Http {
        /// Its URL.
        url: String,
    },
    /// A git repository.
    Git {
        /// Its URL: `https://`, `http://`, `git://` or `file://`.
        url: String,
        /// What is checked out.
        reference: GitReference,
    },
}

/// What is checked out of a git repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GitReference {
    /// The default branch.
    Default,
    /// The newest commit of a branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit, in hexadecimal digits.
    Commit(String),
}

impl Source {
    /// Parses an entry of the array `variable`: `[NAME::]FILE`, `[NAME::]URL`, or
    /// `[NAME::]git+URL[#branch=…|#tag=…|#commit=…]` (PKGBUILD(5)).
    pub(crate) fn parse(variable: &str, entry: &str) -> Result<Self, PkgbuildError> {
        let refuse = |problem| Err(invalid(variable, entry, problem));
        if entry.is_empty() || !entry.chars().all(|c| c.is_ascii_graphic()) {
            return refuse("empty, or has characters other than those of a URL");
        }
        let (name, place) = match entry.split_once("::") {
            Some((name, place)) => (Some(name), place),
            None => (None, entry),
        };
        let (kind, usual) = match place.split_once("://") {
            None if name.is_some() => return refuse("a name for something that is no URL"),
            None => (SourceKind::Local, place.to_owned()),
            Some((scheme, rest)) => {
                if has_credentials(rest) {
                    return refuse("a URL with a user or a password");
                }
                match scheme {
                    "https" | "http" => (
                        SourceKind::Http {
                            url: place.to_owned(),
                        },
                        last_part(rest),
                    ),
                    "git" | "git+https" | "git+http" | "git+git" | "git+file" => {
                        let (url, reference) = match git(place) {
                            Ok(found) => found,
                            Err(problem) => return refuse(problem),
                        };
                        let name = last_part(url.split_once("://").map_or("", |(_, rest)| rest));
                        let name = name.strip_suffix(".git").unwrap_or(&name).to_owned();
                        (SourceKind::Git { url, reference }, name)
                    }
                    _ => return refuse("not a URL that can be fetched: http, https and git are"),
                }
            }
        };
        let name = name.map_or(usual, str::to_owned);
        if !is_file_name(&name) {
            return refuse("not the name of a file in the directory of the package");
        }
        Ok(Self { name, kind })
    }

    /// Whether a checksum of the file can be stated.
    pub fn is_file(&self) -> bool {
        !matches!(self.kind, SourceKind::Git { .. })
    }
}

/// Whether the part of a URL behind `://` names a user.
fn has_credentials(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.contains('@')
}

/// The last part of the path of a URL, of which this is the part behind `://`.
fn last_part(rest: &str) -> String {
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    // The first is the host.
    let last = parts.next().and_then(|_| parts.next_back());
    last.unwrap_or_default().to_owned()
}

fn git(place: &str) -> Result<(String, GitReference), &'static str> {
    let place = place.strip_prefix("git+").unwrap_or(place);
    let (url, fragment) = match place.split_once('#') {
        Some((url, fragment)) => (url, Some(fragment)),
        None => (place, None),
    };
    if url.contains('?') {
        return Err("a repository whose signatures would have to be verified");
    }
    let reference = match fragment {
        None => GitReference::Default,
        Some(fragment) => match fragment.split_once('=') {
            Some(("branch", name)) if is_reference(name) => GitReference::Branch(name.to_owned()),
            Some(("tag", name)) if is_reference(name) => GitReference::Tag(name.to_owned()),
            Some(("commit", name)) if is_commit(name) => GitReference::Commit(name.to_owned()),
            _ => return Err("not followed by #branch=…, #tag=… or #commit=…"),
        },
    };
    Ok((url.to_owned(), reference))
}

/// Suffix of the lock files of git.
const LOCK: &str = ".lock";

/// Rules of git-check-ref-format(1), and no leading `-`.
fn is_reference(name: &str) -> bool {
    let bad = ["..", "//", "@{", "\\", "~", "^", ":", "?", "*", "["];
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name
            .split('/')
            .any(|part| part.starts_with('.') || part.ends_with(LOCK))
        && !bad.iter().any(|bad| name.contains(bad))
}

fn is_commit(name: &str) -> bool {
    (7..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with(['.', '-'])
        && !name.contains(['/', '\\'])
        && name.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entry: &str) -> Result<Source, PkgbuildError> {
        Source::parse("source", entry)
    }

    #[test]
    fn sources_have_a_name_and_a_place() {
        let http = |url: &str| SourceKind::Http {
            url: url.to_owned(),
        };
        let git = |url: &str, reference| SourceKind::Git {
            url: url.to_owned(),
            reference,
        };
        for (entry, name, kind) in [
            ("fix.patch", "fix.patch", SourceKind::Local),
            (
                "https://a.example/x/b-1.tar.gz",
                "b-1.tar.gz",
                http("https://a.example/x/b-1.tar.gz"),
            ),
            (
                "https://a.example/b.zip?x=1",
                "b.zip",
                http("https://a.example/b.zip?x=1"),
            ),
            (
                "b.tar.gz::http://a.example/",
                "b.tar.gz",
                http("http://a.example/"),
            ),
            (
                "git+https://a.example/o/r.git",
                "r",
                git("https://a.example/o/r.git", GitReference::Default),
            ),
            (
                "x::git+file:///srv/r#branch=release/1",
                "x",
                git(
                    "file:///srv/r",
                    GitReference::Branch("release/1".to_owned()),
                ),
            ),
            (
                "git://a.example/r#tag=v1.0",
                "r",
                git("git://a.example/r", GitReference::Tag("v1.0".to_owned())),
            ),
            (
                "git+https://a.example/r#commit=0123abc",
                "r",
                git(
                    "https://a.example/r",
                    GitReference::Commit("0123abc".to_owned()),
                ),
            ),
        ] {
            let name = name.to_owned();
            assert_eq!(parse(entry), Ok(Source { name, kind }), "{entry}");
        }
    }

    #[test]
    fn hostile_sources_are_refused() {
        for entry in [
            "",
            "a b",
            "../x",
            "/etc/passwd",
            ".hidden",
            "-o",
            "a/b",
            "x::",
            "../x::https://a.example/b",
            "https://a.example/",
            "https://u:p@a.example/b",
            "ftp://a.example/b",
            "ssh://a.example/b",
            "git+ssh://a.example/r",
            "svn+https://a.example/r",
            "file:///etc/passwd",
            "git+https://a.example/r#branch=--upload-pack=x",
            "git+https://a.example/r#branch=a..b",
            "git+https://a.example/r#commit=main",
            "git+https://a.example/r#x",
            "git+https://a.example/r?signed",
            "https://a.example/\u{7}b",
            "ext::sh -c x",
            "git+ext::sh",
        ] {
            assert!(parse(entry).is_err(), "{entry:?}");
        }
    }
}
