//! Paths that a vendor names.

/// Longest path in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// Longest name of a file or folder in bytes, as on most file systems.
const MAX_NAME_BYTES: usize = 255;

/// Checks that a path stays in the directory that it is joined to, on every platform, and can be
/// shown. The error says what is wrong with it.
pub(crate) fn check(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > MAX_PATH_BYTES {
        return Err("is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return Err("is absolute");
    }
    if diagnostics::escape(path) != path {
        return Err("has control characters");
    }
    let is_drive = path.as_bytes().get(1) == Some(&b':');
    if path.contains('\\') || is_drive {
        return Err("has separators of another system");
    }
    for name in path.split('/') {
        match name {
            "" => return Err("has an empty name"),
            "." | ".." => return Err("leaves its folder"),
            _ if name.len() > MAX_NAME_BYTES => return Err("has a name longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_leave_the_directory_are_refused() {
        let long = "x".repeat(256);
        for (path, problem) in [
            ("", "is empty"),
            ("/etc/passwd", "is absolute"),
            ("../x", "leaves"),
            ("a/../../x", "leaves"),
            ("a/..", "leaves"),
            ("./a", "leaves"),
            ("a//b", "empty name"),
            ("a/", "empty name"),
            ("a\nb", "control"),
            ("a\u{202e}b", "control"),
            ("a\0", "control"),
            ("..\\x", "another system"),
            ("C:x", "another system"),
            (&long, "255"),
            (&"a/".repeat(600), "1024"),
        ] {
            let error = check(path).unwrap_err();
            assert!(error.contains(problem), "{path:?}: {error}");
        }
        for path in ["a", "a/b.gguf", "..a", "a b/ü", ".gitattributes", "ab:c"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_accepted_path_leaves_the_directory(path in "[a./\\\\:~\u{0}\n-]{0,12}|.{0,20}") {
            if check(&path).is_ok() {
                let path = Path::new(&path);
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(Path::new("/dir").join(path).starts_with("/dir"));
                prop_assert_ne!(path, Path::new(""));
            }
        }
    }
}
