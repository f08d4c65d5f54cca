use std::fs;

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use diagnostics::Code;
use model_vendors::{Role, Selection, VendorSettings};
use sha2::{Digest as _, Sha256};
use sim::{
    Blob, ServerRole,
    hub::{Access, Hub},
};

use crate::support::{Vendors, f16, haiku, model, paths, q8};

/// A hub with one repository of GGUF files.
async fn hub() -> (Hub, String) {
    let hub = Hub::start().await.unwrap();
    let files = [
        ("README.md", Blob::from("# A model")),
        ("m-Q8_0.gguf", q8().into()),
        ("m-F16.gguf", f16().into()),
        ("mmproj-F16.gguf", "GGUF".into()),
    ];
    let commit = hub.commit("Org/Repo", files).unwrap();
    (hub, commit)
}

fn status(status: StatusCode, headers: [(&'static str, &'static str); 1]) -> Response {
    (status, headers).into_response()
}

#[tokio::test]
async fn a_model_is_resolved_located_and_fetched() {
    let (hub, commit) = hub().await;
    let vendors = Vendors::of_hub(&hub, None);
    let manifest = vendors.resolve("hf:org/repo").await.unwrap();
    assert_eq!(manifest.model, model("hf:Org/Repo:Q8_0"));
    assert_eq!(manifest.revision, commit);
    assert_eq!(paths(&manifest), ["m-Q8_0.gguf"]);
    assert_eq!(manifest.entry, "m-Q8_0.gguf");
    assert_eq!(manifest.projectors, ["mmproj-F16.gguf"]);
    assert_eq!(manifest.header, model_format::inspect(&q8()).unwrap());
    assert_eq!(manifest.files[0].role, Role::Weights);

    let content = fs::read(q8()).unwrap();
    assert_eq!(manifest.size(), content.len() as u64);
    assert_eq!(
        manifest.files[0].sha256.unwrap(),
        <[u8; 32]>::from(Sha256::digest(&content))
    );
    assert_eq!(vendors.fetch(&manifest, 0).await, content);
}

#[tokio::test]
async fn only_the_beginning_of_the_weights_is_read() {
    let (hub, _) = hub().await;
    Vendors::of_hub(&hub, None)
        .resolve("hf:Org/Repo")
        .await
        .unwrap();
    let received = hub.received();
    let stored: Vec<_> = received
        .iter()
        .filter(|r| r.server == ServerRole::Storage)
        .collect();
    let ranges: Vec<_> = stored.iter().map(|r| r.range.as_deref().unwrap()).collect();
    assert_eq!(ranges, ["bytes=0-1048575"]);
}

#[tokio::test]
async fn different_names_of_a_model_have_one_canonical_form() {
    let (hub, commit) = hub().await;
    let vendors = Vendors::of_hub(&hub, None);
    for name in [
        "hf:Org/Repo",
        "hf:org/REPO",
        "hf:Org/Repo@main",
        "hf:Org/Repo:q8_0",
        "hf:Org/Repo:m-Q8_0.gguf",
    ] {
        let manifest = vendors.resolve(name).await.unwrap();
        assert_eq!(manifest.model.to_string(), "hf:Org/Repo:Q8_0", "{name}");
    }
    let pinned = format!("hf:Org/Repo@{commit}");
    let manifest = vendors.resolve(&pinned).await.unwrap();
    assert_eq!(manifest.model.to_string(), format!("{pinned}:Q8_0"));
    let manifest = vendors.resolve("hf:Org/Repo:fp16").await.unwrap();
    assert_eq!(manifest.model.to_string(), "hf:Org/Repo:F16");
}

#[tokio::test]
async fn a_pinned_revision_stays_when_the_branch_moves() {
    let (hub, first) = hub().await;
    let vendors = Vendors::of_hub(&hub, None);
    let second = hub.commit("Org/Repo", [("n-F16.gguf", f16())]).unwrap();
    assert_ne!(first, second);

    let newest = vendors.resolve("hf:Org/Repo").await.unwrap();
    assert_eq!(
        (newest.revision.as_str(), paths(&newest)),
        (second.as_str(), vec!["n-F16.gguf"])
    );
    let pinned = vendors
        .resolve_at("hf:Org/Repo", Some(&first))
        .await
        .unwrap();
    assert_eq!(
        (pinned.revision.as_str(), paths(&pinned)),
        (first.as_str(), vec!["m-Q8_0.gguf"])
    );
    assert_eq!(vendors.fetch(&pinned, 0).await, fs::read(q8()).unwrap());

    hub.set_branch("Org/Repo", "refs/pr/1", &first);
    let of_branch = vendors.resolve("hf:Org/Repo@refs/pr/1").await.unwrap();
    assert_eq!(of_branch.revision, first);
    assert_eq!(of_branch.model.to_string(), "hf:Org/Repo@refs/pr/1:Q8_0");
}

#[tokio::test]
async fn memory_decides_where_the_user_does_not() {
    let (hub, _) = hub().await;
    let vendors = Vendors::of_hub(&hub, None);
    let reference = model("hf:Org/Repo");
    hub.commit(
        "Org/Repo",
        [("m-Q4_K_M.gguf", f16()), ("m-Q8_0.gguf", q8())],
    )
    .unwrap();
    let size = |path: std::path::PathBuf| fs::metadata(path).unwrap().len();
    for (memory_bytes, selected) in [
        (None, "hf:Org/Repo:Q4_K_M"),
        (Some(size(f16())), "hf:Org/Repo:Q4_K_M"),
        (Some(size(f16()) - 1), "hf:Org/Repo:Q8_0"),
    ] {
        let selection = Selection {
            memory_bytes,
            ..Selection::default()
        };
        let vendor = vendors.of(&reference);
        let manifest = vendor.resolve(&reference, None, &selection).await.unwrap();
        assert_eq!(manifest.model.to_string(), selected);
    }
}

#[tokio::test]
async fn safetensors_repositories_are_whole() {
    let hub = Hub::start().await.unwrap();
    let names = [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let files = names.iter().map(|name| (*name, haiku(name)));
    let others = [
        ("training/notes.txt", haiku("config.json")),
        ("pytorch_model.bin", q8()),
    ];
    hub.commit("Org/Repo", files.chain(others)).unwrap();
    let vendors = Vendors::of_hub(&hub, None);
    let manifest = vendors.resolve("hf:Org/Repo").await.unwrap();
    assert_eq!(manifest.model.to_string(), "hf:Org/Repo:safetensors");
    assert_eq!(manifest.entry, "");
    let mut found = paths(&manifest);
    assert_eq!(found[0], "model.safetensors");
    found.sort_unstable();
    assert_eq!(found, names);
    assert_eq!(manifest.header, model_format::inspect(&haiku("")).unwrap());
    assert_eq!(manifest.header.sampling.values.len(), 1);

    for missing in ["config.json", "tokenizer.json"] {
        let files = names.iter().filter(|name| **name != missing);
        hub.commit("Org/Repo", files.map(|name| (*name, haiku(name))))
            .unwrap();
        let error = vendors.resolve("hf:Org/Repo").await.unwrap_err();
        assert_eq!(error.code, Code::InvalidModelFile);
        assert!(error.message.contains(missing), "{error}");
    }
}

#[tokio::test]
async fn sharded_safetensors_are_found_by_their_index() {
    let hub = Hub::start().await.unwrap();
    let index = |shards: &str| {
        let text = format!("{{\"weight_map\": {{{shards}}}}}");
        Blob::from(text.as_str())
    };
    let commit = |index: Blob| {
        let files = [
            ("model.safetensors.index.json", index),
            (
                "model-00001-of-00001.safetensors",
                haiku("model.safetensors").into(),
            ),
            ("config.json", haiku("config.json").into()),
            ("tokenizer.json", haiku("tokenizer.json").into()),
        ];
        hub.commit("Org/Repo", files).unwrap();
    };
    commit(index("\"a\": \"model-00001-of-00001.safetensors\""));
    let vendors = Vendors::of_hub(&hub, None);
    let manifest = vendors.resolve("hf:Org/Repo").await.unwrap();
    assert_eq!(
        paths(&manifest),
        [
            "model-00001-of-00001.safetensors",
            "config.json",
            "tokenizer.json",
            "model.safetensors.index.json"
        ]
    );
    assert_eq!(manifest.header.parameters, 2_885_888);

    for (shard, code) in [
        ("../../x.safetensors", Code::InvalidModelFile),
        ("missing.safetensors", Code::InvalidModelFile),
    ] {
        commit(index(&format!("\"a\": \"{shard}\"")));
        let error = vendors.resolve("hf:Org/Repo").await.unwrap_err();
        assert_eq!(error.code, code);
        assert!(error.message.contains(shard), "{error}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let (hub, _) = hub().await;
    hub.grant("hf_known", "Org/Other");
    for token in [None, Some("hf_known")] {
        let vendors = Vendors::of_hub(&hub, token);
        for (reference, part) in [
            ("hf:Org/Missing", "Org/Missing does not exist"),
            ("hf:Org/Repo@v9", "no revision `v9`"),
            ("hf:Org/Repo:Q2_K", "no model `Q2_K`"),
            ("hf:Org/Repo:none.gguf", "no model `none.gguf`"),
        ] {
            let error = vendors.resolve(reference).await.unwrap_err();
            assert_eq!(error.code, Code::ModelNotFound, "{reference}");
            assert!(error.message.contains(part), "{error}");
        }
    }
    let error = Vendors::of_hub(&hub, None)
        .resolve("hf:Org/Repo:Q2_K")
        .await
        .unwrap_err();
    let hint = error.hint.unwrap();
    assert!(
        hint.contains("`hf:Org/Repo:F16` (5.8 MB), `hf:Org/Repo:Q8_0`"),
        "{hint}"
    );
    let error = Vendors::of_hub(&hub, None)
        .resolve("hf:Org/Missing")
        .await
        .unwrap_err();
    assert!(error.hint.unwrap().contains("HF_TOKEN"));
}

#[tokio::test]
async fn gated_and_private_repositories_need_a_token() {
    let (hub, _) = hub().await;
    hub.grant("hf_good", "Org/Repo");
    hub.grant("hf_other", "Org/Other");
    for (access, token, code) in [
        (Access::Gated, None, Some(Code::ModelAccessDenied)),
        (
            Access::Gated,
            Some("hf_other"),
            Some(Code::ModelAccessDenied),
        ),
        (Access::Gated, Some("hf_good"), None),
        (Access::Private, None, Some(Code::ModelNotFound)),
        (Access::Private, Some("hf_other"), Some(Code::ModelNotFound)),
        (Access::Private, Some("hf_good"), None),
        (
            Access::Public,
            Some("hf_wrong"),
            Some(Code::ModelAccessDenied),
        ),
    ] {
        hub.set_access("Org/Repo", access);
        let vendors = Vendors::of_hub(&hub, token);
        let resolved = vendors.resolve("hf:Org/Repo").await;
        let found = resolved.as_ref().map(|_| ()).map_err(|error| error.code);
        assert_eq!(found.err(), code, "{access:?} {token:?}");
        match resolved {
            Ok(manifest) => {
                assert_eq!(vendors.fetch(&manifest, 0).await, fs::read(q8()).unwrap());
            }
            Err(error) => assert!(error.hint.unwrap().contains("HF_TOKEN"), "{access:?}"),
        }
    }
    hub.set_access("Org/Repo", Access::Gated);
    let error = Vendors::of_hub(&hub, None)
        .resolve("hf:Org/Repo")
        .await
        .unwrap_err();
    let page = format!("{}/Org/Repo", hub.url());
    assert!(error.hint.unwrap().contains(&page));
}

#[tokio::test]
async fn the_token_is_sent_to_the_hub_only() {
    let (hub, _) = hub().await;
    hub.grant("hf_good", "Org/Repo");
    let vendors = Vendors::of_hub(&hub, Some("hf_good"));
    vendors.resolve("hf:Org/Repo").await.unwrap();
    let received = hub.received();
    assert!(received.iter().any(|r| r.server == ServerRole::Storage));
    for request in received {
        let expected = (request.server == ServerRole::Front).then_some("hf_good");
        assert_eq!(request.token(), expected, "{}", request.path);
    }
}

#[tokio::test]
async fn temporary_failures_are_repeated() {
    let (hub, _) = hub().await;
    let vendors = Vendors::of_hub(&hub, None);
    let mut failures = [StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY].into_iter();
    hub.set_fault(move |_| Some(status(failures.next()?, [("retry-after", "0")])));
    vendors.resolve("hf:Org/Repo").await.unwrap();

    for (code, retry_after, hint) in [
        (StatusCode::INTERNAL_SERVER_ERROR, "0", "0 s"),
        (StatusCode::TOO_MANY_REQUESTS, "3600", "3600 s"),
    ] {
        let before = hub.received().len();
        hub.set_fault(move |_| Some(status(code, [("retry-after", retry_after)])));
        let error = vendors.resolve("hf:Org/Repo").await.unwrap_err();
        assert_eq!(error.code, Code::DownloadFailed);
        assert!(error.hint.unwrap().contains(hint));
        let attempts = hub.received().len() - before;
        assert_eq!(attempts, if retry_after == "0" { 4 } else { 1 });
    }
}

#[tokio::test]
async fn listings_are_read_page_by_page() {
    let (hub, _) = hub().await;
    let many = (0..25).map(|number| (format!("notes/{number}.txt"), Blob::from("x")));
    let weights = [("m-Q8_0.gguf".to_owned(), q8().into())];
    hub.commit("Org/Repo", many.chain(weights)).unwrap();
    hub.set_page_entries(7);
    let manifest = Vendors::of_hub(&hub, None)
        .resolve("hf:Org/Repo")
        .await
        .unwrap();
    assert_eq!(paths(&manifest), ["m-Q8_0.gguf"]);
    let pages = hub
        .received()
        .iter()
        .filter(|r| r.path.contains("/tree/"))
        .count();
    assert_eq!(pages, 4);
}

#[tokio::test]
async fn what_the_engine_cannot_run_is_refused_with_what_it_can() {
    let hub = Hub::start().await.unwrap();
    let changed = |path: std::path::PathBuf, from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let mut bytes = fs::read(path).unwrap();
        let at = bytes
            .windows(from.len())
            .position(|window| window == from)
            .unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        Blob::from(bytes)
    };
    // The length of the name of a tensor follows its type and offset; the type of the first
    // tensor is made `IQ4_XS` (23).
    let name = b"token_embd.weight";
    let mut bytes = fs::read(q8()).unwrap();
    let at = bytes
        .windows(name.len())
        .position(|window| window == name)
        .unwrap()
        + name.len();
    let dimensions = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let kind = at + 4 + 8 * dimensions;
    bytes[kind..kind + 4].copy_from_slice(&23_u32.to_le_bytes());
    let files = [
        ("m-IQ4_XS.gguf", Blob::from(bytes)),
        ("m-F16.gguf", f16().into()),
        (
            "m-mamba-Q6_K.gguf",
            changed(q8(), b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0mamba"),
        ),
    ];
    hub.commit("Org/Repo", files).unwrap();
    let vendors = Vendors::of_hub(&hub, None);

    let error = vendors.resolve("hf:Org/Repo:IQ4_XS").await.unwrap_err();
    assert_eq!(error.code, Code::UnsupportedQuantization);
    assert!(error.message.contains("IQ4_XS"), "{error}");
    assert!(error.hint.unwrap().contains("`hf:Org/Repo:F16`"));
    assert_eq!(error.details.unwrap()["alternatives"][0], "hf:Org/Repo:F16");

    let error = vendors.resolve("hf:Org/Repo:Q6_K").await.unwrap_err();
    assert_eq!(error.code, Code::UnsupportedModel);
    assert!(error.message.contains("architecture mamba"), "{error}");
}

#[tokio::test]
async fn an_unsupported_family_of_safetensors_is_refused_before_the_weights_are_read() {
    let hub = Hub::start().await.unwrap();
    let files = [
        ("config.json", Blob::from("{\"model_type\": \"bert\"}")),
        ("tokenizer.json", "{}".into()),
        ("model.safetensors", haiku("model.safetensors").into()),
    ];
    hub.commit("Org/Repo", files).unwrap();
    let error = Vendors::of_hub(&hub, None)
        .resolve("hf:Org/Repo")
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UnsupportedModel);
    assert!(error.message.contains("architecture bert"), "{error}");
    // Processes of other tests can reach a port that they knew before: only the paths count.
    let received: Vec<_> = hub.received().into_iter().map(|r| r.path).collect();
    let of_weights = |path: &String| path.ends_with(".safetensors");
    assert!(!received.iter().any(of_weights), "{received:?}");
}

#[tokio::test]
async fn the_hub_is_not_asked_offline() {
    let (hub, _) = hub().await;
    let vendors = Vendors::new(&VendorSettings {
        hub_endpoint: Some(hub.url()),
        hub_offline: true,
        ..VendorSettings::default()
    });
    let error = vendors.resolve("hf:Org/Repo").await.unwrap_err();
    assert!(error.message.contains("HF_HUB_OFFLINE"), "{error}");
    let received: Vec<_> = hub.received().into_iter().map(|r| r.path).collect();
    let of_model = |path: &String| path.contains("Org/Repo");
    assert!(!received.iter().any(of_model), "{received:?}");
}

#[tokio::test]
async fn a_split_model_is_resolved_by_the_type_in_its_names() {
    let hub = Hub::start().await.unwrap();
    let part = |number| format!("Q8_0/m-Q8_0-{number:05}-of-00001.gguf");
    hub.commit("Org/Repo", [(part(1), q8())]).unwrap();
    let vendors = Vendors::of_hub(&hub, None);
    for reference in ["hf:Org/Repo".to_owned(), format!("hf:Org/Repo:{}", part(1))] {
        let manifest = vendors.resolve(&reference).await.unwrap();
        assert_eq!(manifest.model.to_string(), "hf:Org/Repo:Q8_0");
        assert_eq!(manifest.entry, part(1));
        assert_eq!(vendors.fetch(&manifest, 0).await, fs::read(q8()).unwrap());
    }
    // The header says that the file is the only part.
    hub.commit(
        "Org/Repo",
        [1, 2].map(|n| (format!("m-{n:05}-of-00002.gguf"), q8())),
    )
    .unwrap();
    let error = vendors.resolve("hf:Org/Repo").await.unwrap_err();
    assert_eq!(error.code, Code::InvalidModelFile);
    assert!(error.message.contains("part 1 of 1"), "{error}");
}

#[tokio::test]
async fn large_files_are_looked_for_in_the_cache_of_the_hubs_tools() {
    let (hub, _) = hub().await;
    let vendors = Vendors::new(&VendorSettings {
        hub_endpoint: Some(hub.url()),
        hub_cache: Some("/cache".into()),
        ..VendorSettings::default()
    });
    let manifest = vendors.resolve("hf:org/repo").await.unwrap();
    let vendor = vendors.of(&manifest.model);
    let mut file = manifest.files[0].clone();
    let sha256 = hex::encode(file.sha256.unwrap());
    let expected = format!("/cache/models--Org--Repo/blobs/{sha256}");
    assert_eq!(vendor.local_copy(&manifest, &file), Some(expected.into()));
    file.sha256 = None;
    assert_eq!(vendor.local_copy(&manifest, &file), None);
}
