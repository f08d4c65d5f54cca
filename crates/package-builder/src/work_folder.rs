use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, openat, renameat, unlinkat},
};

use crate::{build_user, errors};

/// The folder of a build. It is removed when dropped, unless it is kept.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    is_kept: bool,
}

const HOSTS: &str = "127.0.0.1 localhost build\n::1 localhost\n";
/// git trusts repositories of other users, and fetches nothing in other ways.
const GITCONFIG: &str = "[safe]\n\tdirectory = *\n[protocol]\n\tallow = never\n[protocol \"https\"]\n\tallow = always\n[protocol \"http\"]\n\tallow = always\n[protocol \"git\"]\n\tallow = always\n[protocol \"file\"]\n\tallow = always\n[core]\n\thooksPath = /dev/null\n[advice]\n\tdetachedHead = false\n";

impl WorkFolder {
    /// Creates the folder, which must not exist.
    pub(crate) fn create(path: &Path) -> Result<Self, Diagnostic> {
        let failed = |e: io::Error| errors::storage("create", path, &e);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let folder = Self {
            path: path.canonicalize().map_err(failed)?,
            is_kept: false,
        };
        for name in ["src", "pkg", "start", "home", "tmp", "etc"] {
            let dir = folder.path.join(name);
            fs::create_dir(&dir).map_err(failed)?;
            if name != "etc" {
                build_user::give(&dir).map_err(failed)?;
            }
        }
        let id = build_user::id();
        let passwd = format!("root:x:0:0::/:/bin/sh\nbuilder:x:{id}:{id}::/build/home:/bin/bash\n");
        folder.write("passwd", passwd.as_bytes())?;
        folder.write("group", format!("root:x:0:\nbuilder:x:{id}:\n").as_bytes())?;
        folder.write("hosts", HOSTS.as_bytes())?;
        folder.write("gitconfig", GITCONFIG.as_bytes())?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file of `etc`, which builds can read only.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<(), Diagnostic> {
        let path = self.dir("etc").join(name);
        let write = || {
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
        };
        write().map_err(|e| errors::storage("write", &path, &e))
    }

    /// One of its directories: `src`, `pkg`, `start`, `home`, `tmp`, `etc`.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps the directory of the package only, and returns it.
    pub(crate) fn keep_package(mut self) -> Result<PathBuf, Diagnostic> {
        for name in ["src", "start", "home", "tmp", "etc"] {
            let dir = self.dir(name);
            remove_tree(&dir).map_err(|e| errors::storage("remove", &dir, &e))?;
        }
        self.is_kept = true;
        Ok(self.dir("pkg"))
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the folder of a build");
        }
    }
}

/// Removes a directory whose content is not trusted: it can be nested without a limit, and
/// directories can be unreadable. No link is followed.
pub(crate) fn remove_tree(root: &Path) -> io::Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
    let top = open_dir(CWD, root)?;
    let mut moved = 0_u64;
    loop {
        let mut is_empty = true;
        for (name, kind) in entries(&top)? {
            is_empty = false;
            if kind == FileType::Directory {
                chmodat(&top, &name, Mode::RWXU, AtFlags::empty())?;
                let dir = open_dir(&top, &*name)?;
                for (child, kind) in entries(&dir)? {
                    if kind == FileType::Directory {
                        // A directory is renamed only if it can be written.
                        chmodat(&dir, &child, Mode::RWXU, AtFlags::empty())?;
                        renameat(&dir, &child, &top, unused(&top, &mut moved))?;
                    } else {
                        unlinkat(&dir, &child, AtFlags::empty())?;
                    }
                }
                unlinkat(&top, &name, AtFlags::REMOVEDIR)?;
            } else {
                unlinkat(&top, &name, AtFlags::empty())?;
            }
        }
        if is_empty {
            return fs::remove_dir(root);
        }
    }
}

/// A name that no entry of the directory has.
fn unused(dir: &OwnedFd, moved: &mut u64) -> String {
    loop {
        *moved += 1;
        let name = format!("moved-{moved}");
        if rustix::fs::statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW).is_err() {
            return name;
        }
    }
}

fn open_dir<P: rustix::path::Arg>(dir: impl rustix::fd::AsFd, path: P) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(dir, path, flags, Mode::empty())?)
}

fn entries(dir: &OwnedFd) -> io::Result<Vec<(CString, FileType)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        found.push((name.to_owned(), FileType::from_raw_mode(stat.st_mode)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn hostile_trees_are_removed_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "x").unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        symlink(&outside, root.join("link")).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join("moved-1")).unwrap();
        symlink(&outside, root.join("a/link")).unwrap();
        fs::write(root.join("a/b/file"), "x").unwrap();
        for locked in ["a/b", "a"] {
            fs::set_permissions(root.join(locked), fs::Permissions::from_mode(0o000)).unwrap();
        }
        // Deeper than a path can be.
        let mut top = open_dir(CWD, &root).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&top, "d", Mode::RWXU).unwrap();
            top = open_dir(&top, "d").unwrap();
        }
        remove_tree(&root).unwrap();
        assert!(!root.exists());
        assert_eq!(fs::read(outside.join("kept")).unwrap(), b"x");
    }
}
