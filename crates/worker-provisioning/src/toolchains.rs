//! Toolchains outside `/usr`, which builds of packages do not see otherwise.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;

use crate::errors;

/// What builds of packages see of the system in any case.
const VISIBLE: [&str; 4] = ["/usr", "/opt/cuda", "/opt/rocm", "/nix/store"];
/// Directories that every build has of its own, in place of those of the system.
pub const REPLACED: [&str; 4] = ["/build", "/dev", "/proc", "/tmp"];
/// What the root of a toolchain has besides `bin`, by its program.
const MARKS: [(&str, &str); 2] = [("cargo", "lib/rustlib"), ("nvcc", "nvvm")];

/// Where toolchains are looked for.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Directories of programs, as in `PATH`.
    pub path: &'a OsStr,
    /// Home directory of the user.
    pub home: Option<&'a Path>,
    /// The state of this machine, which no build may see.
    pub state: &'a Path,
    /// Directories of which builds have their own: [`REPLACED`].
    pub replaced: &'a [&'a str],
    /// Reads a variable of the environment.
    pub variable: fn(&str) -> Option<OsString>,
}

/// The directories of the user's toolchains: those that are configured, and those of Rust and
/// CUDA that are found outside of what builds see in any case.
///
/// Errors: `CONFIG_INVALID` for a configured one that is no directory or contains the home
/// directory of the user.
pub fn toolchains(
    configured: &[PathBuf],
    around: Surroundings<'_>,
) -> Result<Vec<PathBuf>, Diagnostic> {
    let mut all = Vec::new();
    for dir in configured {
        let real = fs::canonicalize(dir).map_err(|e| errors::bad_toolchain(dir, &e))?;
        let why = if !real.is_dir() {
            "it is no directory"
        } else if exposes(&real, around) {
            "it contains the files of the user"
        } else if is_replaced(&real, around) {
            "builds have a directory of their own there"
        } else {
            all.push(real);
            continue;
        };
        return Err(errors::bad_toolchain(dir, &why));
    }
    for (program, mark) in MARKS {
        let found = candidates(program, around).into_iter().find_map(|root| {
            let root = fs::canonicalize(root).ok()?;
            let is_toolchain = root.join("bin").join(program).is_file() && root.join(mark).exists();
            let is_safe = !exposes(&root, around) && !is_replaced(&root, around);
            (is_toolchain && is_safe).then_some(root)
        });
        let is_visible = |root: &PathBuf| VISIBLE.iter().any(|dir| root.starts_with(dir));
        all.extend(found.filter(|root| !is_visible(root)));
    }
    all.sort();
    all.dedup();
    Ok(all)
}

/// Whether a directory contains what builds must not see.
fn exposes(dir: &Path, around: Surroundings<'_>) -> bool {
    let hidden = [around.home, Some(around.state)];
    let mut hidden = hidden.into_iter().flatten();
    dir.parent().is_none()
        || hidden.any(|hidden| {
            let real = fs::canonicalize(hidden);
            hidden.starts_with(dir) || real.is_ok_and(|real| real.starts_with(dir))
        })
}

fn is_replaced(dir: &Path, around: Surroundings<'_>) -> bool {
    around
        .replaced
        .iter()
        .any(|replaced| dir.starts_with(replaced))
}

/// Where a toolchain with this program may be, the likeliest first.
fn candidates(program: &str, around: Surroundings<'_>) -> Vec<PathBuf> {
    let variables: &[&str] = match program {
        "nvcc" => &["CUDA_HOME", "CUDA_PATH"],
        _ => &[],
    };
    let named = variables.iter().filter_map(|name| (around.variable)(name));
    let mut all: Vec<PathBuf> = named.map(PathBuf::from).collect();
    let mut on_path = std::env::split_paths(around.path).map(|dir| dir.join(program));
    let first = on_path.find_map(|path| fs::canonicalize(path).ok());
    // `bin/cargo` of rustup is a link to rustup, whose directory has no toolchain.
    all.extend(first.and_then(|path| Some(path.parent()?.parent()?.to_owned())));
    if program == "cargo" {
        all.extend(of_rustup(around));
    }
    all
}

/// The default toolchain of rustup.
fn of_rustup(around: Surroundings<'_>) -> Option<PathBuf> {
    let home = (around.variable)("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(around.home?.join(".rustup")))?;
    let settings = fs::read_to_string(home.join("settings.toml")).ok()?;
    let name = settings.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "default_toolchain").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    let mut dirs: Vec<PathBuf> = fs::read_dir(home.join("toolchains"))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    dirs.sort();
    // `stable` stands for `stable-x86_64-unknown-linux-gnu`.
    let is_it = |dir: &&PathBuf| {
        let dir = dir.file_name().and_then(OsStr::to_str).unwrap_or_default();
        dir == name
            || dir
                .strip_prefix(&name)
                .is_some_and(|rest| rest.starts_with('-'))
    };
    dirs.iter().find(is_it).cloned()
}

#[cfg(test)]
mod tests {
    use std::{fs::create_dir_all, os::unix::fs::symlink};

    use diagnostics::Code;

    use super::*;

    fn file(path: &Path) {
        create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn none(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn the_toolchains_of_the_user_are_found_and_nothing_else_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let home = root.join("home");
        let rust = home.join(".rustup/toolchains/stable-x86_64-unknown-linux-gnu");
        file(&rust.join("bin/cargo"));
        file(&rust.join("lib/rustlib/x"));
        file(&home.join(".cargo/bin/rustup"));
        file(&home.join(".cargo/credentials.toml"));
        symlink("rustup", home.join(".cargo/bin/cargo")).unwrap();
        fs::write(
            home.join(".rustup/settings.toml"),
            "version = \"12\"\ndefault_toolchain = \"stable\"\n",
        )
        .unwrap();
        let cuda = root.join("opt/cuda-12");
        file(&cuda.join("bin/nvcc"));
        file(&cuda.join("nvvm/x"));
        let state = home.join(".rbee");
        let path = std::env::join_paths([home.join(".cargo/bin"), cuda.join("bin")]).unwrap();
        let around = Surroundings {
            path: &path,
            home: Some(&home),
            state: &state,
            replaced: &[],
            variable: none,
        };
        assert_eq!(
            toolchains(&[], around).unwrap(),
            [rust.clone(), cuda.clone()]
        );
        let more = root.join("opt/tools");
        create_dir_all(&more).unwrap();
        let all = toolchains(std::slice::from_ref(&more), around).unwrap();
        assert_eq!(all, [rust.clone(), cuda.clone(), more]);
        for bad in [
            root.clone(),
            home.clone(),
            state.clone(),
            root.join("absent"),
        ] {
            let error = toolchains(&[bad], around).unwrap_err();
            assert_eq!(error.code, Code::ConfigInvalid);
        }
        // What builds would not see is not offered to them.
        let replaced = [cuda.to_str().unwrap()];
        let around_it = Surroundings {
            replaced: &replaced,
            ..around
        };
        let found = toolchains(&[], around_it).unwrap();
        assert_eq!(found, std::slice::from_ref(&rust));
        assert!(toolchains(std::slice::from_ref(&cuda), around_it).is_err());
        // A program in `~/bin` does not show the home directory.
        file(&home.join("bin/nvcc"));
        file(&home.join("nvvm/x"));
        let path = home.join("bin").into_os_string();
        let around = Surroundings {
            path: &path,
            ..around
        };
        let found = toolchains(&[], around).unwrap();
        assert!(!found.contains(&home), "{found:?}");
    }
}
