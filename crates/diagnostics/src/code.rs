use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// OpenAI's classes of error, as its clients know them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    /// The request is at fault.
    InvalidRequestError,
    /// No key, or a wrong one.
    AuthenticationError,
    /// The key or the origin may not do this.
    PermissionError,
    /// No such thing.
    NotFoundError,
    /// Too much at once; later it works.
    RateLimitError,
    /// The server is at fault.
    #[default]
    #[serde(other)]
    ServerError,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal;)*) => {
        /// Stable names of errors, each with the HTTP status it travels under.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A code that this version does not know; only ever read, never sent.
            #[serde(other)]
            Unrecognized,
        }

        impl Code {
            /// The HTTP status that carries this error.
            pub const fn http_status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                    Self::Unrecognized => 500,
                }
            }

            /// Every code that can be sent.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

codes! {
    /// No SSH connection within the limit.
    SshUnreachable = 502;
    /// SSH refused the credentials.
    SshAuthFailed = 502;
    /// The hive binary is missing on the node.
    HiveNotInstalled = 502;
    /// The hive does not answer.
    HiveUnreachable = 502;
    /// The hive answered something that is not its contract.
    HiveBadResponse = 502;
    /// The hive did not become healthy after it was started.
    HiveStartFailed = 502;
    /// The stream from a worker broke.
    WorkerLinkLost = 502;
    /// Less memory than needed.
    InsufficientRam = 507;
    /// The kernel killed a loading worker for memory.
    OutOfMemory = 507;
    /// Less device memory than needed.
    InsufficientVram = 507;
    /// Less disk than needed.
    InsufficientDisk = 507;
    /// The disk filled up.
    DiskFull = 507;
    /// No such model.
    ModelNotFound = 404;
    /// The vendor refuses access to the model.
    ModelAccessDenied = 403;
    /// No byte for 60 s.
    DownloadStalled = 504;
    /// The transfer broke for good.
    DownloadFailed = 502;
    /// A file is not what it should be.
    ChecksumMismatch = 502;
    /// The backend does not exist on this node.
    BackendUnavailable = 503;
    /// No usable CUDA driver.
    CudaUnavailable = 503;
    /// No such node.
    NodeNotFound = 404;
    /// The node's name is taken.
    NodeExists = 409;
    /// The key file does not exist.
    SshKeyNotFound = 400;
    /// No binary for this kind of worker.
    WorkerBinaryNotFound = 503;
    /// The worker ended or stayed silent while it started.
    WorkerStartFailed = 502;
    /// The worker died while it served.
    WorkerCrashed = 502;
    /// The worker gave no token for too long.
    WorkerStalled = 504;
    /// Not a model reference.
    InvalidModelRef = 400;
    /// Not a backend.
    InvalidBackend = 400;
    /// Not a device.
    InvalidDevice = 400;
    /// Loading made no progress.
    LoadingTimeout = 504;
    /// A key is required and none was given.
    MissingApiKey = 401;
    /// The key is not valid.
    InvalidApiKey = 401;
    /// The worker has no free slot.
    AllSlotsBusy = 503;
    /// The queue has no room.
    QueueFull = 429;
    /// A preflight found no worker binary.
    WorkerBinaryMissing = 503;
    /// Two versions that do not work together.
    VersionIncompatible = 409;
    /// The prompt does not fit.
    ContextLengthExceeded = 400;
    /// The deadline passed.
    DeadlineExceeded = 408;
    /// The caller went away or asked for it.
    Cancelled = 499;
    /// An architecture that the engine does not have.
    UnsupportedModel = 400;
    /// A tensor type that the engine does not have.
    UnsupportedQuantization = 400;
    /// A model file that is damaged or not of its format.
    InvalidModelFile = 400;
    /// A field, value or document that is wrong.
    InvalidRequest = 400;
    /// A known parameter that is not supported; it is never ignored.
    UnsupportedParameter = 400;
    /// No such route or object.
    NotFound = 404;
    /// No such worker.
    WorkerNotFound = 404;
    /// No such job.
    JobNotFound = 404;
    /// The route exists under another method.
    MethodNotAllowed = 405;
    /// The body is over the limit.
    BodyTooLarge = 413;
    /// The body is not of the type asked for.
    UnsupportedMediaType = 415;
    /// A browser page or foreign host name may not use this endpoint.
    OriginForbidden = 403;
    /// A newer generation of this worker exists; this one must stop.
    Fenced = 409;
    /// A request of this name is running.
    DuplicateRequest = 409;
    /// The worker exists already.
    WorkerExists = 409;
    /// Stopping: no new work.
    Draining = 503;
    /// Still loading.
    NotReady = 503;
    /// The address is in use.
    PortInUse = 409;
    /// A public address without a key.
    InsecureBind = 400;
    /// The configuration is wrong.
    ConfigInvalid = 400;
    /// State on disk was written by a newer version.
    StateTooNew = 409;
    /// State on disk cannot be read or written.
    StateUnusable = 500;
    /// The queen does not answer.
    QueenUnreachable = 502;
    /// The queen did not become healthy after it was started.
    QueenStartFailed = 502;
    /// A defect of rbee itself.
    Internal = 500;
}

impl Code {
    /// OpenAI's class for this error.
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

    /// The name as it travels: `MODEL_NOT_FOUND`.
    pub fn as_str(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => String::new(),
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.as_str())
    }
}
