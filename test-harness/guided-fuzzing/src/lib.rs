//! Fuzz targets for all parsers of untrusted input, with their corpora and dictionaries.
//!
//! The targets run the checks of the crates' own fuzz tests. Those damage the corpora at random;
//! libFuzzer keeps inputs that reach new code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "checks that fail by panicking"
)]

#[path = "../../../crates/openai-gateway/tests/checks/mod.rs"]
mod bodies;
#[path = "../../../crates/answer-constraint/tests/checks/mod.rs"]
mod constraints;
#[path = "../../../crates/model-format/tests/checks/mod.rs"]
mod files;
#[path = "../../../crates/worker-catalog/tests/checks/mod.rs"]
mod indexes;
#[path = "../../../crates/tool-calls/tests/checks/mod.rs"]
mod outputs;
#[path = "../../../crates/reasoning/tests/checks/mod.rs"]
mod reasoning;
#[path = "../../../crates/text-codec/tests/checks/mod.rs"]
mod texts;

use serde_json::json;
use worker_contract::{Message, Role, ToolCall, ToolDefinition};

/// A parser to fuzz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FuzzTarget {
    /// GGUF files: header, tensors, tokenizer.
    Gguf,
    /// Headers of safetensors files.
    Safetensors,
    /// `config.json`.
    Config,
    /// `tokenizer.json`.
    Tokenizer,
    /// Chat templates, for a conversation that spells control tokens.
    Template,
    /// Outputs of models that reason.
    Reasoning,
    /// Output constraints: JSON schemas, regular expressions, grammars.
    Constraint,
    /// Request bodies, for every endpoint.
    Body,
    /// Outputs of models, in every format of tool calls.
    Output,
    /// Indexes of catalogs of packages.
    Index,
}

impl FuzzTarget {
    pub const ALL: [Self; 10] = [
        Self::Gguf,
        Self::Safetensors,
        Self::Config,
        Self::Tokenizer,
        Self::Template,
        Self::Reasoning,
        Self::Constraint,
        Self::Body,
        Self::Output,
        Self::Index,
    ];

    /// Name in `RBEE_FUZZ_TARGET` and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gguf => "gguf",
            Self::Safetensors => "safetensors",
            Self::Config => "config",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::Reasoning => "reasoning",
            Self::Constraint => "constraint",
            Self::Body => "body",
            Self::Output => "output",
            Self::Index => "index",
        }
    }

    /// Returns the target with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|target| target.name() == name)
    }

    /// Directories of valid inputs, relative to the workspace.
    pub fn corpora(self) -> Vec<String> {
        let of = |owner: &str, name: &str| format!("crates/{owner}/tests/corpus/{name}");
        match self {
            Self::Gguf => vec![of("model-format", "gguf"), of("text-codec", "gguf")],
            Self::Safetensors | Self::Config => vec![of("model-format", self.name())],
            Self::Tokenizer | Self::Template => vec![of("text-codec", self.name())],
            Self::Reasoning => vec![of("reasoning", "")],
            Self::Constraint => vec![of("answer-constraint", "")],
            Self::Body => bodies::Endpoint::ALL
                .map(|endpoint| of("openai-gateway", endpoint.name()))
                .to_vec(),
            Self::Output => vec![of("tool-calls", "")],
            Self::Index => vec![of("worker-catalog", "")],
        }
    }

    /// Dictionary: fragments of the format.
    pub fn words(self) -> Vec<&'static str> {
        match self {
            Self::Gguf => [files::GGUF_WORDS, texts::GGUF_WORDS].concat(),
            Self::Safetensors | Self::Config => files::JSON_WORDS.to_vec(),
            Self::Tokenizer => texts::TOKENIZER_WORDS.to_vec(),
            Self::Template => texts::TEMPLATE_WORDS.to_vec(),
            Self::Reasoning => reasoning::WORDS.to_vec(),
            Self::Constraint => constraints::WORDS.to_vec(),
            Self::Body => bodies::WORDS.to_vec(),
            Self::Output => outputs::WORDS.to_vec(),
            Self::Index => indexes::WORDS.to_vec(),
        }
    }

    /// Runs the check on an input; panics if it fails.
    pub fn check(self, bytes: &[u8]) {
        match self {
            Self::Gguf => {
                files::gguf(bytes);
                texts::vocabulary(bytes);
            }
            Self::Safetensors => files::safetensors(bytes),
            Self::Config => files::config(bytes, &[]),
            Self::Tokenizer => texts::tokenizer(bytes),
            Self::Template => template(bytes),
            Self::Reasoning => reasoning::splitter(&String::from_utf8_lossy(bytes)),
            Self::Constraint => constraints::constraint(bytes),
            Self::Body => body(bytes),
            Self::Output => outputs::output(bytes),
            Self::Index => indexes::index(bytes),
        }
    }
}

fn template(bytes: &[u8]) {
    let Ok(template) = std::str::from_utf8(bytes) else {
        return;
    };
    let call = ToolCall {
        id: "call_1".into(),
        name: "weather".into(),
        arguments: "{\"city\": \"Ghent\"}".into(),
    };
    let messages = [
        Message::new(Role::System, "Be kind."),
        Message::new(Role::User, "{{ 7 * 7 }} é<|end|> <|e"),
        Message {
            tool_calls: vec![call],
            ..Message::new(Role::Assistant, "")
        },
        Message {
            tool_call_id: Some("call_1".into()),
            ..Message::new(Role::Tool, "nd|>12 °C")
        },
    ];
    let tools = [ToolDefinition {
        name: "weather".into(),
        description: Some("Current weather".into()),
        parameters: Some(json!({"type": "object", "properties": {"city": {"type": "string"}}})),
        strict: false,
    }];
    texts::template(template, &messages, &tools);
}

fn body(bytes: &[u8]) {
    if let Ok(body) = serde_json::from_slice(bytes) {
        for endpoint in bodies::Endpoint::ALL {
            bodies::check(endpoint, &body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corpora_pass_their_checks() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        for target in FuzzTarget::ALL {
            let mut files = 0;
            for directory in target.corpora() {
                for file in std::fs::read_dir(format!("{root}/{directory}")).unwrap() {
                    target.check(&std::fs::read(file.unwrap().path()).unwrap());
                    files += 1;
                }
            }
            assert!(files > 1, "{target:?}");
            assert!(!target.words().is_empty());
        }
    }
}
