use std::collections::BTreeMap;

use utoipa::{
    Modify,
    openapi::{OpenApi, Ref, RefOr, Response, path::PathItem},
};

/// Moves error responses that several operations share to the components of a document. Their
/// names consist of the body and the status: `ErrorBody401`.
#[derive(Debug, Clone, Copy)]
pub struct SharedErrors;

impl Modify for SharedErrors {
    fn modify(&self, document: &mut OpenApi) {
        let mut shared = BTreeMap::new();
        for (name, variants) in count(document) {
            if let Some((response, uses)) = variants.into_iter().max_by_key(|(_, uses)| *uses)
                && uses > 1
            {
                shared.insert(name, response);
            }
        }
        for (status, response) in responses(document) {
            if let RefOr::T(inline) = response
                && let Some(name) = name(status, inline)
                && shared.get(&name) == Some(inline)
            {
                *response = Ref::from_response_name(name).into();
            }
        }
        let components = document.components.get_or_insert_default();
        for (name, response) in shared {
            components.responses.insert(name, response.into());
        }
    }
}

/// Returns the different responses of each name, and how often each occurs.
fn count(document: &mut OpenApi) -> BTreeMap<String, Vec<(Response, usize)>> {
    let mut counts: BTreeMap<String, Vec<(Response, usize)>> = BTreeMap::new();
    for (status, response) in responses(document) {
        let RefOr::T(response) = response else {
            continue;
        };
        let Some(name) = name(status, response) else {
            continue;
        };
        let variants = counts.entry(name).or_default();
        match variants.iter_mut().find(|(known, _)| known == response) {
            Some((_, uses)) => *uses += 1,
            None => variants.push((response.clone(), 1)),
        }
    }
    counts
}

/// Returns the name of an error response whose body is a component.
fn name(status: &str, response: &Response) -> Option<String> {
    if !status.starts_with(['4', '5']) {
        return None;
    }
    let RefOr::T(content) = response.content.get("application/json")? else {
        return None;
    };
    let Some(RefOr::Ref(body)) = &content.schema else {
        return None;
    };
    let (_, body) = body.ref_location.rsplit_once('/')?;
    Some(format!("{body}{status}"))
}

fn responses(document: &mut OpenApi) -> impl Iterator<Item = (&String, &mut RefOr<Response>)> {
    document
        .paths
        .paths
        .values_mut()
        .flat_map(operations)
        .flat_map(|operation| operation.responses.responses.iter_mut())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut utoipa::openapi::path::Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use utoipa::{OpenApi as _, ToSchema};

    use super::*;

    #[derive(ToSchema)]
    #[allow(dead_code, reason = "only described")]
    struct Body {
        message: String,
    }

    crate::error_responses_type!(Common<Body>: 401);
    crate::error_responses_type!(Special<Body>: 401 "only here");

    #[utoipa::path(get, path = "/a", responses(Common))]
    #[allow(dead_code, reason = "only described")]
    fn a() {}

    #[utoipa::path(get, path = "/b", responses(Common))]
    #[allow(dead_code, reason = "only described")]
    fn b() {}

    #[utoipa::path(get, path = "/c", responses(Special))]
    #[allow(dead_code, reason = "only described")]
    fn c() {}

    #[derive(utoipa::OpenApi)]
    #[openapi(paths(a, b, c), components(schemas(Body)), modifiers(&SharedErrors))]
    struct Document;

    #[test]
    fn equal_error_responses_become_one_component() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let response = |path: &str| document["paths"][path]["get"]["responses"]["401"].clone();
        assert_eq!(
            response("/a"),
            json!({"$ref": "#/components/responses/Body401"})
        );
        assert_eq!(response("/b"), response("/a"));
        assert_eq!(response("/c")["description"], "only here");
        assert!(document["components"]["responses"]["Body401"]["content"].is_object());
    }
}
