use std::{fmt, str::FromStr};

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::{aliases, errors::invalid_model_ref};

/// Source and name of a model. `Display` writes the form that was parsed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ModelRef {
    /// Model that is part of rbee: `builtin:haiku`, or `builtin:haiku@q8_0` with the type of its
    /// weights.
    Builtin {
        /// Name of the model.
        name: String,
        /// Type of the weights; `None` is the default type of the model.
        variant: Option<String>,
    },
    /// Absolute path on the node's disk, of a GGUF file or of a directory with safetensors:
    /// `file:/models/model.gguf`.
    File(String),
    /// Files of a repository of Hugging Face: `hf:org/repo@revision:file.gguf`.
    Hub {
        /// Owner and name of the repository: `org/repo`.
        repository: String,
        /// Branch, tag or commit; `None` is the default branch.
        revision: Option<String>,
        /// Path of a file, or type of the weights (`Q4_K_M`); `None` leaves the choice to rbee.
        selection: Option<String>,
    },
    /// Model of Ollama's registry: `ollama:name:tag`.
    Ollama {
        /// Name of the model, with its namespace if it has one: `smollm2`, `user/model`.
        name: String,
        /// Tag; `None` is `latest`.
        tag: Option<String>,
    },
    /// Settings of the mock engine, for tests and benchmarks: `mock:key=value,…`.
    Mock(String),
}

fn is_word(text: &str, extra: &str) -> bool {
    (1..=200).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || extra.contains(c))
}

fn is_safe_path(path: &str) -> bool {
    path.len() > 1
        && path.len() <= 4096
        && path.starts_with('/')
        && !path.chars().any(char::is_control)
        && !path.split('/').any(|part| part == "..")
}

/// A name without separators, such as a part of a repository's: up to 10 words with single dots
/// between.
pub(crate) fn is_name(text: &str) -> bool {
    text.split('.').count() <= 10 && text.split('.').all(|part| is_word(part, ""))
}

/// Up to 10 names with `/` between.
pub(crate) fn is_name_path(text: &str) -> bool {
    text.split('/').count() <= 10 && text.split('/').all(is_name)
}

/// Splits an optional part off: `text` is `None` if the part is present and not valid.
pub(crate) fn optional(
    text: &str,
    separator: char,
    valid: fn(&str) -> bool,
) -> Option<(&str, Option<&str>)> {
    match text.split_once(separator) {
        None => Some((text, None)),
        Some((before, part)) => valid(part).then_some((before, Some(part))),
    }
}

fn hub(text: &str) -> Option<ModelRef> {
    let (text, selection) = optional(text, ':', is_name_path)?;
    let (repository, revision) = optional(text, '@', is_name_path)?;
    let (owner, name) = repository.split_once('/')?;
    (is_name(owner) && is_name(name)).then(|| ModelRef::Hub {
        repository: repository.to_owned(),
        revision: revision.map(str::to_owned),
        selection: selection.map(str::to_owned),
    })
}

fn ollama(text: &str) -> Option<ModelRef> {
    let (name, tag) = optional(text, ':', is_name)?;
    is_name_path(name).then(|| ModelRef::Ollama {
        name: name.to_owned(),
        tag: tag.filter(|tag| *tag != DEFAULT_VARIANT).map(str::to_owned),
    })
}

/// Pattern of the texts that [`is_name`] accepts.
pub(crate) const NAME: &str = r"[A-Za-z0-9_-]{1,200}(\.[A-Za-z0-9_-]{1,200}){0,9}";

/// Paths are at least two characters without control characters, and none of their segments is
/// `..`. The length of a path and the meaning of mock settings are checked in addition.
fn pattern() -> String {
    let name = NAME;
    let path = format!("{name}(/{name}){{0,9}}");
    let control = r"\x00-\x1f\x7f-\x9f";
    let segment = format!(r"(\.|\.\.[^/{control}]+|\.?[^/.{control}][^/{control}]*)");
    format!(
        "^(builtin:[A-Za-z0-9_-]{{1,200}}(@[A-Za-z0-9_-]{{1,200}})?\
         |hf:{name}/{name}(@{path})?(:{path})?\
         |ollama:{path}(:{name})?\
         |file:/({segment}(/{segment}?)*|(/{segment}?)+)\
         |mock:[A-Za-z0-9_=,.-]{{1,200}})$"
    )
}

string_schema!(
    ModelRef,
    pattern(),
    "builtin:haiku",
    "Source and name of a model: `hf:ORG/REPO[@REVISION][:FILE or :WEIGHTS]`, \
     `ollama:NAME[:TAG]`, `builtin:NAME[@WEIGHTS]`, `file:/absolute/path` or `mock:SETTINGS`."
);

impl FromStr for ModelRef {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        let parsed = text
            .split_once(':')
            .and_then(|(vendor, rest)| match vendor {
                "builtin" => {
                    let (name, variant) = match rest.split_once('@') {
                        Some((name, variant)) => (name, Some(variant)),
                        None => (rest, None),
                    };
                    (is_word(name, "") && variant.is_none_or(|v| is_word(v, ""))).then(|| {
                        Self::Builtin {
                            name: name.to_owned(),
                            variant: variant.map(str::to_owned),
                        }
                    })
                }
                "file" => is_safe_path(rest).then(|| Self::File(rest.to_owned())),
                "hf" => hub(rest),
                "ollama" => ollama(rest),
                "mock" => is_word(rest, "=,.").then(|| Self::Mock(rest.to_owned())),
                _ => None,
            });
        parsed.ok_or_else(|| invalid_model_ref(text))
    }
}

/// Variant of a short name that stands for the default type of the weights.
pub(crate) const DEFAULT_VARIANT: &str = "latest";

impl ModelRef {
    /// Reads a model as users and clients name it: a reference, an address on the web, or a short
    /// name that ships with rbee. `haiku` and `haiku:latest` are `builtin:haiku`; `haiku:q8_0` and
    /// `haiku@q8_0` are `builtin:haiku@q8_0`, and so are these names after `builtin:`.
    pub fn from_name(name: &str) -> Result<Self, Diagnostic> {
        Self::from_name_with(name, |_| None)
    }

    /// Reads a model as [`from_name`](Self::from_name) does, but looks a short name up among the
    /// aliases of the user first.
    pub fn from_name_with(
        name: &str,
        user_alias: impl FnOnce(&str) -> Option<Self>,
    ) -> Result<Self, Diagnostic> {
        if ["file:", "mock:", "hf:", "ollama:"]
            .iter()
            .any(|vendor| name.starts_with(vendor))
        {
            return name.parse();
        }
        if let Some(short) = name.strip_prefix("builtin:") {
            return builtin(short).ok_or_else(|| invalid_model_ref(name));
        }
        if let Some(model) = user_alias(name) {
            return Ok(model);
        }
        if let Some(address) = Self::from_address(name) {
            return address;
        }
        match aliases::shipped(name) {
            Some(reference) => reference.parse(),
            None => builtin(name).ok_or_else(|| invalid_model_ref(name)),
        }
    }
}

fn builtin(name: &str) -> Option<ModelRef> {
    let (base, variant) = name
        .split_once([':', '@'])
        .unwrap_or((name, DEFAULT_VARIANT));
    (is_word(base, "") && is_word(variant, "")).then(|| ModelRef::Builtin {
        name: base.to_owned(),
        variant: (variant != DEFAULT_VARIANT).then(|| variant.to_owned()),
    })
}

impl TryFrom<String> for ModelRef {
    type Error = Diagnostic;
    fn try_from(text: String) -> Result<Self, Diagnostic> {
        text.parse()
    }
}

impl From<ModelRef> for String {
    fn from(model: ModelRef) -> Self {
        model.to_string()
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin {
                name,
                variant: None,
            } => write!(f, "builtin:{name}"),
            Self::Builtin {
                name,
                variant: Some(variant),
            } => write!(f, "builtin:{name}@{variant}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Hub {
                repository,
                revision,
                selection,
            } => {
                write!(f, "hf:{repository}")?;
                revision.iter().try_for_each(|part| write!(f, "@{part}"))?;
                selection.iter().try_for_each(|part| write!(f, ":{part}"))
            }
            Self::Ollama { name, tag } => {
                write!(f, "ollama:{name}")?;
                tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
            }
            Self::Mock(settings) => write!(f, "mock:{settings}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn references_display_as_parsed() {
        for text in [
            "builtin:haiku",
            "builtin:haiku@q8_0",
            "file:/models/a b.gguf",
            "mock:tokens_per_second=50,load_ms=10",
            "hf:org/repo",
            "hf:org/repo.v1@refs/pr/1:sub/model-Q4_K_M.gguf",
            "hf:org/repo:Q4_K_M",
            "ollama:smollm2",
            "ollama:user/model:135m-q4_0",
        ] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn built_in_models_have_short_names() {
        for (name, model) in [
            ("haiku", "builtin:haiku"),
            ("haiku:latest", "builtin:haiku"),
            ("haiku@latest", "builtin:haiku"),
            ("haiku:q8_0", "builtin:haiku@q8_0"),
            ("haiku@q8_0", "builtin:haiku@q8_0"),
            ("builtin:haiku", "builtin:haiku"),
            ("builtin:haiku:latest", "builtin:haiku"),
            ("builtin:haiku@q8_0", "builtin:haiku@q8_0"),
            ("file:/m/a:b.gguf", "file:/m/a:b.gguf"),
            ("mock:a=1", "mock:a=1"),
        ] {
            let parsed = ModelRef::from_name(name).unwrap();
            assert_eq!(parsed.to_string(), model, "{name}");
        }
        for bad in ["", ":", "haiku:", "a b", "file:x", "mock:", "a:b:c", "../a"] {
            let error = ModelRef::from_name(bad).unwrap_err();
            assert_eq!(error.code, Code::InvalidModelRef, "{bad}");
        }
    }

    #[test]
    fn aliases_of_the_user_precede_those_that_ship() {
        let name = |text: &str| {
            let user = |alias: &str| (alias == "smollm2").then(|| "ollama:mine".parse().unwrap());
            ModelRef::from_name_with(text, user).unwrap().to_string()
        };
        assert_eq!(name("smollm2"), "ollama:mine");
        assert_eq!(
            name("smollm2:1.7b"),
            "hf:bartowski/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M"
        );
        assert_eq!(name("haiku"), "builtin:haiku");
        assert_eq!(name("builtin:smollm2"), "builtin:smollm2");
    }

    #[test]
    fn refuses_invalid_references() {
        for bad in [
            "",
            "haiku",
            "builtin:",
            "builtin:../x",
            "builtin:haiku@",
            "file:relative.gguf",
            "file:/a/../b",
            "file:/a\nb",
            "mock:$(x)",
            "hf:repo",
            "hf:../repo",
            "hf:org/repo/file",
            "hf:org/repo@",
            "hf:org/repo:../x",
            "ollama:",
            "ollama:a:b:c",
            "ftp:x",
        ] {
            let error = bad.parse::<ModelRef>().unwrap_err();
            assert_eq!(error.code, Code::InvalidModelRef, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_reference_is_its_own_name(text in "(builtin|file|mock|hf|ollama):.{0,40}") {
            if let Ok(model) = text.parse::<ModelRef>()
                && !text.ends_with("@latest")
            {
                prop_assert_eq!(ModelRef::from_name(&text).unwrap(), model);
            }
        }

        #[test]
        fn accepted_references_display_as_parsed(text in "(builtin|file|mock|hf|ollama|x):.{0,40}") {
            if let Ok(model) = text.parse::<ModelRef>()
                && !text.ends_with(":latest")
            {
                prop_assert_eq!(model.to_string(), text);
            }
        }
    }
}
