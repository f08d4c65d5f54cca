//! The files that `package()` has installed. No process of the build runs any more.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use diagnostics::{Diagnostic, escape};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use crate::{PackagedFile, PackagedKind, build_user, errors, verify};

/// Lists the files of a package, which this user owns afterwards. Removes set-user-id and set-group-id, and makes absolute links
/// into the package relative.
///
/// Errors: links that leave the package, devices, sockets and pipes, and names with characters
/// that cannot be shown; a package without files.
pub(crate) fn list(
    root: &Path,
    cancel: &CancellationToken,
) -> Result<Vec<PackagedFile>, Diagnostic> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let path = root.join(&directory);
        let failed = |e| errors::storage("read", &path, &e);
        build_user::take(&path).map_err(failed)?;
        // A directory that its owner cannot read could not be removed either.
        let mode = fs::symlink_metadata(&path)
            .map_err(failed)?
            .permissions()
            .mode();
        set_mode(&path, (mode & 0o777) | 0o700)?;
        for entry in fs::read_dir(&path).map_err(failed)? {
            if cancel.is_cancelled() {
                return Err(errors::cancelled());
            }
            let name = entry.map_err(failed)?.file_name();
            let relative = directory.join(&name);
            let Some(name) = relative.to_str().filter(|name| is_shown(name)) else {
                let name = escape(&relative.display().to_string());
                return Err(errors::invalid(format!(
                    "the package contains a file whose name has special characters: {name}"
                )));
            };
            let path = root.join(&relative);
            build_user::take(&path).map_err(failed)?;
            let metadata = fs::symlink_metadata(&path).map_err(failed)?;
            let kind = if metadata.is_dir() {
                directories.push(relative.clone());
                continue;
            } else if metadata.is_symlink() {
                PackagedKind::Link {
                    target: link(root, &relative)?,
                }
            } else if metadata.is_file() {
                let mode = (metadata.permissions().mode() & 0o777) | 0o400;
                set_mode(&path, mode)?;
                let digest = verify::digest::<Sha256>(&path, cancel)?;
                PackagedKind::File {
                    size: metadata.len(),
                    mode,
                    sha256: digest.try_into().unwrap_or_default(),
                }
            } else {
                return Err(errors::invalid(format!(
                    "the package contains {name}, which is neither a file nor a link"
                )));
            };
            files.push(PackagedFile {
                path: name.to_owned(),
                kind,
            });
        }
    }
    if files.is_empty() {
        return Err(errors::invalid(
            "package() has installed nothing into $pkgdir",
        ));
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Diagnostic> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|e| errors::storage("change the mode of", path, &e))
}

fn is_shown(name: &str) -> bool {
    escape(name) == name
}

/// Checks a link, and returns its target, which is relative.
fn link(root: &Path, relative: &Path) -> Result<String, Diagnostic> {
    let path = root.join(relative);
    let target = fs::read_link(&path).map_err(|e| errors::storage("read", &path, &e))?;
    let refused = || {
        errors::invalid(format!(
            "the package contains the link {}, which leads out of it to {}",
            escape(&relative.display().to_string()),
            escape(&target.display().to_string())
        ))
    };
    let parent = relative.parent().unwrap_or(Path::new(""));
    let text = target
        .to_str()
        .filter(|text| is_shown(text))
        .ok_or_else(refused)?;
    if !target.is_absolute() {
        resolve(root, parent, &target).ok_or_else(refused)?;
        return Ok(text.to_owned());
    }
    // `$pkgdir` is `/build/pkg` while it is made, and `/` where it is installed.
    let target = target
        .strip_prefix("/build/pkg")
        .or(target.strip_prefix("/"));
    let inner = target.map_err(|_| refused())?;
    let inner = resolve(root, Path::new(""), inner).ok_or_else(refused)?;
    if fs::symlink_metadata(root.join(&inner)).is_err() {
        return Err(refused());
    }
    let up: PathBuf = parent.components().map(|_| "..").collect();
    let new = up.join(inner);
    let replace = || {
        fs::remove_file(&path)?;
        symlink(&new, &path)
    };
    replace().map_err(|e| errors::storage("replace", &path, &e))?;
    Ok(new.display().to_string())
}

/// Resolves a path from a directory of the package. `None` if it leaves the package, or passes
/// another link, behind which `..` is elsewhere.
fn resolve(root: &Path, from: &Path, target: &Path) -> Option<PathBuf> {
    let mut at = from.to_owned();
    let mut components = target.components().peekable();
    while let Some(component) = components.next() {
        match component {
            Component::Normal(name) => {
                at.push(name);
                let is_link = fs::symlink_metadata(root.join(&at)).is_ok_and(|m| m.is_symlink());
                if is_link && components.peek().is_some() {
                    return None;
                }
            }
            Component::ParentDir => {
                if !at.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(
        links: &[(&str, &str)],
    ) -> (tempfile::TempDir, Result<Vec<PackagedFile>, Diagnostic>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs::write(dir.path().join("usr/bin/worker"), "x").unwrap();
        for (path, target) in links {
            symlink(target, dir.path().join(path)).unwrap();
        }
        let listed = list(dir.path(), &CancellationToken::new());
        (dir, listed)
    }

    #[test]
    fn links_stay_in_the_package() {
        for (path, target, relative) in [
            ("usr/bin/a", "worker", "worker"),
            ("usr/a", "bin/worker", "bin/worker"),
            ("a", "/usr/bin/worker", "usr/bin/worker"),
            ("usr/bin/a", "/usr/bin/worker", "../../usr/bin/worker"),
            (
                "usr/bin/a",
                "/build/pkg/usr/bin/worker",
                "../../usr/bin/worker",
            ),
            ("usr/bin/a", "../../usr/bin/worker", "../../usr/bin/worker"),
        ] {
            let (dir, listed) = package(&[(path, target)]);
            let files = listed.unwrap();
            let link = files.iter().find(|file| file.path == path).unwrap();
            let expected = PackagedKind::Link {
                target: relative.to_owned(),
            };
            assert_eq!(link.kind, expected, "{path} {target}");
            assert_eq!(
                fs::read(dir.path().join(path)).unwrap(),
                b"x",
                "{path} {target}"
            );
        }
    }

    #[test]
    fn links_that_leave_the_package_are_refused() {
        for links in [
            &[("usr/bin/a", "/etc/passwd")][..],
            &[("usr/bin/a", "../../../etc/passwd")],
            &[("usr/bin/a", "../../..")],
            // `usr/bin/d` is `usr`, so that `..` behind it leaves the package.
            &[("usr/bin/d", ".."), ("usr/bin/a", "d/../../etc/passwd")],
        ] {
            let (_dir, listed) = package(links);
            let error = listed.unwrap_err();
            assert!(
                error.message.contains("leads out of it"),
                "{links:?}: {error}"
            );
        }
    }
}
