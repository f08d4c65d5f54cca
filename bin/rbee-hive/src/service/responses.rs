//! The error responses in the OpenAPI document.

use diagnostics::ErrorBody;
use openapi_schema::error_responses_type;

error_responses_type!(TokenErrors<ErrorBody>: 401);
error_responses_type!(
    LinkErrors<ErrorBody>: 401, 426 "The request does not ask for the protocol"
);
error_responses_type!(ReadErrors<ErrorBody>: 401, 500);
error_responses_type!(PreflightErrors<ErrorBody>: 400, 401, 408, 413, 415, 500);
error_responses_type!(StorageErrors<ErrorBody>: 401, 500, 507);
error_responses_type!(
    ModelErrors<ErrorBody>:
    400, 401, 404 "The model does not exist", 408, 413, 415, 500, 507
);
error_responses_type!(
    ContentErrors<ErrorBody>: 400, 401, 404 "No such file", 500, 507
);
error_responses_type!(WorkersErrors<ErrorBody>: 401, 409 "A newer version wrote a file", 500);
error_responses_type!(JobErrors<ErrorBody>: 400, 401, 404 "The job does not exist");
error_responses_type!(
    WorkerErrors<ErrorBody>:
    400, 401, 404 "The worker does not exist", 409 "A newer version wrote a file", 500
);
error_responses_type!(
    ShutdownErrors<ErrorBody>:
    400, 401, 408, 409 "A newer version wrote a file", 413, 415, 500
);
error_responses_type!(
    SuspendErrors<ErrorBody>:
    400, 401, 408, 409 "Workers, downloads or builds are running", 413, 415, 500,
    502 "The command that suspends the machine failed"
);
error_responses_type!(
    WakeErrors<ErrorBody>: 400, 401, 408, 413, 415, 504 "No packet could be sent"
);
error_responses_type!(
    SpawnErrors<ErrorBody>:
    400, 401, 404 "The model does not exist", 408,
    409 "A worker with this id is running as this or a newer generation, or all ports are in use",
    413, 415, 429 "Too many jobs are running", 499 "The job was cancelled", 500,
    502 "The worker failed to start", 503, 504 "The worker made no progress", 507
);
error_responses_type!(
    StoreErrors<ErrorBody>:
    400, 401, 408, 409 "A newer version wrote a file", 413, 415, 500, 507
);
error_responses_type!(
    ModelChangeErrors<ErrorBody>:
    400, 401, 404 "The model does not exist", 408,
    409 "A worker has loaded the model, or a newer version wrote a file", 413, 415, 500, 507
);
error_responses_type!(
    SourceErrors<ErrorBody>:
    400, 401, 403 "The source of the model denies access", 404 "The model does not exist", 408,
    409 "A newer version wrote a file", 413, 415, 500,
    502 "The source of the model failed", 504 "The source of the model does not respond", 507
);
error_responses_type!(
    PullErrors<ErrorBody>:
    400, 401, 403 "The source of the model denies access", 404 "The model does not exist", 408,
    409 "A newer version wrote a file", 413, 415, 429 "Too many jobs are running",
    499 "The job was cancelled", 500, 502 "The source of the model failed", 503,
    504 "The source of the model made no progress", 507
);
error_responses_type!(
    BinaryErrors<ErrorBody>: 400, 401, 404 "The worker binary is not installed", 500, 507
);
error_responses_type!(
    PackageErrors<ErrorBody>:
    400, 401, 404 "The package does not exist, or this hive has no catalog",
    409 "The catalog has a newer format", 500,
    502 "The catalog does not respond, or is not to be trusted", 507
);
error_responses_type!(
    BinaryChangeErrors<ErrorBody>:
    400, 401, 404 "The worker binary is not installed", 408,
    409 "A worker runs from it, or a newer version wrote a file", 413, 415, 500,
    502 "The file of the worker binary was changed", 507
);
error_responses_type!(
    ProvisionErrors<ErrorBody>:
    400, 401, 403 "The server denies access", 404 "The file does not exist", 408,
    409 "The binary has another version", 413, 415, 429 "Too many jobs are running",
    499 "The job was cancelled", 500, 502 "The build, the download or the verification failed",
    503 "There is no source, or no CUDA toolkit", 504 "The server made no progress", 507
);
