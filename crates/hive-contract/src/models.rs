use input_validation::{ModelAlias, ModelRef};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use worker_contract::SamplingValues;

/// File format of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelFormat {
    /// GGUF file.
    Gguf,
    /// Directory with safetensors, configuration and tokenizer.
    Safetensors,
    /// Mock engine, without files.
    Mock,
}

/// Files of a model that was fetched, or files of the user that a worker has loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredFiles {
    /// What a worker opens: a file or a directory.
    pub path: String,
    /// Pinned revision: a commit, or the digest of a manifest; absent for files of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub revision: Option<String>,
    /// SHA-256 of the file of weights, or of the list of several, in hexadecimal; absent for
    /// files of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub sha256: Option<String>,
    /// Time at which the files were complete, or were first used.
    #[schema(value_type = String, format = DateTime)]
    pub added_at: Timestamp,
    /// Time of the last spawn of a worker; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, nullable = false)]
    pub last_used_at: Option<Timestamp>,
    /// What is wrong with the files; absent if nothing is known to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub problem: Option<String>,
}

/// Model that is available on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstalledModel {
    /// Canonical reference of the model.
    pub model: ModelRef,
    /// Other references that stand for the same files, such as the one that it was fetched by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<ModelRef>,
    /// File format.
    pub format: ModelFormat,
    /// Size of the files, in bytes.
    pub size_bytes: u64,
    /// Architecture: `llama`.
    pub architecture: String,
    /// Type of the weights: `F16`.
    pub quantization: String,
    /// Maximum length of prompt and output together, in tokens.
    pub context_length: u32,
    /// Number of weights.
    pub parameters: u64,
    /// Parameters of the sampler that the model recommends: the defaults of requests.
    #[serde(default, skip_serializing_if = "SamplingValues::is_empty")]
    pub sampling: SamplingValues,
    /// The files; absent for built-in models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub files: Option<StoredFiles>,
}

/// Another name of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasEntry {
    /// The name.
    pub name: ModelAlias,
    /// Reference of the model, which need not be on the machine.
    pub model: ModelRef,
    /// Whether the name is part of rbee, and was not set by a user.
    pub shipped: bool,
}

/// Response of `GET /v1/models`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstalledModelList {
    /// Models in order of their references.
    pub models: Vec<InstalledModel>,
    /// Aliases in order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<AliasEntry>,
    /// What users should know about the catalog, such as that it was rebuilt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// Body of calls about one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelQuery {
    /// Reference of the model.
    pub model: ModelRef,
}

/// File that would be fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemoteModelFile {
    /// Path in the model's directory.
    pub path: String,
    /// Size, in bytes.
    pub size_bytes: u64,
}

/// Files of a model at its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemoteModel {
    /// Revision of the files.
    pub revision: String,
    /// The files.
    pub files: Vec<RemoteModelFile>,
    /// Files at the source that would let the model see images. They are not fetched.
    pub projectors: Vec<String>,
}

/// Size of the KV cache in a storage type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KvCacheSize {
    /// Storage type: `f32`, `f16`, `q8_0`.
    pub kv_type: String,
    /// Size of a token, in bytes.
    pub bytes_per_token: u64,
    /// Whether workers store the cache in this type.
    pub used: bool,
}

/// Numbers of which the memory of a model consists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelMemory {
    /// Number of layers.
    pub layers: u32,
    /// Size of the weights, in bytes.
    pub weight_bytes: u64,
    /// The KV cache in each storage type, the largest first.
    pub kv_cache: Vec<KvCacheSize>,
}

/// Response of `POST /v1/models/show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelDetails {
    /// Properties of the model.
    pub model: InstalledModel,
    /// Values by the keys of GGUF metadata, such as `llama.context_length`. Arrays are null.
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// Chat template; absent if the model has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Name or text of the license; absent if the files do not contain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// What its memory consists of; absent for the mock engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub memory: Option<ModelMemory>,
    /// What a pull would fetch; absent if the model is on the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub remote: Option<RemoteModel>,
}

/// Body of `POST /v1/models/pull`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct PullRequest {
    /// Reference of the model.
    pub model: ModelRef,
    /// Revision to fetch. Default: the one of the files on the machine, else the one of an
    /// earlier pull that did not complete, else the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub revision: Option<String>,
}

/// Response of `POST /v1/models/pull`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PullResponse {
    /// The model.
    pub model: InstalledModel,
    /// Bytes that were fetched now; 0 if all files were on the machine.
    pub fetched_bytes: u64,
}

/// Response of `POST /v1/models/remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RemovedModel {
    /// Canonical reference of the model.
    pub model: ModelRef,
    /// Size of the removed files, in bytes; 0 if files of the user were only forgotten.
    pub freed_bytes: u64,
}

/// State of a file of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileState {
    /// The file has its SHA-256, or that of the file that a worker loaded.
    Intact,
    /// The content differs.
    Damaged,
    /// The file does not exist or cannot be read.
    Missing,
}

/// Result of the verification of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifiedFile {
    /// Path in the model's directory.
    pub path: String,
    /// State of the file.
    pub state: FileState,
    /// What differs; absent if the file is intact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<String>,
}

/// Response of `POST /v1/models/verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyResponse {
    /// Canonical reference of the model.
    pub model: ModelRef,
    /// Whether all files are intact.
    pub intact: bool,
    /// The files.
    pub files: Vec<VerifiedFile>,
}

/// Body of `POST /v1/models/prune`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneRequest {
    /// Size that the fetched models may have together, in bytes. Those whose last use is the
    /// longest ago are removed first. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Whether to remove the files of downloads that did not complete. Default: false.
    #[serde(default)]
    #[schema(default = false)]
    pub partial: bool,
    /// Whether to remove nothing and only say what would be. Default: false.
    #[serde(default)]
    #[schema(default = false)]
    pub dry_run: bool,
}

/// What `POST /v1/models/prune` removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PrunedItem {
    /// Reference of the model, or directory of an incomplete download.
    pub name: String,
    /// Size of the files, in bytes.
    pub size_bytes: u64,
}

/// Response of `POST /v1/models/prune`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneResponse {
    /// What was removed, or would be.
    pub removed: Vec<PrunedItem>,
    /// Size of the fetched models that are kept, in bytes. It exceeds the limit if workers use
    /// them.
    pub kept_bytes: u64,
}

/// Response of `POST /v1/models/update`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpdateResponse {
    /// Canonical reference of the model.
    pub model: ModelRef,
    /// Revision on the machine.
    pub current: String,
    /// Newest revision.
    pub newest: String,
    /// Files that differ or are new.
    pub changed: Vec<RemoteModelFile>,
}

/// Body of `POST /v1/models/alias`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasRequest {
    /// The name.
    pub name: ModelAlias,
    /// Reference of the model; null removes the name.
    #[serde(default)]
    pub model: Option<ModelRef>,
}

/// Body of `POST /v1/models/backup` and `POST /v1/models/restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupRequest {
    /// Absolute path of the copy on the machine.
    #[schema(pattern = "^/[^\\x00-\\x1f\\x7f]+$", max_length = 4096)]
    pub path: String,
}
