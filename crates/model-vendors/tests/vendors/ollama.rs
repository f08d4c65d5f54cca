use std::fs;

use axum::{Json, response::IntoResponse as _};
use diagnostics::Code;
use model_vendors::Role;
use serde_json::json;
use sim::{Blob, ServerRole, ollama::Registry};

use crate::support::{Vendors, model, paths, q8};

const MODEL: &str = "application/vnd.ollama.image.model";

/// A registry with one model.
async fn registry() -> (Registry, String) {
    let registry = Registry::start().await.unwrap();
    let layers = [
        ("model", Blob::from(q8())),
        ("template", "{{ .Prompt }}".into()),
        ("license", "MIT".into()),
        ("license", "Apache".into()),
        ("params", "{\"temperature\": 0.7, \"stop\": [\"x\"]}".into()),
        ("projector", "GGUF".into()),
        ("unknown", "x".into()),
    ];
    let digest = registry.put("library/tiny", "latest", layers).unwrap();
    (registry, digest)
}

#[tokio::test]
async fn a_model_is_resolved_located_and_fetched_with_and_without_a_token() {
    let (registry, digest) = registry().await;
    let vendors = Vendors::of_registry(&registry);
    for requires_token in [false, true] {
        if requires_token {
            registry.require_token();
        }
        let manifest = vendors.resolve("ollama:library/tiny:latest").await.unwrap();
        assert_eq!(manifest.model, model("ollama:tiny"));
        assert_eq!(manifest.revision, digest);
        assert_eq!(
            paths(&manifest),
            [
                "model.gguf",
                "template",
                "license",
                "license-2",
                "params.json"
            ]
        );
        assert_eq!(manifest.entry, "model.gguf");
        assert_eq!(manifest.projectors.len(), 1);
        assert_eq!(manifest.files[0].role, Role::Weights);
        assert_eq!(manifest.header, model_format::inspect(&q8()).unwrap());
        assert_eq!(vendors.fetch(&manifest, 0).await, fs::read(q8()).unwrap());
        assert_eq!(vendors.fetch(&manifest, 2).await, b"MIT");
    }
    let received = registry.received();
    let stored = received.iter().filter(|r| r.server == ServerRole::Storage);
    assert!(stored.clone().count() > 0);
    assert!(
        stored
            .into_iter()
            .all(|request| request.authorization.is_none())
    );
}

#[tokio::test]
async fn a_pinned_manifest_stays_when_the_tag_moves() {
    let (registry, first) = registry().await;
    let vendors = Vendors::of_registry(&registry);
    registry
        .put("library/tiny", "old", [("model", q8())])
        .unwrap();
    let moved = registry
        .put("library/tiny", "latest", [("model", q8())])
        .unwrap();
    let newest = vendors.resolve("ollama:tiny").await.unwrap();
    assert_eq!(newest.revision, moved);
    let error = vendors
        .resolve_at("ollama:tiny", Some(&first))
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::ModelNotFound);
    assert!(error.message.contains("has moved"), "{error}");
    let kept = vendors
        .resolve_at("ollama:tiny", Some(&moved))
        .await
        .unwrap();
    assert_eq!(kept.revision, moved);
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let (registry, _) = registry().await;
    let vendors = Vendors::of_registry(&registry);
    for (reference, code, part) in [
        (
            "ollama:missing",
            Code::ModelNotFound,
            "library/missing:latest",
        ),
        ("ollama:tiny:7b", Code::ModelNotFound, "library/tiny:7b"),
        ("ollama:user/tiny", Code::ModelNotFound, "user/tiny:latest"),
        (
            "ollama:hf.co/org/repo",
            Code::InvalidModelRef,
            "hf.co/org/repo",
        ),
    ] {
        let error = vendors.resolve(reference).await.unwrap_err();
        assert_eq!(error.code, code, "{reference}");
        assert!(error.message.contains(part), "{error}");
        assert!(error.hint.is_some());
    }
}

#[tokio::test]
async fn unsupported_models_are_refused_by_name() {
    let (registry, _) = registry().await;
    let vendors = Vendors::of_registry(&registry);
    let weights = Blob::from(q8());
    let two = [("model", weights.clone()), ("model", weights.clone())];
    registry.put("library/two", "latest", two).unwrap();
    registry
        .put("library/none", "latest", [("tensor", weights.clone())])
        .unwrap();
    let adapted = [("model", weights.clone()), ("adapter", "GGUF".into())];
    registry.put("library/adapted", "latest", adapted).unwrap();
    let config = registry
        .store("x", "{\"model_format\": \"safetensors\"}".into())
        .unwrap();
    let layer = registry.store(MODEL, weights).unwrap();
    let manifest = json!({"config": config, "layers": [layer]});
    registry
        .put_manifest("library/other", "latest", &manifest.to_string())
        .unwrap();
    for (name, part) in [
        ("two", "2 files of weights"),
        ("none", "no weights"),
        ("adapted", "adapter"),
        ("other", "`safetensors`"),
    ] {
        let error = vendors
            .resolve(&format!("ollama:{name}"))
            .await
            .unwrap_err();
        assert_eq!(error.code, Code::UnsupportedModel, "{name}");
        assert!(error.message.contains(part), "{error}");
    }
}

#[tokio::test]
async fn hostile_manifests_are_refused() {
    let (registry, _) = registry().await;
    let vendors = Vendors::of_registry(&registry);
    let layer =
        |digest: &str, size: i64| json!({"mediaType": MODEL, "digest": digest, "size": size});
    let good = registry.store("x", "{}".into()).unwrap();
    let many: Vec<_> = (0..200).map(|_| good.clone()).collect();
    let hash = "0".repeat(64);
    for (manifest, problem) in [
        (json!({}), "unexpected JSON"),
        (
            json!({"config": good, "layers": [layer("sha256:../../x", 1)]}),
            "not a digest",
        ),
        (
            json!({"config": good, "layers": [layer("sha512:00", 1)]}),
            "not a digest",
        ),
        (
            json!({"config": good, "layers": [layer(&format!("sha256:{hash}"), -1)]}),
            "unexpected JSON",
        ),
        (
            json!({"config": good, "layers": many}),
            "more than 100 files",
        ),
    ] {
        registry
            .put_manifest("library/bad", "latest", &manifest.to_string())
            .unwrap();
        let error = vendors.resolve("ollama:bad").await.unwrap_err();
        assert!(error.message.contains(problem), "{error}");
    }
    // A blob that is not the one of its digest.
    registry.set_fault(|request| {
        let of_blob = request.path.contains("/blobs/") && request.range.is_none();
        of_blob.then(|| Json(json!({"model_format": "gguf"})).into_response())
    });
    let error = vendors.resolve("ollama:tiny").await.unwrap_err();
    assert_eq!(error.code, Code::ChecksumMismatch);
}
