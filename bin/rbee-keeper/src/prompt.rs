use std::{io::IsTerminal as _, path::Path};

use diagnostics::{Diagnostic, Narration};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::{errors, failure::Failure, render::Screen};

/// Maximum size of a prompt and of a schema file.
const LIMIT_BYTES: usize = 1024 * 1024;

/// Returns the prompt argument. If it is `-` or absent, reads the prompt from standard input
/// and removes one final line break unless `raw` is set. On a terminal, the prompt ends with
/// Ctrl+D.
pub(crate) async fn read(
    argument: Option<String>,
    raw: bool,
    screen: &mut Screen,
) -> Result<String, Failure> {
    let terminal = std::io::stdin().is_terminal();
    match argument {
        Some(text) if text != "-" => validate(text.into_bytes(), true),
        None if terminal => Err(errors::no_prompt()),
        _ => {
            if terminal {
                let message = "type the prompt, then press Ctrl+D on an empty line";
                screen
                    .narrate(&Narration::info("keeper", "prompt", message))
                    .await?;
            }
            let mut bytes = Vec::new();
            let read = tokio::io::stdin()
                .take(LIMIT_BYTES as u64 + 1)
                .read_to_end(&mut bytes)
                .await;
            match read {
                Ok(_) => validate(bytes, raw),
                Err(error) => Err(errors::stdin_unreadable(&error)),
            }
        }
    }
    .map_err(Failure::Usage)
}

/// Reads a JSON schema from a file.
pub(crate) async fn schema(path: &Path) -> Result<Value, Failure> {
    let unusable = |reason: String| Failure::Usage(errors::invalid_schema_file(path, &reason));
    let file = tokio::fs::File::open(path).await;
    let mut bytes = Vec::new();
    file.map_err(|e| unusable(e.to_string()))?
        .take(LIMIT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| unusable(e.to_string()))?;
    if bytes.len() > LIMIT_BYTES {
        return Err(unusable(format!(
            "the file is longer than {LIMIT_BYTES} bytes"
        )));
    }
    serde_json::from_slice(&bytes).map_err(|e| unusable(format!("the file is not JSON: {e}")))
}

/// Checks a prompt, and removes a final line break unless `keep_line_break` is set: piped
/// text usually ends with one that is not part of the prompt.
fn validate(bytes: Vec<u8>, keep_line_break: bool) -> Result<String, Diagnostic> {
    if bytes.len() > LIMIT_BYTES {
        return Err(errors::prompt_too_long(LIMIT_BYTES));
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|e| errors::prompt_not_utf8(e.utf8_error().valid_up_to()))?;
    if !keep_line_break && text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(errors::empty_prompt());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_one_line_break_from_piped_text() {
        assert_eq!(validate(b"a\n\n".to_vec(), false), Ok("a\n".into()));
        assert_eq!(validate(b"a\r\n".to_vec(), false), Ok("a".into()));
        assert_eq!(validate(b"a\n".to_vec(), true), Ok("a\n".into()));
    }

    #[test]
    fn rejects_empty_long_and_non_utf8_prompts() {
        let longest = vec![b'a'; LIMIT_BYTES];
        assert!(validate(longest.clone(), true).is_ok());
        for (bytes, error) in [
            (b"\n".to_vec(), errors::empty_prompt()),
            (b"ab\xff".to_vec(), errors::prompt_not_utf8(2)),
            (
                [longest, vec![b'a']].concat(),
                errors::prompt_too_long(1_048_576),
            ),
        ] {
            assert_eq!(validate(bytes, false), Err(error));
        }
    }
}
