use std::{io::IsTerminal as _, path::Path, pin::pin, time::Duration};

use diagnostics::{Diagnostic, Narration};
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, time::timeout};

use crate::{errors, failure::Failure, render::Screen};

/// Maximum size of a prompt and of a schema file.
const LIMIT_BYTES: usize = 1024 * 1024;
const BYTE_ORDER_MARK: char = '\u{feff}';

/// A pipe that has not ended after this time is explained to the user.
const PATIENCE: Duration = Duration::from_secs(2);

/// Returns the words of the prompt, joined, and the text that is piped in after an empty line.
/// `-` stands for the text alone. One final line break of the text is removed unless `raw` is
/// set. On a terminal, only `-` reads the text, which ends with Ctrl+D.
pub(crate) async fn read(
    words: &[String],
    raw: bool,
    screen: &mut Screen,
) -> Result<String, Failure> {
    let terminal = std::io::stdin().is_terminal();
    let typed = match words {
        [] if terminal => return Err(Failure::Usage(errors::no_prompt())),
        [dash] if dash == "-" => String::new(),
        words => words.join(" "),
    };
    let piped = if terminal && !typed.is_empty() {
        Vec::new()
    } else {
        standard_input(terminal, !typed.is_empty(), screen).await?
    };
    combine(typed, piped, raw).map_err(Failure::Usage)
}

/// Reads standard input to its end. `optional` says that there is a prompt without it.
async fn standard_input(
    terminal: bool,
    optional: bool,
    screen: &mut Screen,
) -> Result<Vec<u8>, Failure> {
    if terminal {
        let message = "type the prompt, then press Ctrl+D on an empty line";
        screen
            .narrate(&Narration::info("keeper", "prompt", message))
            .await?;
    }
    let mut reading = pin!(async {
        let mut bytes = Vec::new();
        let mut limited = tokio::io::stdin().take(LIMIT_BYTES as u64 + 1);
        limited.read_to_end(&mut bytes).await.map(|_| bytes)
    });
    let read = match timeout(PATIENCE, reading.as_mut()).await {
        Err(_) if optional => {
            let message = "waiting for the end of standard input, which is appended to the \
                           prompt; redirect it with `< /dev/null` to leave it out";
            screen
                .narrate(&Narration::info("keeper", "prompt", message))
                .await?;
            reading.await
        }
        Err(_) => reading.await,
        Ok(read) => read,
    };
    read.map_err(|error| Failure::Usage(errors::stdin_unreadable(&error)))
}

/// Returns the prompt of what was typed and what was piped in. Piped text usually ends with a
/// line break that is not part of it, and in some editors' files it begins with a byte order mark.
fn combine(typed: String, piped: Vec<u8>, raw: bool) -> Result<String, Diagnostic> {
    if typed.len() + piped.len() > LIMIT_BYTES {
        return Err(errors::prompt_too_long(LIMIT_BYTES));
    }
    let piped = String::from_utf8(piped)
        .map_err(|e| errors::prompt_not_utf8(e.utf8_error().valid_up_to()))?;
    let piped = piped.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&piped);
    let trimmed = piped.strip_suffix('\n').map(without_carriage_return);
    let piped = trimmed
        .filter(|text| !raw || text.is_empty())
        .unwrap_or(piped);
    match (typed.is_empty(), piped.is_empty()) {
        (true, true) => Err(errors::empty_prompt()),
        (true, false) => Ok(piped.to_owned()),
        (false, true) => Ok(typed),
        (false, false) => Ok(format!("{typed}\n\n{piped}")),
    }
}

fn without_carriage_return(line: &str) -> &str {
    line.strip_suffix('\r').unwrap_or(line)
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
    let json = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    serde_json::from_slice(json).map_err(|e| unusable(format!("the file is not JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(typed: &str, piped: &str, raw: bool) -> Result<String, Diagnostic> {
        combine(typed.to_owned(), piped.as_bytes().to_vec(), raw)
    }

    #[test]
    fn removes_one_line_break_from_piped_text() {
        assert_eq!(prompt("", "a\n\n", false), Ok("a\n".into()));
        assert_eq!(prompt("", "a\r\n", false), Ok("a".into()));
        assert_eq!(prompt("", "a\n", true), Ok("a\n".into()));
    }

    #[test]
    fn piped_text_follows_the_prompt_after_an_empty_line() {
        assert_eq!(
            prompt("Sum up:", "a\nb\n", false),
            Ok("Sum up:\n\na\nb".into())
        );
        for nothing in ["", "\n", "\r\n", "\u{feff}"] {
            for raw in [false, true] {
                assert_eq!(
                    prompt("Hi\n", nothing, raw),
                    Ok("Hi\n".into()),
                    "{nothing:?}"
                );
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_prompt() {
        assert_eq!(prompt("", "\u{feff}a", false), Ok("a".into()));
        assert_eq!(prompt("Hi", "\u{feff}a", true), Ok("Hi\n\na".into()));
    }

    #[test]
    fn rejects_empty_long_and_non_utf8_prompts() {
        let longest = vec![b'a'; LIMIT_BYTES];
        assert!(combine(String::new(), longest.clone(), true).is_ok());
        let too_long = errors::prompt_too_long(1_048_576);
        assert_eq!(
            combine("a".into(), longest.clone(), true),
            Err(too_long.clone())
        );
        for (bytes, error) in [
            (b"\n".to_vec(), errors::empty_prompt()),
            (b"ab\xff".to_vec(), errors::prompt_not_utf8(2)),
            ([longest, vec![b'a']].concat(), too_long),
        ] {
            assert_eq!(combine(String::new(), bytes, false), Err(error));
        }
    }
}
