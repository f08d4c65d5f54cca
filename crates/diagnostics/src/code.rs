use serde::{Deserialize, Serialize};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, Type},
    },
};

/// OpenAI's types of errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The request is invalid.
    InvalidRequestError,
    /// The key or token is missing or not valid.
    AuthenticationError,
    /// The caller is not permitted to do this.
    PermissionError,
    /// The object does not exist.
    NotFoundError,
    /// Too many requests; a later retry can succeed.
    RateLimitError,
    /// The server failed. Also stands for types that this version does not know.
    #[default]
    #[serde(other)]
    ServerError,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal;)*) => {
        /// Stable error codes, each with its HTTP status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this version does not know. It is only received, never sent.
            #[serde(other)]
            Unrecognized,
        }

        impl Code {
            /// Returns the HTTP status of responses with this error.
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unrecognized => 500,
                }
            }

            /// All codes except [`Unrecognized`](Self::Unrecognized).
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

codes! {
    /// No SSH connection was established within the time limit.
    SshUnreachable = 502;
    /// The SSH server refused the credentials.
    SshAuthFailed = 502;
    /// The host key of the SSH server is unknown or differs from the known one.
    SshHostKeyUnknown = 502;
    /// A command on the node failed.
    NodeCommandFailed = 502;
    /// The hive's binary is missing on the node.
    HiveNotInstalled = 502;
    /// The hive does not respond.
    HiveUnreachable = 502;
    /// The hive sent a response that does not conform to its contract.
    HiveBadResponse = 502;
    /// The hive did not become healthy after its start.
    HiveStartFailed = 502;
    /// The connection to a worker failed.
    WorkerLinkLost = 502;
    /// The node has less free memory than required.
    InsufficientRam = 507;
    /// A worker ran out of memory.
    OutOfMemory = 507;
    /// The device has less free memory than required.
    InsufficientVram = 507;
    /// The disk has less free space than required.
    InsufficientDisk = 507;
    /// The disk is full.
    DiskFull = 507;
    /// The model does not exist.
    ModelNotFound = 404;
    /// A worker has loaded the model.
    ModelInUse = 409;
    /// The source of the model denies access.
    ModelAccessDenied = 403;
    /// A download received no data for 60 s.
    DownloadStalled = 504;
    /// A download failed, retries included.
    DownloadFailed = 502;
    /// The checksum of a file is wrong.
    ChecksumMismatch = 502;
    /// The catalog of packages is not what its publisher signed, or is older than before.
    CatalogUntrusted = 502;
    /// The node does not have the backend.
    BackendUnavailable = 503;
    /// The policy of the queen's user permits no place for a worker.
    PolicyRefused = 503;
    /// The node has no usable CUDA driver.
    CudaUnavailable = 503;
    /// The node does not exist.
    NodeNotFound = 404;
    /// A node with this name exists.
    NodeExists = 409;
    /// Workers run on the node.
    NodeInUse = 409;
    /// The node is asleep.
    NodeAsleep = 503;
    /// The node did not suspend.
    SuspendFailed = 502;
    /// The node did not respond in time after it was woken.
    WakeFailed = 504;
    /// The node cannot be woken: no MAC address of it is known.
    MacAddressUnknown = 409;
    /// The SSH key file does not exist.
    SshKeyNotFound = 400;
    /// The node has no binary of a worker for this device.
    WorkerBinaryNotFound = 503;
    /// The worker exited or did not respond during startup.
    WorkerStartFailed = 502;
    /// The worker exited while it was serving.
    WorkerCrashed = 502;
    /// The worker produced no output for too long.
    WorkerStalled = 504;
    /// The text is not a model reference.
    InvalidModelRef = 400;
    /// The text is not a backend.
    InvalidBackend = 400;
    /// The text is not a device.
    InvalidDevice = 400;
    /// Loading a model made no progress for too long.
    LoadingTimeout = 504;
    /// A key or token is required, and the request has none.
    MissingApiKey = 401;
    /// The key or token is not valid.
    InvalidApiKey = 401;
    /// The worker has no free slot.
    AllSlotsBusy = 503;
    /// The queue is full.
    QueueFull = 429;
    /// A check before the start found no worker binary.
    WorkerBinaryMissing = 503;
    /// The build of a package or a worker failed.
    BuildFailed = 502;
    /// A build needs the CUDA toolkit, and it is missing.
    CudaToolkitMissing = 503;
    /// A worker binary that was built or installed does not run.
    BinaryVerificationFailed = 502;
    /// Programs that a build needs are missing.
    BuildToolsMissing = 503;
    /// This machine cannot run a build in a sandbox.
    SandboxUnavailable = 503;
    /// The recipe of a package cannot be used.
    PackageInvalid = 400;
    /// The user has not agreed to run the recipe of a package.
    PackageNotApproved = 403;
    /// A worker runs from the binary.
    WorkerBinaryInUse = 409;
    /// The versions of two processes are incompatible.
    VersionIncompatible = 409;
    /// Prompt and output exceed the context length of the model.
    ContextLengthExceeded = 400;
    /// The deadline has passed.
    DeadlineExceeded = 408;
    /// The request was cancelled, or its client disconnected.
    Cancelled = 499;
    /// The engine does not support the architecture of the model.
    UnsupportedModel = 400;
    /// The engine does not support a tensor type of the model.
    UnsupportedQuantization = 400;
    /// A model file is damaged or has the wrong format.
    InvalidModelFile = 400;
    /// A field, value or document is invalid.
    InvalidRequest = 400;
    /// The model has no chat template, and the request has messages.
    NoChatTemplate = 400;
    /// A parameter of the API is not supported with this value, and ignoring it would change the
    /// output.
    UnsupportedParameter = 400;
    /// The route or object does not exist.
    NotFound = 404;
    /// The worker does not exist.
    WorkerNotFound = 404;
    /// The job does not exist.
    JobNotFound = 404;
    /// The route does not support the method.
    MethodNotAllowed = 405;
    /// The body exceeds the size limit.
    BodyTooLarge = 413;
    /// The content type of the body is not supported.
    UnsupportedMediaType = 415;
    /// The `Host` or `Origin` of the request is not permitted.
    OriginForbidden = 403;
    /// A newer generation of the worker exists, or it was stopped: this process must exit.
    Fenced = 409;
    /// A request with this id is running.
    DuplicateRequest = 409;
    /// The worker exists.
    WorkerExists = 409;
    /// The process is shutting down and accepts no new requests.
    Draining = 503;
    /// The worker is still loading its model.
    NotReady = 503;
    /// The address is in use.
    PortInUse = 409;
    /// Listening on a public address requires a key.
    InsecureBind = 400;
    /// The configuration is invalid.
    ConfigInvalid = 400;
    /// A newer version wrote the state on disk.
    StateTooNew = 409;
    /// The state on disk cannot be read or written.
    StateUnusable = 500;
    /// The queen does not respond.
    QueenUnreachable = 502;
    /// The queen did not become healthy after its start.
    QueenStartFailed = 502;
    /// A defect in rbee.
    Internal = 500;
}

impl Code {
    /// Returns OpenAI's type of this error, which follows from the HTTP status.
    pub const fn error_type(self) -> ErrorType {
        match self.http_status() {
            401 => ErrorType::AuthenticationError,
            403 => ErrorType::PermissionError,
            404 => ErrorType::NotFoundError,
            429 => ErrorType::RateLimitError,
            400..=499 => ErrorType::InvalidRequestError,
            _ => ErrorType::ServerError,
        }
    }

    /// Returns the code as in JSON: `MODEL_NOT_FOUND`.
    pub fn as_str(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => String::new(),
        }
    }
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Stable code of an error."))
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .into()
    }
}

impl ToSchema for Code {}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.as_str())
    }
}
