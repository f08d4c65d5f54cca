//! The programs that a build needs.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use diagnostics::Diagnostic;
use preflight_validation::check_toolchain;
use tokio::{process::Command, time::timeout};

use crate::errors;

/// Time limit for the version of a tool.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// Where programs are looked for.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    path: OsString,
    /// Directory of the CUDA toolkit.
    cuda: PathBuf,
}

impl Tools {
    /// `path` is the variable `PATH`, `cuda` the directory of the CUDA toolkit.
    pub(crate) fn new(path: OsString, cuda: PathBuf) -> Self {
        Self { path, cuda }
    }

    pub(crate) fn path(&self) -> &OsString {
        &self.path
    }

    /// The program of this name.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        let cargo = std::env::home_dir().map(|home| home.join(".cargo/bin"));
        std::env::split_paths(&self.path)
            .chain(cargo)
            .map(|dir| dir.join(name))
            .find(|path| is_executable(path))
    }

    /// Whether there is a CUDA toolkit.
    pub(crate) fn has_cuda(&self) -> bool {
        self.find("nvcc").is_some() || is_executable(&self.cuda.join("bin/nvcc"))
    }

    /// Checks that everything is there to build a worker. Returns the versions, for users.
    ///
    /// Errors: `CUDA_TOOLKIT_MISSING` if the CUDA toolkit is missing, `BUILD_TOOLS_MISSING` if only others
    /// are; both name all that is missing.
    pub(crate) async fn check(&self, what: &str, needs_cuda: bool) -> Result<String, Diagnostic> {
        let mut printed = String::new();
        for tool in ["git", "cargo", "cc"] {
            if let Some(version) = self.version(tool).await {
                printed.extend([tool, "=", &version, "\n"]);
            }
        }
        if self.find("rustup").is_some() {
            printed.push_str("rustup=1\n");
        }
        let found = check_toolchain(&printed);
        let has_cuda = self.has_cuda();
        match found {
            Ok(found) if has_cuda || !needs_cuda => Ok(found),
            Ok(_) => Err(errors::no_cuda_toolkit(what, &[])),
            Err(missing) if needs_cuda && !has_cuda => Err(errors::no_cuda_toolkit(what, &missing)),
            Err(missing) => Err(errors::no_toolchain(what, &missing)),
        }
    }

    /// The first line that a tool prints about its version; `None` if it is not there.
    async fn version(&self, tool: &str) -> Option<String> {
        let program = self.find(tool)?;
        let run = Command::new(program)
            .arg("--version")
            .env("PATH", &self.path)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let printed = match timeout(VERSION_LIMIT, run).await {
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            _ => String::new(),
        };
        Some(printed.lines().next().unwrap_or_default().to_owned())
    }
}

pub(crate) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
