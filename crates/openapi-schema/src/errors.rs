use std::collections::BTreeMap;

use utoipa::{
    ToSchema,
    openapi::{
        ContentBuilder, Header, Object, Ref, RefOr, Response, ResponseBuilder,
        header::HeaderBuilder,
        schema::{ObjectBuilder, Type},
    },
};

/// Describes error responses with the body `B`, one for each status. Without a description, a
/// status has a general one.
pub fn error_responses<B: ToSchema>(
    statuses: &[(u16, Option<&str>)],
) -> BTreeMap<String, RefOr<Response>> {
    let body = Ref::from_schema_name(B::name());
    statuses
        .iter()
        .map(|(status, specific)| {
            let content = ContentBuilder::new().schema(Some(body.clone())).build();
            let response = ResponseBuilder::new()
                .description(specific.unwrap_or_else(|| description(*status)))
                .content("application/json", content);
            let response = headers(*status)
                .into_iter()
                .fold(response, |response, (name, header)| {
                    response.header(name, header)
                });
            (status.to_string(), response.build().into())
        })
        .collect()
}

/// Describes when rbee responds with a status.
fn description(status: u16) -> &'static str {
    match status {
        400 => "The request is invalid, or exceeds what the model supports",
        401 => "The key or token is missing or not valid",
        403 => "The `Host` or `Origin` of the request is not permitted",
        404 => "The object does not exist",
        408 => "The deadline passed, or the body did not arrive in time",
        409 => "The request conflicts with the current state",
        413 => "The body is too large",
        415 => "The content type of the body is not `application/json`",
        429 => "Too many requests are waiting",
        499 => "The request was cancelled",
        500 => "A defect of rbee, or unusable files",
        502 => "A process that is needed for the response failed or does not respond",
        503 => "The resource is not available now",
        504 => "A process that is needed for the response made no progress",
        507 => "Memory or disk space is insufficient",
        _ => "The request failed",
    }
}

/// Headers that a response with this status can have.
fn headers(status: u16) -> Vec<(&'static str, Header)> {
    let mut headers = Vec::new();
    if matches!(status, 429 | 502 | 503 | 504 | 507) {
        let seconds: Object = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .build();
        let header = HeaderBuilder::new()
            .schema(Some(seconds))
            .description(Some("Seconds after which a retry can succeed, if known"));
        headers.push(("retry-after", header.build()));
    }
    if matches!(status, 400 | 408 | 415 | 503 | 507) {
        let only_false: Object = ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(["false"]))
            .build();
        let header = HeaderBuilder::new()
            .schema(Some(only_false))
            .description(Some(
                "`false` if a retry of the same request cannot succeed",
            ));
        headers.push(("x-should-retry", header.build()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::IntoResponses as _;

    use super::*;

    #[derive(ToSchema)]
    #[allow(dead_code, reason = "only described")]
    struct Body {
        message: String,
    }

    crate::error_responses_type!(Three<Body>: 401, 409 "The job is running", 429);

    #[test]
    fn every_status_has_a_response_with_the_body() {
        let responses = serde_json::to_value(Three::responses()).unwrap();
        assert_eq!(
            responses["401"],
            json!({"description": "The key or token is missing or not valid", "content":
                {"application/json": {"schema": {"$ref": "#/components/schemas/Body"}}}})
        );
        assert_eq!(
            responses["429"]["headers"]["retry-after"]["schema"],
            json!({"type": "integer", "minimum": 0})
        );
        assert_eq!(responses["409"]["description"], "The job is running");
        assert_eq!(responses.as_object().unwrap().len(), 3);
    }
}
