//! The packages of this repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeSet, fs, path::Path};

use catalog_writer::{Parameters, Source, read, read_key, to_file, write};
use minisign_verify::{PublicKey, Signature};
use pkgbuild::{Architecture, Choice, Recipe, Script, SourceKind, Value, Variables};
use worker_catalog::{INDEX, Index, SIGNATURE};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn packages(parameters: &Parameters) -> (Vec<Source>, Vec<catalog_writer::LeftOut>) {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    read(&root().join("packages"), parameters, &lock).unwrap()
}

/// Values for all parameters that a recipe can have.
fn complete() -> Parameters {
    let mut parameters = Parameters::default();
    let (_, left_out) = packages(&parameters);
    let names = left_out.into_iter().flat_map(|without| without.parameters);
    for name in names.collect::<BTreeSet<_>>() {
        let value = match name.as_str() {
            "REPOSITORY" | "RELEASES" => "https://example.org/rbee",
            "COMMIT" => COMMIT,
            "RELEASE" | "LLAMA_CPP_BUILD" => "6500",
            _ => "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        };
        parameters.set(&name, value).unwrap();
    }
    parameters
}

fn recipe(source: &Source, machine: Architecture) -> Recipe {
    let script = Script::parse(&source.files["PKGBUILD"]).unwrap();
    let mut preset = Variables::default();
    preset.set("CARCH", Value::Text(machine.name().into()));
    let variables = script.evaluate(&preset).unwrap();
    let choice = Choice {
        machine,
        package: None,
        allows_unverified: false,
    };
    Recipe::new(&variables, script.functions(), &choice).unwrap()
}

#[test]
fn without_values_only_packages_that_need_none_are_published() {
    let (sources, left_out) = packages(&Parameters::default());
    let ids: Vec<&str> = sources.iter().map(|s| s.package.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "llama-cpp-cpu",
            "llama-cpp-cuda",
            "llama-cpp-rpc",
            "llama-cpp-vulkan",
            "vllm"
        ]
    );
    let worker = left_out
        .iter()
        .find(|w| w.id.as_str() == "llm-cpu-worker-rbee");
    assert_eq!(worker.unwrap().parameters, ["COMMIT", "REPOSITORY"]);
}

#[test]
fn every_recipe_can_be_built_for_its_machines_and_states_all_checksums() {
    let (sources, left_out) = packages(&complete());
    assert_eq!(left_out, []);
    assert_eq!(sources.len(), 11);
    for source in &sources {
        let package = &source.package;
        for machine in [Architecture::X86_64, Architecture::Aarch64] {
            if !package.is_for(machine.name()) {
                continue;
            }
            let recipe = recipe(source, machine);
            assert_eq!(recipe.name, package.id.as_str());
            assert!(!recipe.sources.is_empty(), "{}", recipe.name);
            for source in &recipe.sources {
                let is_pinned = match &source.source.kind {
                    SourceKind::Git { reference, .. } => {
                        *reference == pkgbuild::GitReference::Commit(COMMIT.to_owned())
                    }
                    SourceKind::Http { url } => {
                        url.starts_with("https://") && !source.checksums.is_empty()
                    }
                    SourceKind::Local => !source.checksums.is_empty(),
                };
                assert!(is_pinned, "{}: {source:?}", recipe.name);
            }
            let text = String::from_utf8_lossy(&source.files["PKGBUILD"]);
            let program = Path::new(&package.program).file_name().unwrap();
            let variable = ["$pkgname", "$_worker"];
            let installs = [program.to_str().unwrap()].into_iter().chain(variable);
            assert!(
                installs
                    .into_iter()
                    .any(|name| text.contains(&format!("usr/bin/{name}")))
            );
        }
    }
}

#[test]
fn a_catalog_is_written_and_signed() {
    let dir = tempfile::tempdir().unwrap();
    let (key, public) = catalog_writer::new_key().unwrap();
    let file = dir.path().join("key");
    fs::write(&file, to_file(&key).unwrap()).unwrap();
    let (key, same) = read_key(&file).unwrap();
    assert_eq!(same, public);
    let (sources, _) = packages(&Parameters::default());
    write(&sources, dir.path(), 7, Some(&key)).unwrap();
    let content = fs::read(dir.path().join(INDEX)).unwrap();
    let index = Index::parse("of a test", &content).unwrap();
    assert_eq!((index.sequence, index.packages.len()), (7, sources.len()));
    let signature = fs::read_to_string(dir.path().join(SIGNATURE)).unwrap();
    let signature = Signature::decode(&signature).unwrap();
    let key = PublicKey::from_base64(&public).unwrap();
    key.verify(&content, &signature, false).unwrap();
    for source in &sources {
        let package = dir.path().join("workers").join(source.package.id.as_str());
        for (name, content) in &source.files {
            assert_eq!(&fs::read(package.join(name)).unwrap(), content);
        }
        assert!(package.join("index.json").is_file());
    }
}
