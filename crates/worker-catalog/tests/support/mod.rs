//! A catalog that is published in a directory, and servers of it.

use std::{collections::BTreeMap, fs, path::Path};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{StatusCode, Uri, header},
    response::{IntoResponse as _, Redirect, Response},
};
use catalog_writer::Source;
use minisign::SecretKey;
use worker_catalog::{
    Catalog, CatalogKey, EngineProgram, Format, INDEX, Location, Package, PackageFile, Packaging,
    Runs, SIGNATURE, Support,
};

pub const RECIPE: &str = "pkgname=tool\n";
pub const PATCH: &str = "a patch\n";

/// A catalog in a directory, and what a reader of it keeps.
pub struct Published {
    pub dir: tempfile::TempDir,
    pub key: SecretKey,
    pub public: String,
}

pub fn package(id: &str, version: &str) -> Source {
    let files = BTreeMap::from([
        ("PKGBUILD".to_owned(), RECIPE.as_bytes().to_vec()),
        ("fix.patch".to_owned(), PATCH.as_bytes().to_vec()),
    ]);
    let describe = |(name, content): (&String, &Vec<u8>)| PackageFile {
        name: name.clone(),
        bytes: content.len() as u64,
        sha256: sha256(content),
    };
    let package = Package {
        id: id.parse().unwrap(),
        version: version.parse().unwrap(),
        description: "A tool".to_owned(),
        worker_type: "tool-worker".parse().unwrap(),
        packaging: Packaging::Source,
        machines: vec!["x86_64".to_owned(), "aarch64".to_owned()],
        program: "usr/bin/tool".to_owned(),
        engine: Some(EngineProgram {
            name: "tool".to_owned(),
            arguments: vec!["--port".to_owned(), "{port}".to_owned()],
            check: vec!["--version".to_owned()],
        }),
        runs: Some(Runs {
            formats: [Format::Gguf].into(),
            architectures: Support::Any,
            tensor_types: Support::only(["F16", "Q8_0"]),
            backends: vec!["cpu".parse().unwrap()],
            features: [worker_catalog::Feature::Tools].into(),
        }),
        files: files.iter().map(describe).collect(),
    };
    Source { package, files }
}

pub fn sha256(content: &[u8]) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(content))
}

impl Published {
    /// A catalog with the package `tool`, as release 5.
    pub fn new() -> Self {
        let (key, public) = catalog_writer::new_key().unwrap();
        let published = Self {
            dir: tempfile::tempdir().unwrap(),
            key,
            public,
        };
        published.release(5, &[package("tool", "1.0-1")]);
        published
    }

    pub fn release(&self, sequence: u64, sources: &[Source]) {
        catalog_writer::write(sources, &self.root(), sequence, Some(&self.key)).unwrap();
    }

    /// Signs an index as it is.
    pub fn release_text(&self, index: &str) {
        catalog_writer::write_index(index.as_bytes(), &self.root(), Some(&self.key)).unwrap();
    }

    pub fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("catalog")
    }

    pub fn index(&self) -> String {
        fs::read_to_string(self.root().join(INDEX)).unwrap()
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.root().display())
    }

    pub fn catalog(&self) -> Catalog {
        self.catalog_at(&self.url())
    }

    pub fn catalog_at(&self, url: &str) -> Catalog {
        self.reader(url, &self.public)
    }

    pub fn reader(&self, url: &str, key: &str) -> Catalog {
        let location = Location::parse(url).unwrap();
        let key = CatalogKey::parse(key).unwrap();
        Catalog::open(location, key, &self.dir.path().join("memory")).unwrap()
    }
}

/// Serves the files of a directory. Returns the URL.
///
/// Below `/moved` it redirects to the files, below `/endless` each file has no end.
pub async fn serve(root: &Path) -> String {
    let root = root.to_owned();
    let answer = move |uri: Uri| {
        let root = root.clone();
        async move { respond(&root, uri.path()) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn respond(root: &Path, path: &str) -> Response {
    if let Some(rest) = path.strip_prefix("/moved") {
        return Redirect::temporary(rest).into_response();
    }
    if path.starts_with("/endless") {
        let chunk = || Ok::<_, std::convert::Infallible>(Bytes::from(vec![b' '; 1 << 16]));
        let chunks = futures_util::stream::repeat_with(chunk);
        return Body::from_stream(chunks).into_response();
    }
    match fs::read(root.join(path.trim_start_matches('/'))) {
        Ok(content) => ([(header::CONTENT_TYPE, "text/plain")], content).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

pub fn signature_file(published: &Published) -> std::path::PathBuf {
    published.root().join(SIGNATURE)
}
