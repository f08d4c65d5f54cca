use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use diagnostics::Diagnostic;
use engine_choice::{Availability, Declaration, Feature, Format, Support};
use input_validation::{Backend, EngineName};
use preflight_validation::ADAPTER;
use serde::Deserialize;
use worker_contract::EngineKind;

use crate::{
    engine::{self, Engine, Run},
    errors,
};

/// Maximum size of a description, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// Maximum number of arguments, names and variables.
const MAX_LIST: usize = 1000;
/// The placeholders that the adapter replaces.
const PLACEHOLDERS: [&str; 5] = ["model", "port", "context", "slots", "threads"];
/// Everybody may write the file.
const WORLD_WRITABLE: u32 = 0o002;

/// What a described engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// The server of llama.cpp.
    LlamaCpp,
    /// vLLM.
    Vllm,
    /// Ollama.
    Ollama,
    /// Any server with the API of OpenAI.
    Openai,
    /// The RPC server of llama.cpp, which computes parts of models for a server on another
    /// machine.
    LlamaCppRpc,
}

impl FileKind {
    /// Its protocol, if it serves models.
    const fn engine(self) -> Option<EngineKind> {
        match self {
            Self::LlamaCpp => Some(EngineKind::LlamaCpp),
            Self::Vllm => Some(EngineKind::Vllm),
            Self::Ollama => Some(EngineKind::Ollama),
            Self::Openai => Some(EngineKind::Openai),
            Self::LlamaCppRpc => None,
        }
    }
}

/// Description of an engine by its user: the file `NAME.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineFile {
    /// Its protocol.
    pub kind: FileKind,
    /// Program, as an absolute path, and arguments, which start it. `{model}` is replaced by the
    /// path of the model, `{port}` by the port to listen on, `{context}` by the length of a
    /// sequence in tokens or 0, `{slots}` by the number of sequences, `{threads}` by the number
    /// of threads.
    pub command: Option<Vec<String>>,
    /// URL at which it runs already.
    pub attach: Option<String>,
    /// Name of the model in requests to it. Default: the path of the model.
    pub model: Option<String>,
    /// File with the key for requests to it, as an absolute path.
    pub api_key_file: Option<PathBuf>,
    /// Formats of models that it loads. Default: those of its kind.
    pub formats: Option<BTreeSet<Format>>,
    /// Architectures of models. Default: any.
    pub architectures: Option<BTreeSet<String>>,
    /// Types of tensors. Default: any.
    pub tensor_types: Option<BTreeSet<String>>,
    /// Backends that it computes on. Default: `cpu`.
    pub backends: Option<Vec<Backend>>,
    /// What it can do besides generating text.
    #[serde(default)]
    pub features: BTreeSet<Feature>,
    /// Further variables of its environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Reads a description. The error names the file and what is wrong.
///
/// Errors: `CONFIG_INVALID`, `STATE_UNUSABLE`.
pub(crate) fn read(path: &Path, name: &EngineName) -> Result<Engine, Diagnostic> {
    let invalid = |problem: &str| errors::invalid(path, problem);
    let file = fs::File::open(path).map_err(|e| errors::unreadable(path, &e))?;
    let metadata = file.metadata().map_err(|e| errors::unreadable(path, &e))?;
    if !metadata.is_file() {
        return Err(invalid("it is not a regular file"));
    }
    if metadata.mode() & WORLD_WRITABLE != 0 {
        return Err(errors::world_writable(path));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(|e| errors::unreadable(path, &e))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(invalid(&format!("it has more than {MAX_BYTES} bytes")));
    }
    let described: EngineFile =
        toml::from_str(&text).map_err(|e| errors::syntax(path, &text, &e))?;
    described.engine(name).map_err(|problem| invalid(&problem))
}

impl EngineFile {
    fn engine(self, name: &EngineName) -> Result<Engine, String> {
        self.check_lists()?;
        let availability = match (&self.command, &self.attach) {
            (Some(_), None) => Availability::Installed,
            (None, Some(_)) => Availability::Attached,
            (None, None) => return Err("it has neither `command` nor `attach`".into()),
            (Some(_), Some(_)) => return Err("it has both `command` and `attach`".into()),
        };
        let formats = match self.kind.engine() {
            Some(kind) => {
                let own = || engine::formats(kind).iter().copied().collect();
                let formats = self.formats.clone().unwrap_or_else(own);
                if formats.is_empty() {
                    return Err("`formats` must not be empty".into());
                }
                formats
            }
            None if self.formats.is_some() || self.attach.is_some() => {
                return Err("`formats` and `attach` are for engines that serve models".into());
            }
            None => BTreeSet::new(),
        };
        let declaration = Declaration {
            name: name.to_string(),
            worker_type: ADAPTER.parse().map_err(|error: Diagnostic| error.message)?,
            availability,
            formats,
            architectures: support(self.architectures.clone()),
            tensor_types: support(self.tensor_types.clone()),
            backends: self.backends.clone().unwrap_or_else(|| vec![Backend::Cpu]),
            features: self.features.clone(),
        };
        if declaration.backends.is_empty() {
            return Err("`backends` must not be empty".into());
        }
        let run = self.run()?;
        Ok(Engine { declaration, run })
    }

    fn check_lists(&self) -> Result<(), String> {
        let sizes = [
            ("command", self.command.as_ref().map_or(0, Vec::len)),
            (
                "architectures",
                self.architectures.as_ref().map_or(0, BTreeSet::len),
            ),
            (
                "tensor_types",
                self.tensor_types.as_ref().map_or(0, BTreeSet::len),
            ),
            ("environment", self.environment.len()),
        ];
        match sizes.iter().find(|(_, size)| *size > MAX_LIST) {
            Some((key, _)) => Err(format!("`{key}` has more than {MAX_LIST} elements")),
            None => Ok(()),
        }
    }

    fn run(self) -> Result<Run, String> {
        check_text("model", self.model.as_deref().unwrap_or("-"))?;
        if let Some(url) = self.attach {
            if !self.environment.is_empty() {
                return Err("`environment` is for `command` only".into());
            }
            check_url(&url)?;
            if let Some(file) = &self.api_key_file
                && !(file.is_absolute() && file.is_file())
            {
                return Err("`api_key_file` must be the absolute path of a file".into());
            }
            let Some(kind) = self.kind.engine() else {
                return Err("an engine that computes parts of models is started".into());
            };
            return Ok(Run::Attach {
                kind,
                url,
                model: self.model,
                api_key_file: self.api_key_file,
            });
        }
        if self.api_key_file.is_some() {
            return Err("`api_key_file` is for `attach` only".into());
        }
        let command = self.command.unwrap_or_default();
        let kind = self.kind.engine();
        check_command(&command, self.model.is_some() || kind.is_none())?;
        for (name, value) in &self.environment {
            check_variable(name, value)?;
        }
        let Some(kind) = kind else {
            return Ok(Run::Part {
                command,
                environment: self.environment,
            });
        };
        Ok(Run::Command {
            kind,
            command,
            model: self.model,
            environment: self.environment,
        })
    }
}

fn support(names: Option<BTreeSet<String>>) -> Support {
    names.map_or(Support::Any, Support::Only)
}

fn check_text(key: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(format!("`{key}` must be text without control characters"));
    }
    Ok(())
}

fn check_command(command: &[String], has_model: bool) -> Result<(), String> {
    let Some(program) = command.first() else {
        return Err("`command` is empty".into());
    };
    for word in command {
        check_text("command", word)?;
    }
    let path = Path::new(program);
    if !path.is_absolute() {
        return Err("the first element of `command` must be an absolute path".into());
    }
    let is_executable = fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    if !is_executable {
        return Err(format!(
            "`command`: {} is not an executable file",
            path.display()
        ));
    }
    let used: Vec<&str> = command.iter().flat_map(|word| placeholders(word)).collect();
    if let Some(unknown) = used.iter().find(|name| !PLACEHOLDERS.contains(name)) {
        return Err(format!(
            "`command` has the unknown placeholder {{{unknown}}}; those that are replaced are {}",
            PLACEHOLDERS.map(|name| format!("{{{name}}}")).join(", ")
        ));
    }
    for (name, required) in [("port", true), ("model", !has_model)] {
        if required && !used.contains(&name) {
            return Err(format!("`command` must contain the placeholder {{{name}}}"));
        }
    }
    Ok(())
}

/// The names in braces, as the adapter reads them.
fn placeholders(word: &str) -> Vec<&str> {
    let (mut names, mut rest) = (Vec::new(), word);
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        names.push(name);
        rest = after;
    }
    names
}

fn check_url(url: &str) -> Result<(), String> {
    let rest = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let is_plain =
        |rest: &str| rest.bytes().all(|b| b.is_ascii_graphic()) && !rest.contains(['@', '?', '#']);
    match rest {
        Some(rest) if !rest.is_empty() && is_plain(rest) => Ok(()),
        _ => Err("`attach` must be a URL such as `http://127.0.0.1:8080`, without a user".into()),
    }
}

fn check_variable(name: &str, value: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    if !is_name(name) || name.len() > 200 {
        let name = diagnostics::excerpt(name, 60);
        return Err(format!(
            "`environment`: \"{name}\" is not the name of a variable"
        ));
    }
    if name.starts_with("RBEE_") {
        return Err(format!("`environment`: {name} is set by the hive"));
    }
    if value.contains('\0') {
        return Err(format!(
            "`environment`: the value of {name} contains a zero byte"
        ));
    }
    Ok(())
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
