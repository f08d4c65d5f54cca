//! Answers the cases of `compare.py`: one JSON object per line on standard input, one answer per
//! line on standard output.
#![allow(clippy::print_stdout, reason = "a filter between two pipes")]

use std::{
    fs,
    io::{self, BufRead as _},
    path::PathBuf,
};

use anyhow::Result;
use model_format::Gguf;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use text_codec::{Chat, Codec, CodecSettings};
use worker_contract::{Message, ToolDefinition};

#[derive(Deserialize)]
#[serde(untagged)]
enum Case {
    /// Encodes each text with the vocabulary of a GGUF file.
    Vocabulary {
        vocabulary: PathBuf,
        texts: Vec<String>,
    },
    /// Renders a conversation.
    Template {
        template: String,
        messages: Vec<Message>,
        #[serde(default)]
        tools: Vec<ToolDefinition>,
        #[serde(default)]
        variables: Map<String, Value>,
        /// Control tokens of the vocabulary.
        #[serde(default)]
        control: Vec<String>,
    },
}

fn main() -> Result<()> {
    for line in io::stdin().lock().lines() {
        let answer = match serde_json::from_str(&line?)? {
            Case::Vocabulary { vocabulary, texts } => encode(&vocabulary, &texts)?,
            Case::Template {
                template,
                messages,
                tools,
                variables,
                control,
            } => {
                let chat = Chat {
                    messages: &messages,
                    tools: &tools,
                    variables: &variables,
                };
                render(template, &control, &chat)
            }
        };
        println!("{answer}");
    }
    Ok(())
}

fn encode(path: &PathBuf, texts: &[String]) -> Result<Value> {
    let file = fs::read(path)?;
    let codec = match Codec::from_gguf(&Gguf::parse(&file)?) {
        Ok(codec) => codec,
        Err(error) => return Ok(json!({"error": error.message})),
    };
    let ids: Result<Vec<_>, _> = texts.iter().map(|text| codec.encode(text)).collect();
    Ok(match ids {
        Ok(ids) => json!({"ids": ids}),
        Err(error) => json!({"error": error.message}),
    })
}

fn render(template: String, control: &[String], chat: &Chat<'_>) -> Value {
    match codec(template, control).and_then(|codec| codec.render(chat)) {
        Ok(rendered) => json!({"text": rendered.text, "notes": rendered.notes}),
        Err(error) => json!({"error": error.message, "code": error.code}),
    }
}

/// A codec with the smallest vocabulary.
fn codec(template: String, control: &[String]) -> Result<Codec, diagnostics::Diagnostic> {
    let added: Vec<Value> = (1..)
        .zip(control)
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({"version": "1.0", "added_tokens": added,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}});
    let settings = CodecSettings {
        chat_template: Some(template),
        bos_token: Some("<s>".into()),
        eos_token: Some("</s>".into()),
        ..CodecSettings::default()
    };
    Codec::from_tokenizer_json(tokenizer.to_string().as_bytes(), settings)
}
