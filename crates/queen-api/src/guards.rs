//! Keys and tokens in front of routes.

use std::sync::Arc;

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::IntoResponse as _,
};
use daemon_shell::{ErrorResponse, Token, bearer_token};
use diagnostics::Diagnostic;
use http::{HeaderMap, HeaderName};
use queen_nodes::Nodes;

use crate::errors::{invalid_key, missing_key};

/// Where Anthropic's clients send their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Requires one of several keys on every route of `router`.
pub(crate) fn require_api_key(router: Router, accepted: Vec<Arc<Token>>) -> Router {
    let accepted = Arc::new(accepted);
    router.route_layer(middleware::from_fn(move |request: Request, next: Next| {
        let accepted = Arc::clone(&accepted);
        async move {
            match check_api_key(request.headers(), &accepted) {
                Ok(()) => next.run(request).await,
                Err(error) => ErrorResponse(error).into_response(),
            }
        }
    }))
}

/// Returns the key that a client presents, valid or not.
pub(crate) fn presented_key(headers: &HeaderMap) -> Option<&str> {
    let api_key = || Some(headers.get(API_KEY)?.to_str().ok()?.trim());
    bearer_token(headers)
        .or_else(api_key)
        .filter(|key| !key.is_empty())
}

fn check_api_key(headers: &HeaderMap, accepted: &[Arc<Token>]) -> Result<(), Diagnostic> {
    let presented = presented_key(headers).ok_or_else(missing_key)?;
    // Every key is compared, so that the time does not depend on the result.
    if accepted
        .iter()
        .fold(false, |ok, key| ok | key.matches(presented))
    {
        Ok(())
    } else {
        Err(invalid_key())
    }
}

/// Requires the token of a node on every route of `router`. Handlers find the node's name as
/// an extension of the request.
pub(crate) fn require_node_token(router: Router, nodes: Nodes) -> Router {
    router.route_layer(middleware::from_fn(
        move |mut request: Request, next: Next| {
            let sender = daemon_shell::require_bearer(request.headers()).and_then(|presented| {
                nodes
                    .node_of_token(presented)
                    .ok_or_else(daemon_shell::invalid_token)
            });
            async move {
                match sender {
                    Ok(node) => {
                        request.extensions_mut().insert(node);
                        next.run(request).await
                    }
                    Err(error) => ErrorResponse(error).into_response(),
                }
            }
        },
    ))
}
