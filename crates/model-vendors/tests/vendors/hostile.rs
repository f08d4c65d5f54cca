//! A hub that is malicious: each response is refused with an error that says why.

use axum::{
    Json,
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use bytes::Bytes;
use diagnostics::{Code, Diagnostic};
use futures_util::stream;
use serde_json::{Value, json};
use sim::{Received, ServerRole, hub::Hub};

use crate::support::{Vendors, q8};

const TOKEN: &str = "hf_secret";

/// Resolves a model of a hub that responds to some requests with `fault`.
async fn resolve_with(
    fault: impl FnMut(&Received) -> Option<Response> + Send + 'static,
) -> Diagnostic {
    let hub = hub().await;
    hub.set_fault(fault);
    resolve(&hub).await
}

async fn hub() -> Hub {
    let hub = Hub::start().await.unwrap();
    hub.commit("Org/Repo", [("m-Q8_0.gguf", q8())]).unwrap();
    hub.grant(TOKEN, "Org/Repo");
    hub
}

async fn resolve(hub: &Hub) -> Diagnostic {
    let error = Vendors::of_hub(hub, Some(TOKEN))
        .resolve("hf:Org/Repo")
        .await
        .unwrap_err();
    assert!(error.hint.is_some(), "{error}");
    assert_eq!(diagnostics::escape(&error.message), error.message);
    assert!(error.message.len() < 1000, "{error}");
    for request in hub.received() {
        assert!(request.server == ServerRole::Front || request.token().is_none());
    }
    error
}

fn of_tree(request: &Received) -> bool {
    request.path.contains("/tree/")
}

fn listing(entries: &Value) -> impl FnMut(&Received) -> Option<Response> + Send + 'static {
    let entries = entries.clone();
    move |request| of_tree(request).then(|| Json(entries.clone()).into_response())
}

fn entry(path: &str) -> Value {
    json!({"type": "file", "oid": "0", "size": 10, "path": path})
}

#[tokio::test]
async fn paths_that_leave_the_directory() {
    for (path, problem) in [
        ("../m-Q8_0.gguf", "leaves its folder"),
        ("a/../../m-Q8_0.gguf", "leaves its folder"),
        ("/etc/cron.d/m-Q8_0.gguf", "is absolute"),
        ("a//m-Q8_0.gguf", "empty name"),
        ("C:\\m-Q8_0.gguf", "another system"),
        ("m\u{1b}[2J-Q8_0.gguf", "control characters"),
        ("m\n-Q8_0.gguf", "control characters"),
        ("m\u{202e}-Q8_0.gguf", "control characters"),
        (&"x".repeat(300), "longer than 255 bytes"),
        (&"x/".repeat(1000), "longer than 1024 bytes"),
    ] {
        let error = resolve_with(listing(&json!([entry(path)]))).await;
        assert_eq!(error.code, Code::InvalidModelFile, "{path}");
        assert!(error.message.contains(problem), "{error}");
    }
}

#[tokio::test]
async fn files_that_are_not_files() {
    let link = json!([{"type": "symlink", "oid": "0", "size": 10, "path": "m-Q8_0.gguf"}]);
    let error = resolve_with(listing(&link)).await;
    assert_eq!(error.code, Code::UnsupportedModel);
    let twice = json!([entry("m-Q8_0.gguf"), entry("m-Q8_0.gguf")]);
    let error = resolve_with(listing(&twice)).await;
    assert!(error.message.contains("occurs twice"), "{error}");
}

#[tokio::test]
async fn a_million_files() {
    let error = resolve_with(|request| {
        let page: usize = request
            .parameter("page")
            .map_or(0, |page| page.parse().unwrap());
        of_tree(request).then(|| {
            let entries: Vec<_> = (0..5000).map(|n| entry(&format!("{page}/{n}"))).collect();
            let next = format!("<?page={}>; rel=\"next\"", page + 1);
            ([(header::LINK, next)], Json(entries)).into_response()
        })
    });
    assert!(error.await.message.contains("more than 100000 files"));
}

#[tokio::test]
async fn pages_without_end_or_on_another_server() {
    let error = resolve_with(|request| {
        let link = [(header::LINK, "<?again>; rel=\"next\"")];
        of_tree(request).then(|| (link, Json(json!([]))).into_response())
    });
    assert!(error.await.message.contains("an empty page"));
    let hub = hub().await;
    let other = hub.storage_url();
    hub.set_fault(move |request| {
        let link = [(header::LINK, format!("<{other}/next>; rel=\"next\""))];
        of_tree(request).then(|| (link, Json(json!([entry("a")]))).into_response())
    });
    assert!(
        resolve(&hub)
            .await
            .message
            .contains("a page on another server")
    );
    assert!(hub.received().iter().all(|r| r.server == ServerRole::Front));
}

#[tokio::test]
async fn a_body_without_end() {
    let endless = || {
        let piece = Bytes::from(vec![b' '; 1 << 16]);
        let pieces = stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
        Body::from_stream(pieces).into_response()
    };
    let error = resolve_with(move |_| Some(endless())).await;
    assert_eq!(error.code, Code::DownloadFailed);
    assert!(
        error.message.contains("more than 33554432 bytes"),
        "{error}"
    );

    // A server that ignores the range of the header's read is cut off after it.
    let error = resolve_with(move |request| request.range.as_ref().map(|_| endless())).await;
    assert_eq!(error.code, Code::InvalidModelFile);
    assert!(error.message.contains("not a GGUF file"), "{error}");
}

#[tokio::test]
async fn redirects_in_a_circle_or_elsewhere() {
    let error = resolve_with(|request| Some(Redirect::temporary(&request.path).into_response()));
    assert!(error.await.message.contains("redirects more than 10 times"));
    let error = resolve_with(|_| Some(Redirect::temporary("file:///etc/passwd").into_response()));
    assert!(error.await.message.contains("is not encrypted"));
    let error = resolve_with(|_| Some(StatusCode::FOUND.into_response()));
    assert!(error.await.message.contains("a redirect without a target"));

    // The other server gets the request, but not the token.
    let hub = hub().await;
    let other = hub.storage_url();
    hub.set_fault(move |request| {
        let to = format!("{other}{}", request.path);
        (request.server == ServerRole::Front).then(|| Redirect::temporary(&to).into_response())
    });
    resolve(&hub).await;
    let received = hub.received();
    let stored: Vec<_> = received
        .iter()
        .filter(|r| r.server == ServerRole::Storage)
        .collect();
    assert!(!stored.is_empty());
    assert!(stored.iter().all(|request| request.authorization.is_none()));
}

#[tokio::test]
async fn compressed_bodies() {
    let error = resolve_with(|_| {
        let encoded = [(header::CONTENT_ENCODING, "gzip")];
        Some((encoded, vec![0_u8; 100]).into_response())
    });
    assert!(error.await.message.contains("a compressed body"));
}

#[tokio::test]
async fn responses_of_another_kind() {
    for (path, body, problem) in [
        ("/revision/", json!({"sha": "../../x"}), "no commit"),
        ("/revision/", json!([]), "unexpected JSON"),
        ("/revision/", json!({"sha": "a\u{1b}"}), "no commit"),
        ("/tree/", json!({"path": "x"}), "unexpected JSON"),
        ("/tree/", json!([{"type": "file", "path": "a"}]), "no size"),
        (
            "/tree/",
            json!([{"type": "file", "path": "a", "size": -1}]),
            "unexpected JSON",
        ),
        (
            "/tree/",
            json!([{"type": "file", "path": "a", "lfs": {"oid": "zz", "size": 1}}]),
            "a hash that is none",
        ),
    ] {
        let fault = move |request: &Received| {
            let matches = request.path.contains(path);
            matches.then(|| Json(body.clone()).into_response())
        };
        let error = resolve_with(fault).await;
        assert_eq!(error.code, Code::DownloadFailed);
        assert!(error.message.contains(problem), "{error}");
    }
    let nested = "[".repeat(100_000);
    let error = resolve_with(move |_| Some(nested.clone().into_response())).await;
    assert!(error.message.contains("unexpected JSON"), "{error}");
}

#[tokio::test]
async fn headers_with_absurd_counts() {
    for size in [64_u64, 1 << 50] {
        let entries = json!([{"type": "file", "size": size, "path": "m-Q8_0.gguf"}]);
        let mut tree = listing(&entries);
        let error = resolve_with(move |request| {
            let header = || {
                let counts = [u64::MAX / 64, 1 << 40].map(u64::to_le_bytes).concat();
                [b"GGUF\x03\0\0\0".to_vec(), counts, vec![0; 1 << 20]].concat()
            };
            let of_file = request.range.as_ref();
            of_file
                .map(|_| header().into_response())
                .or_else(|| tree(request))
        });
        let error = error.await;
        assert_eq!(error.code, Code::InvalidModelFile, "{error}");
    }
}

#[tokio::test]
async fn files_that_are_shorter_than_listed() {
    let entries = json!([{"type": "file", "size": 1_000_000_000, "path": "m-Q8_0.gguf"}]);
    let mut tree = listing(&entries);
    let error = resolve_with(move |request| {
        let of_file = request.range.as_ref();
        of_file
            .map(|_| "GGUF".into_response())
            .or_else(|| tree(request))
    });
    let error = error.await;
    assert_eq!(error.code, Code::InvalidModelFile);
    assert!(
        error.message.contains("shorter than the 1000000000 bytes"),
        "{error}"
    );
}
