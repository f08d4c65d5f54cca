use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use diagnostics::{Code, Diagnostic};
use input_validation::{Backend, ModelRef};

const CPU: &str = "llm-cpu-worker-rbee";
const CUDA: &str = "llm-cuda-worker-rbee";
const METAL: &str = "llm-metal-worker-rbee";
const MOCK: &str = "mock-worker-rbee";

/// The worker programs of one folder.
#[derive(Debug, Clone)]
pub struct WorkerBinaries {
    dir: PathBuf,
}

impl WorkerBinaries {
    /// The programs in `dir`.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The names of those that are installed.
    pub fn installed(&self) -> Vec<String> {
        [CPU, CUDA, METAL, MOCK]
            .into_iter()
            .filter(|name| is_program(&self.dir.join(name)))
            .map(str::to_owned)
            .collect()
    }

    /// The program that serves this model on this backend; `WORKER_BINARY_NOT_FOUND` names
    /// where it should be.
    pub fn find(&self, model: &ModelRef, backend: Backend) -> Result<PathBuf, Diagnostic> {
        let name = match (model, backend) {
            (ModelRef::Mock(_), _) => MOCK,
            (_, Backend::Cpu) => CPU,
            (_, Backend::Cuda) => CUDA,
            (_, Backend::Metal) => METAL,
        };
        let path = self.dir.join(name);
        if is_program(&path) {
            return Ok(path);
        }
        Err(Diagnostic::new(
            Code::WorkerBinaryNotFound,
            format!("no {name} at {}", path.display()),
        )
        .hint(format!(
            "build it with `cargo build --bin {name}`, or start the hive with `--worker-dir` naming its folder"
        )))
    }
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_backend_has_its_program_and_only_a_program_counts() {
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
        fs::set_permissions(&cpu, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(binaries.find(&haiku, Backend::Cpu).unwrap(), cpu);
        assert_eq!(binaries.installed(), ["llm-cpu-worker-rbee"]);

        let cuda = binaries.find(&haiku, Backend::Cuda).unwrap_err();
        assert!(cuda.message.contains("llm-cuda-worker-rbee"));
        let mock = binaries.find(&"mock:load_ms=1".parse().unwrap(), Backend::Cuda);
        assert!(mock.unwrap_err().message.contains("mock-worker-rbee"));
    }
}
