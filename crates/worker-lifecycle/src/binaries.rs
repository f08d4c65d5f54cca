use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use input_validation::{Backend, ModelRef};
use preflight_validation::worker_binary;

use crate::errors::{binary_not_found, no_worker};

/// The worker binaries of rbee.
const NAMES: [&str; 4] = [
    "llm-cpu-worker-rbee",
    "llm-cuda-worker-rbee",
    "llm-metal-worker-rbee",
    "mock-worker-rbee",
];

/// The worker binaries in one directory.
#[derive(Debug, Clone)]
pub struct WorkerBinaries {
    dir: PathBuf,
}

impl WorkerBinaries {
    /// The worker binaries in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory of the binaries.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of the installed binaries.
    pub fn installed(&self) -> Vec<String> {
        NAMES
            .into_iter()
            .filter(|name| is_executable(&self.dir.join(name)))
            .map(str::to_owned)
            .collect()
    }

    /// The binary that serves this model on this backend.
    pub(crate) fn find(&self, model: &ModelRef, backend: Backend) -> Result<PathBuf, Diagnostic> {
        let name = worker_binary(Some(model), backend);
        let name = name.ok_or_else(|| no_worker(backend))?;
        let path = self.dir.join(name);
        if is_executable(&path) {
            Ok(path)
        } else {
            Err(binary_not_found(name, &path))
        }
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn each_backend_has_its_binary_and_only_an_executable_counts() {
        let dir = tempfile::tempdir().unwrap();
        let binaries = WorkerBinaries::new(dir.path().to_owned());
        let haiku: ModelRef = "builtin:haiku".parse().unwrap();
        let cpu = dir.path().join("llm-cpu-worker-rbee");
        let error = binaries.find(&haiku, Backend::Cpu).unwrap_err();
        assert_eq!(error.code, Code::WorkerBinaryNotFound);
        assert!(error.message.contains(cpu.to_str().unwrap()));

        fs::write(&cpu, "").unwrap();
        fs::set_permissions(&cpu, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(binaries.find(&haiku, Backend::Cpu).is_err());
        assert_eq!(binaries.installed(), Vec::<String>::new());
        fs::set_permissions(&cpu, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(binaries.find(&haiku, Backend::Cpu).unwrap(), cpu);
        assert_eq!(binaries.installed(), ["llm-cpu-worker-rbee"]);

        let cuda = binaries.find(&haiku, Backend::Cuda).unwrap_err();
        assert!(cuda.message.contains("llm-cuda-worker-rbee"));
        let mock = binaries.find(&"mock:load_ms=1".parse().unwrap(), Backend::Cuda);
        assert!(mock.unwrap_err().message.contains("mock-worker-rbee"));
    }
}
