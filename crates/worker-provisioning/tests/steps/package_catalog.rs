//! A catalog with one package, whose program is a script.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use axum::{Router, http::StatusCode};
use bdd::World;
use catalog_writer::Source;
use cucumber::{given, when};
use minisign::SecretKey;
use sha2::{Digest as _, Sha256};
use worker_catalog::{EngineProgram, INDEX, Package, PackageFile, Packaging, SIGNATURE};

use super::package;

/// The key of the catalog, its releases, and the files of the first one.
#[derive(Default)]
struct Published {
    key: Option<SecretKey>,
    releases: u64,
    first: Option<(Vec<u8>, Vec<u8>)>,
}

fn root(world: &World) -> PathBuf {
    world.dir().join("catalog")
}

pub(super) fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[given(regex = r"^a catalog in (a directory|a server) with the (worker|engine) (\S+) (\S+)$")]
async fn catalog(world: &mut World, place: String, kind: String, name: String, version: String) {
    let (key, public) = catalog_writer::new_key().unwrap();
    world.get::<Published>().key = Some(key);
    // The first release is older than what the hive sees.
    release(world, &[source(&kind, &name, "0.0.1", true)]);
    let root = root(world);
    let read = |path| fs::read(root.join(path)).unwrap();
    world.get::<Published>().first = Some((read(INDEX), read(SIGNATURE)));
    let source = source(&kind, &name, &version, true);
    let pkgbuild = sha256(&source.files["PKGBUILD"]);
    world.noted.insert("pkgbuild_sha256".to_owned(), pkgbuild);
    release(world, &[source]);
    let url = match place.as_str() {
        "a server" => serve(world).await,
        _ => format!("file://{}", root.display()),
    };
    let environment = &mut world.environment;
    environment.push(("RBEE_CATALOG".to_owned(), url));
    environment.push(("RBEE_CATALOG_KEY".to_owned(), public));
}

/// The package runs the program that comes with the toolchain.
#[given("the hive offers a toolchain, which the package of the catalog needs")]
fn toolchain(world: &mut World) {
    // Builds have a `/tmp` of their own.
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(world.dir().file_name().unwrap());
    let program = root.join("bin/greet");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(&program, "#!/bin/sh\necho made with the toolchain\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut source = source("worker", "mock-worker-rbee", "0.4.0", true);
    let recipe = source.files.get_mut("PKGBUILD").unwrap();
    recipe.extend_from_slice(
        b"build() { greet; ! touch \"$(dirname \"$(command -v greet)\")/x\"; }\n",
    );
    source.package.files = source.files.iter().map(describe).collect();
    release(world, &[source]);
    let root = root.display().to_string();
    world.environment.push(("RBEE_TOOLCHAINS".to_owned(), root));
}

/// Serves the files of the catalog.
async fn serve(world: &mut World) -> String {
    let root = root(world);
    let answer = move |uri: axum::http::Uri| {
        let file = root.join(uri.path().trim_start_matches('/'));
        async move { fs::read(file).map_err(|_| StatusCode::NOT_FOUND) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer);
    world.spawn(async move {
        axum::serve(listener, router).await.unwrap();
    });
    format!("http://{address}")
}

#[when(regex = r"^the catalog has the (worker|engine) (\S+) (\S+)( that does not run)?$")]
fn upgrade(world: &mut World, kind: String, name: String, version: String, broken: String) {
    release(world, &[source(&kind, &name, &version, broken.is_empty())]);
}

#[when("the catalog has no packages")]
fn no_packages(world: &mut World) {
    release(world, &[]);
}

#[when("the catalog is moved away")]
fn moved_away(world: &mut World) {
    fs::rename(root(world), world.dir().join("elsewhere")).unwrap();
}

#[when(
    regex = r"^(the index|the signature|the release|the PKGBUILD|a local file) of the catalog is replaced$"
)]
fn replace(world: &mut World, what: String) {
    let root = root(world);
    let (index, signature) = world.get::<Published>().first.clone().unwrap();
    let replaced: Vec<(PathBuf, Vec<u8>)> = match what.as_str() {
        "the index" => vec![(root.join(INDEX), index)],
        "the signature" => vec![(root.join(SIGNATURE), signature)],
        "the release" => vec![(root.join(INDEX), index), (root.join(SIGNATURE), signature)],
        name => {
            let name = if name == "the PKGBUILD" {
                "PKGBUILD"
            } else {
                "program.sh"
            };
            let file = root.join("workers/mock-worker-rbee-package").join(name);
            let mut content = fs::read(&file).unwrap();
            content[0] ^= 1;
            vec![(file, content)]
        }
    };
    for (file, content) in replaced {
        fs::write(file, content).unwrap();
    }
}

fn release(world: &mut World, sources: &[Source]) {
    let root = root(world);
    let published = world.get::<Published>();
    published.releases += 1;
    let key = published.key.as_ref();
    catalog_writer::write(sources, &root, published.releases, key).unwrap();
}

/// A catalog with these packages in a directory.
pub(super) fn catalog_of(world: &mut World, sources: &[Source]) {
    let (key, public) = catalog_writer::new_key().unwrap();
    world.get::<Published>().key = Some(key);
    release(world, sources);
    let url = format!("file://{}", root(world).display());
    let environment = &mut world.environment;
    environment.push(("RBEE_CATALOG".to_owned(), url));
    environment.push(("RBEE_CATALOG_KEY".to_owned(), public));
}

fn describe((name, content): (&String, &Vec<u8>)) -> PackageFile {
    PackageFile {
        name: name.clone(),
        bytes: content.len() as u64,
        sha256: sha256(content),
    }
}

/// The package NAME-package, which installs NAME.
fn source(kind: &str, name: &str, version: &str, runs: bool) -> Source {
    let program = match kind {
        "worker" => package::worker_script(name, version),
        _ if runs => "#!/bin/sh\ntest \"$1\" = --check\n".to_owned(),
        _ => "#!/bin/sh\nexit 3\n".to_owned(),
    };
    let recipe = format!(
        "pkgname={name}\npkgver={version}\npkgrel=1\narch=(x86_64 aarch64)\n\
         source=(program.sh)\nsha256sums=({})\npackage() {{\n  install -Dm755 program.sh \
         \"$pkgdir/usr/bin/$pkgname\"\n}}\n",
        sha256(program.as_bytes())
    );
    let files = BTreeMap::from([
        ("PKGBUILD".to_owned(), recipe.into_bytes()),
        ("program.sh".to_owned(), program.into_bytes()),
    ]);
    let engine = (kind == "engine").then(|| EngineProgram {
        name: name.to_owned(),
        arguments: Vec::new(),
        check: vec!["--check".to_owned()],
    });
    let package = Package {
        id: format!("{name}-package").parse().unwrap(),
        version: format!("{version}-1").parse().unwrap(),
        description: "A script".to_owned(),
        worker_type: name.parse().unwrap(),
        packaging: Packaging::Source,
        machines: vec!["x86_64".to_owned(), "aarch64".to_owned()],
        program: format!("usr/bin/{name}"),
        engine,
        runs: None,
        files: files.iter().map(describe).collect(),
    };
    Source { package, files }
}
