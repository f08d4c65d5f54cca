use input_validation::{Backend, ModelRef};

/// Returns the name of the binary that serves a model on a backend. `None` if rbee has no worker
/// for the backend. `model` is absent if any will do.
pub const fn worker_binary(model: Option<&ModelRef>, backend: Backend) -> Option<&'static str> {
    match (model, backend) {
        (_, Backend::Vulkan) => None,
        (Some(ModelRef::Mock(_)), _) => Some("mock-worker-rbee"),
        (_, Backend::Cpu) => Some("llm-cpu-worker-rbee"),
        (_, Backend::Cuda) => Some("llm-cuda-worker-rbee"),
        (_, Backend::Metal) => Some("llm-metal-worker-rbee"),
    }
}

/// How to get a binary.
pub(crate) fn install_hint(binary: &str) -> String {
    format!(
        "build it with `rbee-keeper worker-binary provision {binary} --repository URL` (`--node \
         NAME` on another node), or start the hive with `--worker-dir DIR`, where DIR contains it"
    )
}
