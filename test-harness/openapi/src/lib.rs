//! Generates the OpenAPI documents from the code.

use utoipa::openapi::OpenApi;

/// Returns the file name and the text of every document.
pub fn documents() -> Result<Vec<(&'static str, String)>, String> {
    let apis: [(&str, OpenApi); 3] = [
        ("worker-api.yaml", worker_service::openapi()),
        ("hive-api.yaml", rbee_hive::openapi()),
        ("queen-api.yaml", queen_api::openapi()),
    ];
    apis.into_iter()
        .map(|(name, api)| {
            let text = api.to_yaml().map_err(|e| format!("{name}: {e}"))?;
            Ok((name, text))
        })
        .collect()
}
