//! A catalog with a package that provides an engine.

use std::collections::BTreeMap;

use bdd::{World, binary};
use catalog_writer::Source;
use cucumber::given;
use sha2::{Digest as _, Sha256};
use worker_catalog::{EngineProgram, Package, PackageFile, Packaging, Runs, Support};

fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

#[given("a catalog with a package of llama.cpp")]
fn catalog(world: &mut World) {
    let (key, public) = catalog_writer::new_key().unwrap();
    let root = world.dir().join("catalog");
    catalog_writer::write(&[source()], &root, 1, Some(&key)).unwrap();
    let url = format!("file://{}", root.display());
    let environment = &mut world.environment;
    environment.push(("RBEE_CATALOG".to_owned(), url));
    environment.push(("RBEE_CATALOG_KEY".to_owned(), public));
}

/// Installs a script that starts the simulated engine.
fn source() -> Source {
    let program = format!(
        "#!/bin/sh\ntest \"$1\" = --check && exit 0\nexec '{}' llama-cpp \"$@\"\n",
        binary("engine-sim").display()
    );
    let recipe = format!(
        "pkgname=llama-server\npkgver=1\npkgrel=1\narch=(x86_64 aarch64)\nsource=(program.sh)\n\
         sha256sums=({})\npackage() {{\n  install -Dm755 program.sh \
         \"$pkgdir/usr/bin/$pkgname\"\n}}\n",
        sha256(program.as_bytes())
    );
    let files = BTreeMap::from([
        ("PKGBUILD".to_owned(), recipe.into_bytes()),
        ("program.sh".to_owned(), program.into_bytes()),
    ]);
    let describe = |(name, content): (&String, &Vec<u8>)| PackageFile {
        name: name.clone(),
        bytes: content.len() as u64,
        sha256: sha256(content),
    };
    let arguments = ["--port", "{port}", "-m", "{model}"];
    let package = Package {
        id: "llama-package".parse().unwrap(),
        version: "1-1".parse().unwrap(),
        description: "A script".to_owned(),
        worker_type: "llama-server".parse().unwrap(),
        packaging: Packaging::Source,
        machines: vec!["any".to_owned()],
        program: "usr/bin/llama-server".to_owned(),
        engine: Some(EngineProgram {
            name: "llama-cpp".to_owned(),
            arguments: arguments.map(str::to_owned).to_vec(),
            check: vec!["--check".to_owned()],
        }),
        runs: Some(Runs {
            formats: [engine_choice::Format::Gguf].into(),
            architectures: Support::Any,
            tensor_types: Support::Any,
            backends: vec![input_validation::Backend::Cpu],
            features: [].into(),
        }),
        files: files.iter().map(describe).collect(),
    };
    Source { package, files }
}
