//! Catalogs in directories and on servers, intact and tampered with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{fs, os::unix::fs::symlink};

use diagnostics::Code;
use engine_choice::{Availability, Declaration};
use support::{PATCH, Published, RECIPE, package, serve, signature_file};
use worker_catalog::{CatalogKey, INDEX, Location, MAX_INDEX_BYTES};

async fn refused(published: &Published) -> Code {
    published.catalog().index().await.unwrap_err().code
}

#[tokio::test]
async fn a_catalog_is_read_from_a_directory_and_from_a_server_alike() {
    let published = Published::new();
    let expected = package("tool", "1.0-1").package;
    for url in [published.url(), serve(&published.root()).await] {
        let catalog = published.catalog_at(&url);
        let index = catalog.index().await.unwrap();
        assert_eq!(index.sequence, 5);
        assert_eq!(index.packages, std::slice::from_ref(&expected));
        let found = index.package(&"tool".parse().unwrap()).unwrap();
        let into = tempfile::tempdir().unwrap();
        catalog.fetch(found, into.path()).await.unwrap();
        let read = |name| fs::read_to_string(into.path().join(name)).unwrap();
        assert_eq!(
            (read("PKGBUILD").as_str(), read("fix.patch").as_str()),
            (RECIPE, PATCH)
        );
    }
    let absent = published.catalog().index().await.unwrap();
    let error = absent.package(&"other".parse().unwrap()).unwrap_err();
    assert_eq!(error.code, Code::NotFound);
    assert!(error.hint.unwrap().contains("tool"));
}

#[test]
fn what_a_package_runs_is_what_it_declares() {
    let package = package("tool", "1.0-1").package;
    let runs = package.runs.clone().unwrap();
    let availability = Availability::Package {
        id: "tool".to_owned(),
        agreed: true,
    };
    let declaration = package.declaration(availability.clone()).unwrap();
    let expected = Declaration {
        name: "tool".to_owned(),
        worker_type: package.worker_type.clone(),
        availability,
        formats: runs.formats,
        architectures: runs.architectures,
        tensor_types: runs.tensor_types,
        backends: runs.backends,
        features: runs.features,
    };
    assert_eq!(declaration, expected);
}

#[tokio::test]
async fn an_index_that_the_key_has_not_signed_is_refused() {
    let published = Published::new();
    let (index, signature) = (published.index(), signature_file(&published));
    let signed = fs::read_to_string(&signature).unwrap();
    let write = |text: &str| fs::write(published.root().join(INDEX), text).unwrap();
    // A change, and a truncation.
    for changed in [
        index.replace("A tool", "A took"),
        index[..index.len() - 2].to_owned(),
    ] {
        write(&changed);
        assert_eq!(refused(&published).await, Code::CatalogUntrusted);
    }
    write("not even JSON");
    let error = published.catalog().index().await.unwrap_err();
    assert!(
        error.message.contains("is not signed with the key"),
        "{error}"
    );
    write(&index);
    // The signature, damaged, and of another file.
    for changed in [
        "",
        &signed[..signed.len() / 2],
        &signed.replace("rbee", "Rbee"),
    ] {
        fs::write(&signature, changed).unwrap();
        assert_eq!(refused(&published).await, Code::CatalogUntrusted);
    }
    fs::remove_file(&signature).unwrap();
    assert_eq!(refused(&published).await, Code::DownloadFailed);
    fs::write(&signature, &signed).unwrap();
    assert!(published.catalog().index().await.is_ok());
    let (_, other) = catalog_writer::new_key().unwrap();
    let error = published
        .reader(&published.url(), &other)
        .index()
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::CatalogUntrusted);
    assert!(error.message.contains(&other), "{error}");
}

/// minisign made signatures of the content itself (`Ed`) before it made those of its digest (`ED`).
#[tokio::test]
async fn a_signature_of_the_legacy_kind_is_refused_although_it_is_valid() {
    // Test vectors of minisign: one key has signed the text `test` in both ways.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const LEGACY: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
";
    const PREHASHED: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
";
    let key = minisign_verify::PublicKey::from_base64(KEY).unwrap();
    let legacy = minisign_verify::Signature::decode(LEGACY).unwrap();
    key.verify(b"test", &legacy, true).unwrap();
    let published = Published::new();
    fs::write(published.root().join(INDEX), "test").unwrap();
    let error = async |signature| {
        fs::write(signature_file(&published), signature).unwrap();
        let catalog = published.reader(&published.url(), KEY);
        catalog.index().await.unwrap_err()
    };
    let refused = error(LEGACY).await;
    assert_eq!(refused.code, Code::CatalogUntrusted);
    let message = &refused.message;
    assert!(message.contains("is not signed with the key"), "{message}");
    assert!(message.contains("algorithm"), "{message}");
    // The other signature is accepted, so that the text is read, and is no index.
    let accepted = error(PREHASHED).await;
    assert!(!accepted.message.contains("is not signed"), "{accepted}");
}

#[tokio::test]
async fn a_file_that_differs_from_the_index_is_refused_and_nothing_is_written() {
    let published = Published::new();
    let catalog = published.catalog();
    let index = catalog.index().await.unwrap();
    let directory = published.root().join("workers/tool");
    let into = tempfile::tempdir().unwrap();
    let longer = format!("{PATCH} ");
    let changes = [
        ("PKGBUILD", "pkgname=evil\n", Code::ChecksumMismatch),
        ("fix.patch", "A patch\n", Code::ChecksumMismatch),
        ("fix.patch", "", Code::ChecksumMismatch),
        ("fix.patch", &longer, Code::CatalogUntrusted),
    ];
    for (name, content, code) in changes {
        let before = fs::read(directory.join(name)).unwrap();
        fs::write(directory.join(name), content).unwrap();
        let error = catalog
            .fetch(&index.packages[0], into.path())
            .await
            .unwrap_err();
        assert_eq!(error.code, code, "{name}");
        assert!(error.message.contains(name), "{error}");
        fs::write(directory.join(name), before).unwrap();
    }
    fs::remove_file(directory.join("fix.patch")).unwrap();
    fs::create_dir(directory.join("fix.patch")).unwrap();
    let error = catalog
        .fetch(&index.packages[0], into.path())
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::DownloadFailed);
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_index_older_than_the_newest_one_is_refused_from_wherever_it_comes() {
    let published = Published::new();
    let old = (
        published.index(),
        fs::read(signature_file(&published)).unwrap(),
    );
    published.release(6, &[package("tool", "1.1-1")]);
    let catalog = published.catalog();
    assert_eq!(catalog.newest_received().await.unwrap(), None);
    assert_eq!(catalog.index().await.unwrap().sequence, 6);
    fs::write(published.root().join(INDEX), &old.0).unwrap();
    fs::write(signature_file(&published), &old.1).unwrap();
    // Another process, and a copy of the catalog on a server.
    for url in [published.url(), serve(&published.root()).await] {
        let error = published.catalog_at(&url).index().await.unwrap_err();
        assert_eq!(error.code, Code::CatalogUntrusted);
        assert!(error.message.contains("5, older than 6"), "{error}");
    }
    // Another index with the same number.
    published.release(6, &[package("tool", "1.2-1")]);
    assert_eq!(refused(&published).await, Code::CatalogUntrusted);
    let newest = catalog.newest_received().await.unwrap().unwrap();
    assert_eq!(newest.packages[0].version.as_str(), "1.1-1");
    published.release(7, &[]);
    assert_eq!(published.catalog().index().await.unwrap().sequence, 7);
}

#[tokio::test]
async fn a_server_that_redirects_lacks_files_or_does_not_end_is_refused() {
    let published = Published::new();
    let server = serve(&published.root()).await;
    let error = |path: &str| {
        let catalog = published.catalog_at(&format!("{server}/{path}"));
        async move { catalog.index().await.unwrap_err() }
    };
    let moved = error("moved").await;
    assert_eq!(moved.code, Code::DownloadFailed);
    assert!(
        moved.message.contains("redirects to /workers/index.json"),
        "{moved}"
    );
    let absent = error("absent").await;
    assert_eq!(absent.code, Code::DownloadFailed);
    assert!(absent.message.contains("answers 404"), "{absent}");
    let endless = error("endless").await;
    assert_eq!(endless.code, Code::CatalogUntrusted);
    assert!(endless.message.contains("larger than 4.0 MiB"), "{endless}");
    let nobody = published
        .catalog_at("http://127.0.0.1:1")
        .index()
        .await
        .unwrap_err();
    assert_eq!(nobody.code, Code::DownloadFailed);
}

#[tokio::test]
async fn a_directory_with_files_that_are_too_large_or_no_files_is_refused() {
    let published = Published::new();
    let file = fs::File::create(published.root().join(INDEX)).unwrap();
    file.set_len(MAX_INDEX_BYTES + 1).unwrap();
    assert_eq!(refused(&published).await, Code::CatalogUntrusted);
    fs::remove_file(published.root().join(INDEX)).unwrap();
    symlink("/dev/zero", published.root().join(INDEX)).unwrap();
    assert_eq!(refused(&published).await, Code::DownloadFailed);
}

/// Even the publisher cannot name files outside of a package.
#[tokio::test]
async fn names_that_leave_their_directory_are_refused_although_they_are_signed() {
    let published = Published::new();
    let intact = published.index();
    let changes = [
        ("\"id\": \"tool\"", "\"id\": \"../tool\""),
        ("\"id\": \"tool\"", "\"id\": \"/etc\""),
        ("\"id\": \"tool\"", "\"id\": \"\""),
        ("\"name\": \"fix.patch\"", "\"name\": \"../fix.patch\""),
        ("\"name\": \"fix.patch\"", "\"name\": \".profile\""),
        ("\"name\": \"fix.patch\"", "\"name\": \"a/b\""),
        ("\"name\": \"fix.patch\"", "\"name\": \"PKGBUILD\""),
        ("usr/bin/tool", "/usr/bin/env"),
        ("usr/bin/tool", "../../bin/sh"),
        ("usr/bin/tool", "usr//tool"),
        ("\"A tool\"", "\"A\\u001b[2Jtool\""),
        (
            "\"worker_type\": \"tool-worker\"",
            "\"worker_type\": \"../x\"",
        ),
        ("\"name\": \"PKGBUILD\"", "\"name\": \"BUILD\""),
    ];
    for (from, to) in changes {
        assert!(intact.contains(from), "{from}");
        published.release_text(&intact.replacen(from, to, 1));
        let error = published.catalog().index().await.unwrap_err();
        assert_eq!(error.code, Code::CatalogUntrusted, "{to}");
        assert!(!error.message.contains('\u{1b}'), "{error}");
    }
    let newer = intact.replace("\"format\": 1", "\"format\": 2");
    published.release_text(&newer);
    assert_eq!(refused(&published).await, Code::VersionIncompatible);
}

/// What a later version adds to the words of the index does not make it unreadable.
#[tokio::test]
async fn words_of_later_versions_are_left_out() {
    let published = Published::new();
    let index = published.index().replace("\"gguf\"", "\"gguf\", \"later\"");
    published.release_text(&index.replace("\"source\"", "\"later\""));
    let index = published.catalog().index().await.unwrap();
    let expected = package("tool", "1.0-1").package;
    assert_eq!(index.packages[0].runs, expected.runs);
}

#[test]
fn places_and_keys_that_cannot_be_used_are_refused_with_a_hint() {
    for bad in [
        "",
        "catalog",
        "/srv/catalog",
        "ftp://host/",
        "https://user:secret@host/",
        "https://host/?a=b",
        "file://host/srv",
    ] {
        let error = Location::parse(bad).unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid, "{bad}");
        assert!(error.hint.is_some());
    }
    for bad in ["", "RWQ", "not a key\n", "/absent/minisign.pub"] {
        let error = CatalogKey::named(bad).unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid, "{bad}");
    }
    let (_, public) = catalog_writer::new_key().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, format!("untrusted comment: a key\n{public}\n")).unwrap();
    let named = CatalogKey::named(file.path().to_str().unwrap()).unwrap();
    assert_eq!(named.base64(), public);
    assert_eq!(CatalogKey::named(&public).unwrap().base64(), public);
}
