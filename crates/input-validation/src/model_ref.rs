use std::{fmt, str::FromStr};

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::errors::invalid_model_ref;

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

/// Paths are at least two characters without control characters, and none of their segments is
/// `..`. The length of a path and the meaning of mock settings are checked in addition.
fn pattern() -> String {
    let control = r"\x00-\x1f\x7f-\x9f";
    let segment = format!(r"(\.|\.\.[^/{control}]+|\.?[^/.{control}][^/{control}]*)");
    format!(
        "^(builtin:[A-Za-z0-9_-]{{1,200}}(@[A-Za-z0-9_-]{{1,200}})?\
         |file:/({segment}(/{segment}?)*|(/{segment}?)+)\
         |mock:[A-Za-z0-9_=,.-]{{1,200}})$"
    )
}

string_schema!(
    ModelRef,
    pattern(),
    "builtin:haiku",
    "Source and name of a model: `builtin:NAME`, `builtin:NAME@WEIGHTS`, `file:/absolute/path` or \
     `mock:SETTINGS`."
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
                "mock" => is_word(rest, "=,.").then(|| Self::Mock(rest.to_owned())),
                _ => None,
            });
        parsed.ok_or_else(|| invalid_model_ref(text))
    }
}

/// Variant of a short name that stands for the default type of the weights.
const DEFAULT_VARIANT: &str = "latest";

impl ModelRef {
    /// Reads a model as users and clients name it: a reference, or a short name of a built-in
    /// model. `haiku` and `haiku:latest` are `builtin:haiku`; `haiku:q8_0` and `haiku@q8_0` are
    /// `builtin:haiku@q8_0`, and so are these names after `builtin:`.
    pub fn from_name(name: &str) -> Result<Self, Diagnostic> {
        let short = name.strip_prefix("builtin:").unwrap_or(name);
        let (base, variant) = short
            .split_once([':', '@'])
            .unwrap_or((short, DEFAULT_VARIANT));
        if name.starts_with("file:") || name.starts_with("mock:") {
            name.parse()
        } else if is_word(base, "") && is_word(variant, "") {
            Ok(Self::Builtin {
                name: base.to_owned(),
                variant: (variant != DEFAULT_VARIANT).then(|| variant.to_owned()),
            })
        } else {
            Err(invalid_model_ref(name))
        }
    }
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
            "ftp:x",
        ] {
            let error = bad.parse::<ModelRef>().unwrap_err();
            assert_eq!(error.code, Code::InvalidModelRef, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_reference_is_its_own_name(text in "(builtin|file|mock):.{0,40}") {
            if let Ok(model) = text.parse::<ModelRef>()
                && !text.ends_with("@latest")
            {
                prop_assert_eq!(ModelRef::from_name(&text).unwrap(), model);
            }
        }

        #[test]
        fn accepted_references_display_as_parsed(text in "(builtin|file|mock|x):.{0,40}") {
            if let Ok(model) = text.parse::<ModelRef>() {
                prop_assert_eq!(model.to_string(), text);
            }
        }
    }
}
