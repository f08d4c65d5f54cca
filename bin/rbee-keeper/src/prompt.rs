use std::{io::IsTerminal as _, path::Path};

use diagnostics::excerpt;
use serde_json::Value;

use tokio::io::AsyncReadExt as _;

use crate::failure::Failure;

/// Longest prompt that is read.
pub const LIMIT_BYTES: usize = 1024 * 1024;

/// The prompt: from the command line, or, when that says `-` or nothing, from standard
/// input.
pub async fn read(argument: Option<String>, raw: bool) -> Result<String, Failure> {
    match argument {
        Some(text) if text != "-" => check(text.into_bytes(), true),
        None if std::io::stdin().is_terminal() => Err(Failure::usage(
            "no prompt",
            "`rbee-keeper infer \"Write a haiku\"`, or pipe the prompt in",
        )),
        _ => {
            let mut bytes = Vec::new();
            tokio::io::stdin()
                .take(LIMIT_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
                .await
                .map_err(|e| {
                    Failure::usage(
                        format!("cannot read standard input: {e}"),
                        "give the prompt as an argument",
                    )
                })?;
            check(bytes, raw)
        }
    }
}

/// The JSON schema in a file.
pub async fn schema(path: &Path) -> Result<Value, Failure> {
    let shown = excerpt(&path.display().to_string(), 200);
    let unusable = |what: String| {
        Failure::usage(
            format!("`--json-schema {shown}`: {what}"),
            "give a file with a JSON schema, such as `{\"type\": \"object\"}`",
        )
    };
    let file = tokio::fs::File::open(path).await;
    let mut bytes = Vec::new();
    file.map_err(|e| unusable(e.to_string()))?
        .take(LIMIT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| unusable(e.to_string()))?;
    if bytes.len() > LIMIT_BYTES {
        return Err(unusable(format!("it is longer than {LIMIT_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).map_err(|e| unusable(format!("it is no JSON: {e}")))
}

/// `exact` keeps the line break that ends most piped texts.
fn check(bytes: Vec<u8>, exact: bool) -> Result<String, Failure> {
    if bytes.len() > LIMIT_BYTES {
        return Err(Failure::usage(
            format!("the prompt is longer than {LIMIT_BYTES} bytes"),
            "shorten it",
        ));
    }
    let mut text = String::from_utf8(bytes).map_err(|e| {
        Failure::usage(
            format!(
                "the prompt is not UTF-8 text: byte {} is not part of a character",
                e.utf8_error().valid_up_to()
            ),
            "convert it first, for example with `iconv -t UTF-8`",
        )
    })?;
    if !exact && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(Failure::usage(
            "the prompt is empty",
            "`rbee-keeper infer \"Write a haiku\"`",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(outcome: Result<String, Failure>) -> String {
        match outcome {
            Err(Failure::Usage(diagnostic)) => diagnostic.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_line_break_at_the_end_is_the_pipes_not_the_prompts() {
        assert_eq!(check(b"a\n\n".to_vec(), false), Ok("a\n".into()));
        assert_eq!(check(b"a\r\n".to_vec(), false), Ok("a".into()));
        assert_eq!(check(b"a\n".to_vec(), true), Ok("a\n".into()));
    }

    #[test]
    fn what_is_no_prompt_is_refused() {
        assert_eq!(message(check(b"\n".to_vec(), false)), "the prompt is empty");
        assert!(message(check(b"ab\xff".to_vec(), false)).contains("byte 2"));
        assert!(check(vec![b'a'; LIMIT_BYTES], true).is_ok());
        assert!(message(check(vec![b'a'; LIMIT_BYTES + 1], true)).contains("1048576"));
    }
}
