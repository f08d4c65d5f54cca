//! The models of other nodes, for the hives that copy them.

use std::sync::Arc;

use axum::{Extension, Json, body::Body, extract::State, response::Response};
use daemon_shell::{ErrorResponse, JsonBody, QueryArgs};
use hive_contract::{ContentQuery, ManifestQuery, ModelManifest};
use http::{HeaderMap, header};
use input_validation::NodeName;

use crate::{
    Api,
    responses::{NodeContentErrors, NodeManifestErrors},
};

/// List the files of a model that another node has
#[utoipa::path(post, path = "/v1/node-models/manifest", tag = "catalog", security(("node_token" = [])),
    request_body = ManifestQuery,
    responses((status = 200, body = ModelManifest, description = "The files"), NodeManifestErrors))]
pub(crate) async fn manifest(
    State(api): State<Arc<Api>>,
    Extension(asker): Extension<NodeName>,
    JsonBody(query): JsonBody<ManifestQuery>,
) -> Result<Json<ModelManifest>, ErrorResponse> {
    Ok(Json(api.nodes.model_manifest(&asker, &query).await?))
}

/// Get the content of a file of a model that another node has
///
/// The content is that of any other node that has the file with this SHA-256. One range of bytes
/// is served, or the whole file if the header `Range` has another form.
#[utoipa::path(get, path = "/v1/node-models/content", tag = "catalog", security(("node_token" = [])),
    params(ContentQuery, ("range" = Option<String>, Header, description = "`bytes=FIRST-LAST` or `bytes=FIRST-`")),
    responses(
        (status = 200, description = "The file", body = [u8], content_type = "application/octet-stream",
            headers(("etag" = String, description = "SHA-256 of the file, in quotes"),
                ("accept-ranges" = String, description = "`bytes`"))),
        (status = 206, description = "The range", body = [u8], content_type = "application/octet-stream",
            headers(("etag" = String, description = "SHA-256 of the file, in quotes"),
                ("accept-ranges" = String, description = "`bytes`"),
                ("content-range" = String, description = "`bytes FIRST-LAST/SIZE`"))),
        NodeContentErrors))]
pub(crate) async fn content(
    State(api): State<Arc<Api>>,
    Extension(asker): Extension<NodeName>,
    QueryArgs(query): QueryArgs<ContentQuery>,
    headers: HeaderMap,
) -> Result<Response, ErrorResponse> {
    let range = headers.get(header::RANGE);
    let opened = api.nodes.model_content(&asker, &query, range).await?;
    let mut response = Response::new(Body::from_stream(opened.body));
    *response.status_mut() = opened.status;
    for name in [
        header::CONTENT_TYPE,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        header::ETAG,
    ] {
        if let Some(value) = opened.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}
