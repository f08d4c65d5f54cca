use std::collections::BTreeSet;

use engine_choice::{Availability, Declaration, Feature, Format, Support};
use input_validation::{Backend, BinaryVersion, PackageId, WorkerType};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

/// Name of the recipe of a package.
pub const RECIPE: &str = "PKGBUILD";
/// Maximum size of a file of a package. Large files are sources, which the recipe names.
pub const MAX_FILE_BYTES: u64 = 1 << 20;
/// Maximum number of files of a package.
const MAX_FILES: usize = 64;
/// Maximum length of a text, in bytes.
const MAX_TEXT: usize = 1000;
/// Maximum number of elements of a list.
const MAX_LIST: usize = 1000;

/// A package of a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its id, and the name of its directory.
    pub id: PackageId,
    /// Version as in the recipe: `VERSION-RELEASE`.
    pub version: BinaryVersion,
    /// What it is, in one line.
    pub description: String,
    /// Type of the workers that it provides.
    pub worker_type: WorkerType,
    /// What its sources are.
    pub packaging: Packaging,
    /// Architectures of machines, in the words of PKGBUILD(5).
    pub machines: Vec<String>,
    /// Program that it installs, below its root.
    pub program: String,
    /// How the program is used if it is an engine. Absent if it is a worker itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineProgram>,
    /// What it can run. Absent if it serves no models, as a part of another engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<Runs>,
    /// The recipe and its local files.
    pub files: Vec<PackageFile>,
}

/// What the sources of a package are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packaging {
    /// Sources, which are built on the machine.
    Source,
    /// Programs.
    Binary,
    /// A Python environment.
    Python,
    /// Something that this version does not know.
    #[serde(other)]
    Unrecognized,
}

/// How an engine is started and verified: the adapter makes a worker of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineProgram {
    /// Name by which the adapter and users know it: `llama-cpp`, `vllm`.
    pub name: String,
    /// Its arguments, with the placeholders of the adapter: `{model}`, `{port}`, `{context}`, ….
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Arguments with which it ends successfully without serving, which verifies it.
    pub check: Vec<String>,
}

/// What an engine can run. Values that this version does not know are left out: it could not
/// need them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// File formats of models.
    #[serde(deserialize_with = "recognized")]
    pub formats: BTreeSet<Format>,
    /// Architectures of models.
    pub architectures: Support,
    /// Types of tensors.
    pub tensor_types: Support,
    /// Backends that it computes on.
    #[serde(deserialize_with = "recognized")]
    pub backends: Vec<Backend>,
    /// What it can do besides generating text.
    #[serde(default, deserialize_with = "recognized")]
    pub features: BTreeSet<Feature>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageFile {
    /// Name, without directories.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal digits.
    pub sha256: String,
}

impl Package {
    /// Name by which users choose what it provides: that of its engine, else of its worker.
    pub fn name(&self) -> &str {
        let engine = self.engine.as_ref();
        engine.map_or(self.worker_type.as_str(), |engine| &engine.name)
    }

    /// What it declares to the choice of an engine; `None` if it serves no models.
    pub fn declaration(&self, availability: Availability) -> Option<Declaration> {
        let runs = self.runs.as_ref()?;
        Some(Declaration {
            name: self.name().to_owned(),
            worker_type: self.worker_type.clone(),
            availability,
            formats: runs.formats.clone(),
            architectures: runs.architectures.clone(),
            tensor_types: runs.tensor_types.clone(),
            backends: runs.backends.clone(),
            features: runs.features.clone(),
        })
    }

    /// Whether it can be built on this machine, by its architecture.
    pub fn is_for(&self, machine: &str) -> bool {
        let machines = self.machines.iter();
        machines
            .clone()
            .any(|name| name == machine || name == "any")
    }

    /// The recipe.
    pub fn recipe(&self) -> Option<&PackageFile> {
        self.files.iter().find(|file| file.name == RECIPE)
    }

    /// Checks what the types do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.check_files()?;
        check_text("description", &self.description)?;
        check_list("machines", self.machines.iter())?;
        if !is_relative_path(&self.program) {
            return Err(format!("program \"{}\" is no path below it", self.program));
        }
        if let Some(engine) = &self.engine {
            check_text("engine.name", &engine.name)?;
            check_list("engine.arguments", engine.arguments.iter())?;
            check_list("engine.check", engine.check.iter())?;
        }
        if let Some(runs) = &self.runs {
            for (name, support) in [
                ("runs.architectures", &runs.architectures),
                ("runs.tensor_types", &runs.tensor_types),
            ] {
                if let Support::Only(names) = support {
                    check_list(name, names.iter())?;
                }
            }
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), String> {
        if self.files.len() > MAX_FILES {
            return Err(format!("it has {} files", self.files.len()));
        }
        if self.recipe().is_none() {
            return Err(format!("it has no {RECIPE}"));
        }
        let mut names = BTreeSet::new();
        for PackageFile {
            name,
            bytes,
            sha256,
        } in &self.files
        {
            if !is_file_name(name) || !names.insert(name) {
                return Err(format!("\"{name}\" cannot be the name of a file"));
            }
            if *bytes > MAX_FILE_BYTES {
                return Err(format!("{name} has {bytes} bytes"));
            }
            let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            if sha256.len() != 64 || !sha256.bytes().all(is_digit) {
                return Err(format!("{name} has no SHA-256"));
            }
        }
        Ok(())
    }
}

/// Reads a list and leaves out what this version does not know.
fn recognized<'de, D, T, C>(deserializer: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
    C: FromIterator<T> + IntoIterator<Item = T>,
{
    let names = Vec::<String>::deserialize(deserializer)?;
    let known = names.into_iter().filter_map(|name| {
        let value = serde_json::Value::String(name);
        serde_json::from_value(value).ok()
    });
    Ok(known.collect())
}

fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.len() <= MAX_TEXT && !text.contains(char::is_control) {
        Ok(())
    } else {
        Err(format!("{what} is not a line of at most {MAX_TEXT} bytes"))
    }
}

fn check_list<'a>(
    what: &str,
    list: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), String> {
    if list.len() > MAX_LIST {
        return Err(format!("{what} has {} elements", list.len()));
    }
    for text in list {
        check_text(what, text)?;
    }
    Ok(())
}

/// Whether the name is plain: no directory, no hidden file, nothing that a shell interprets.
fn is_file_name(name: &str) -> bool {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    // Each directory of the catalog has a file of this name for people.
    (1..=128).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.chars().all(is_valid)
        && name != "index.json"
}

fn is_relative_path(path: &str) -> bool {
    path.len() <= MAX_TEXT && path.split('/').all(is_file_name)
}
