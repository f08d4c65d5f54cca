use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, anyhow, ensure};
use input_validation::{BinaryVersion, PackageId, WorkerType};
use pkgbuild::{Script, Value, Variables};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use worker_catalog::{EngineProgram, Package, PackageFile, Packaging, RECIPE, Runs};

use crate::{Parameters, crates};

/// File of a package with what its recipe does not say.
const METADATA: &str = "package.toml";

/// What `package.toml` says. The rest is in the recipe.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    worker_type: WorkerType,
    packaging: Packaging,
    program: String,
    engine: Option<EngineProgram>,
    runs: Option<toml::Value>,
    /// Package of this workspace whose crates the recipe has as its sources.
    crates_of: Option<String>,
}

/// A package and the contents of its files.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its entry in the index.
    pub package: Package,
    /// The recipe and its local files.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// A package that is left out, because parameters have no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Its id.
    pub id: PackageId,
    /// The parameters.
    pub parameters: Vec<String>,
}

/// Reads all packages of a directory, ordered by their ids. Recipes are read without running them.
/// `lock` is the text of the workspace's `Cargo.lock`.
pub fn read(
    packages: &Path,
    parameters: &Parameters,
    lock: &str,
) -> Result<(Vec<Source>, Vec<LeftOut>)> {
    let (mut sources, mut left_out) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(packages).with_context(|| packages.display().to_string())? {
        let directory = entry?.path();
        if directory.is_dir() {
            let read = read_package(&directory, parameters, lock);
            match read.with_context(|| directory.display().to_string())? {
                Ok(source) => sources.push(source),
                Err(without) => left_out.push(without),
            }
        }
    }
    sources.sort_by(|a, b| a.package.id.cmp(&b.package.id));
    left_out.sort_by(|a, b| a.id.cmp(&b.id));
    Ok((sources, left_out))
}

fn read_package(
    directory: &Path,
    parameters: &Parameters,
    lock: &str,
) -> Result<std::result::Result<Source, LeftOut>> {
    let id = directory.file_name().and_then(|name| name.to_str());
    let id: PackageId = id.context("the name is not UTF-8")?.parse()?;
    let metadata: Metadata = toml::from_str(&fs::read_to_string(directory.join(METADATA))?)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().into_string();
        let name = name.map_err(|_| anyhow!("the name of a file is not UTF-8"))?;
        ensure!(entry.file_type()?.is_file(), "{name} is not a file");
        if name != METADATA {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    let recipe = files.get(RECIPE).context("no PKGBUILD")?;
    let recipe = std::str::from_utf8(recipe).context("the PKGBUILD is not UTF-8")?;
    let mut parameters = parameters.clone();
    if let Some(root) = &metadata.crates_of {
        let (names, sums) = crates::sources(lock, root)?;
        parameters.set_text("CRATES", names.trim().to_owned());
        parameters.set_text("CRATE_SUMS", sums.trim().to_owned());
    }
    let recipe = match parameters.replace(recipe) {
        Ok(recipe) => recipe.into_bytes(),
        Err(parameters) => return Ok(Err(LeftOut { id, parameters })),
    };
    let variables = variables(&recipe)?;
    files.insert(RECIPE.to_owned(), recipe);
    ensure!(variables.text("epoch").is_empty(), "epochs are not used");
    let version = format!("{}-{}", variables.text("pkgver"), variables.text("pkgrel"));
    let package = Package {
        id,
        version: version.parse::<BinaryVersion>()?,
        description: variables.text("pkgdesc").to_owned(),
        worker_type: metadata.worker_type,
        packaging: metadata.packaging,
        machines: variables.list("arch").to_vec(),
        program: metadata.program,
        engine: metadata.engine,
        runs: metadata.runs.map(runs).transpose()?,
        files: files.iter().map(describe).collect(),
    };
    Ok(Ok(Source { package, files }))
}

/// Readers leave out what they do not know; a writer must not.
fn runs(value: toml::Value) -> Result<Runs> {
    let stated = |name| {
        value
            .get(name)
            .and_then(toml::Value::as_array)
            .map_or(0, Vec::len)
    };
    let expected = ["formats", "backends", "features"].map(stated);
    let runs: Runs = value.try_into()?;
    let found = [runs.formats.len(), runs.backends.len(), runs.features.len()];
    ensure!(
        expected == found,
        "formats, backends or features have a name that is not known"
    );
    Ok(runs)
}

/// Reads the variables of a recipe, which must not need bash for them.
fn variables(recipe: &[u8]) -> Result<Variables> {
    let script = Script::parse(recipe)?;
    let mut preset = Variables::default();
    preset.set("CARCH", Value::Text("x86_64".into()));
    script
        .evaluate(&preset)
        .map_err(|needs| anyhow!("it must be readable without bash: {needs:?}"))
}

fn describe((name, content): (&String, &Vec<u8>)) -> PackageFile {
    PackageFile {
        name: name.clone(),
        bytes: content.len() as u64,
        sha256: hex::encode(Sha256::digest(content)),
    }
}
