use std::{fmt, str::FromStr};

use diagnostics::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::{
    errors::invalid_model_alias,
    model_ref::{DEFAULT_VARIANT, NAME, is_name, is_name_path, optional},
};

/// Another name of a model, as Ollama's clients write names: `smollm2`, `me/smollm2:tuned`. The
/// tag `latest` is left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelAlias(String);

impl ModelAlias {
    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

string_schema!(
    ModelAlias,
    format!("^{NAME}(/{NAME}){{0,9}}(:{NAME})?$"),
    "smollm2:tuned",
    "Another name of a model: `NAME[:TAG]`. The tag `latest` stands for no tag."
);

impl FromStr for ModelAlias {
    type Err = Diagnostic;
    fn from_str(text: &str) -> Result<Self, Diagnostic> {
        match optional(text, ':', is_name) {
            Some((name, tag)) if is_name_path(name) => {
                let tag = tag.filter(|tag| *tag != DEFAULT_VARIANT);
                Ok(Self(match tag {
                    Some(tag) => format!("{name}:{tag}"),
                    None => name.to_owned(),
                }))
            }
            _ => Err(invalid_model_alias(text)),
        }
    }
}

impl fmt::Display for ModelAlias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ModelAlias {
    type Error = Diagnostic;
    fn try_from(text: String) -> Result<Self, Diagnostic> {
        text.parse()
    }
}

impl From<ModelAlias> for String {
    fn from(alias: ModelAlias) -> Self {
        alias.0
    }
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;

    use super::*;

    #[test]
    fn an_alias_is_a_name_with_an_optional_tag() {
        for (text, alias) in [
            ("smollm2", "smollm2"),
            ("smollm2:latest", "smollm2"),
            ("llama3.2:1b", "llama3.2:1b"),
            ("me/smollm2:tuned", "me/smollm2:tuned"),
        ] {
            assert_eq!(text.parse::<ModelAlias>().unwrap().as_str(), alias);
        }
        for bad in ["", ":", "a b", "a:b:c", "../a", "/a", "a:"] {
            let error = bad.parse::<ModelAlias>().unwrap_err();
            assert_eq!(error.code, Code::InvalidModelRef, "{bad}");
        }
    }
}
