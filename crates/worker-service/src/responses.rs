//! The error responses in the OpenAPI document.

use diagnostics::ErrorBody;
use openapi_schema::error_responses_type;

error_responses_type!(TokenErrors<ErrorBody>: 401 "The token is missing or wrong");
error_responses_type!(MetricsErrors<ErrorBody>: 401 "The token is missing or wrong", 500);
error_responses_type!(
    CancelErrors<ErrorBody>:
    400 "Not a valid request id", 401 "The token is missing or wrong"
);
error_responses_type!(
    InferErrors<ErrorBody>:
    400 "The request is invalid or exceeds the context length, or the model does not support it",
    401 "The token is missing or wrong", 408, 409 "A request with this id is running", 413, 415,
    499, 500, 503 "The worker is loading or draining, or all slots are busy"
);
error_responses_type!(
    TokenizeErrors<ErrorBody>:
    400 "The request is invalid, or a token is not in the vocabulary",
    401 "The token is missing or wrong", 408 "The body did not arrive in time", 413, 415, 500,
    503 "The worker is loading"
);
