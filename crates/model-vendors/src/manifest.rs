use input_validation::ModelRef;
use model_format::ModelHeader;

/// What a file of a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weights: a GGUF file, one of its parts, or a safetensors shard.
    Weights,
    /// Tokenizer, configuration, chat template, license and the like.
    Companion,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Relative path in the model's directory. It has no `..`, no control characters and no
    /// empty segments.
    pub path: String,
    /// Name of the file at the vendor: a path in a repository, or a digest.
    pub remote: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, if the vendor publishes one.
    pub sha256: Option<[u8; 32]>,
    /// What the file is for.
    pub role: Role,
}

/// The files of a model at one revision.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Canonical reference, with the file or the type of the weights that was selected.
    pub model: ModelRef,
    /// Pinned revision: a commit, or the digest of a manifest.
    pub revision: String,
    /// The files to fetch. Weights come first.
    pub files: Vec<ManifestFile>,
    /// What a worker opens, relative to the model's directory: a file, or `""` for the
    /// directory.
    pub entry: String,
    /// Header of the weights, read by range requests.
    pub header: ModelHeader,
    /// Files that provide vision for the model (`mmproj`), which are not fetched.
    pub projectors: Vec<String>,
}

/// What is known about the target when a file is selected.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection {
    /// Memory for the weights, in bytes. Without it, fit is not considered.
    pub memory_bytes: Option<u64>,
}
