use super::*;

fn binary(source: BinarySource, origin: &str) -> InstalledBinary {
    InstalledBinary {
        worker_type: "a".parse().unwrap(),
        version: "0.1.0".parse().unwrap(),
        installation: "0.1.0-2".parse().unwrap(),
        features: vec!["x".parse().unwrap(), "y".parse().unwrap()],
        binary_path: "/a".into(),
        sha256: Some("ab".repeat(32)),
        size_bytes: 1,
        installed_at: None,
        source,
        origin: origin.into(),
        build_seconds: 0.0,
        status: BinaryStatus::Ready,
        current: true,
        compatible: true,
        workers: Vec::new(),
    }
}

fn request(change: impl FnOnce(&mut ProvisionRequest)) -> ProvisionRequest {
    let mut request = ProvisionRequest::of("a".parse().unwrap());
    change(&mut request);
    request
}

#[test]
fn an_installed_binary_is_used_only_if_it_is_what_is_asked_for() {
    let git = binary(BinarySource::Git, "https://h/r main abc");
    let repository = |name: &str| Some(format!("https://h/{name}").parse().unwrap());
    let accepted: [ProvisionRequest; 5] = [
        request(|_| ()),
        request(|r| r.features = vec!["x".parse().unwrap()]),
        request(|r| r.version = Some("0.1.0".parse().unwrap())),
        request(|r| r.version = Some("0.1.0-2".parse().unwrap())),
        request(|r| {
            r.repository = repository("r");
            r.branch = Some("main".parse().unwrap());
        }),
    ];
    for request in accepted {
        assert!(accepts(&request, None, &git), "{request:?}");
    }
    let refused: [ProvisionRequest; 6] = [
        request(|r| r.features = vec!["cuda".parse().unwrap()]),
        request(|r| r.version = Some("0.1.1".parse().unwrap())),
        request(|r| r.source = Some(BinarySource::Download)),
        request(|r| r.repository = repository("other")),
        request(|r| r.repository = repository("r")),
        request(|r| r.url = Some("https://h/a".into())),
    ];
    for request in refused {
        assert!(!accepts(&request, None, &git), "{request:?}");
    }
}

#[test]
fn a_download_is_the_same_only_with_the_same_url_and_hash() {
    let binary = binary(BinarySource::Download, "https://h/a");
    let of = |url: &str, byte: &str| {
        request(|r| {
            r.url = Some(url.into());
            r.sha256 = Some(byte.repeat(32));
        })
    };
    assert!(accepts(&of("https://h/a", "AB"), None, &binary));
    assert!(!accepts(&of("https://h/b", "ab"), None, &binary));
    assert!(!accepts(&of("https://h/a", "ac"), None, &binary));
}
