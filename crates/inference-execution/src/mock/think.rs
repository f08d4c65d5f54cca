//! An output of the mock engine with reasoning: it mentions the last message in its reasoning and
//! then repeats it.

use super::{
    echo::{self, ASSISTANT},
    words::END,
};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Returns the token that follows `tokens`. The output is empty if the prompt has no messages.
pub(super) fn next(tokens: &[u32]) -> u32 {
    let bytes = echo::bytes(tokens);
    let starts = echo::starts(&bytes);
    let next = starts.into_iter().find_map(|at| {
        let so_far = &bytes[at + ASSISTANT.len()..];
        byte_after(so_far, echo::last_message(&bytes[..at]))
    });
    next.map_or(END, u32::from)
}

/// Returns the byte after `so_far`, which begins with the opening mark if the prompt has it;
/// `None` at the end of the output, and if `so_far` is not the beginning of an output.
fn byte_after(so_far: &[u8], message: &[u8]) -> Option<u8> {
    if let Some(answer) = after_reasoning(so_far) {
        // A constrained answer begins without line breaks.
        let text = answer.trim_ascii_start();
        if text.is_empty() && answer.len() < 2 {
            return Some(b'\n');
        }
        return message.strip_prefix(text)?.first().copied();
    }
    let reasoning = [
        OPEN.as_bytes(),
        b"\nThe message is: ",
        message,
        b"\n",
        CLOSE.as_bytes(),
    ];
    if let Some(rest) = reasoning.concat().strip_prefix(so_far) {
        return rest.first().copied();
    }
    // A mark or a constrained answer that differs.
    message.strip_prefix(so_far)?.first().copied()
}

/// Returns the text after the closing mark.
fn after_reasoning(so_far: &[u8]) -> Option<&[u8]> {
    if !so_far.starts_with(OPEN.as_bytes()) {
        return None;
    }
    let close = CLOSE.as_bytes();
    let at = so_far.windows(close.len()).position(|w| w == close)?;
    Some(&so_far[at + close.len()..])
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use text_codec::{Chat, Codec};
    use worker_contract::{Message, Role};

    use super::*;

    fn generate(opened: bool, variables: serde_json::Value) -> String {
        let codec = Codec::byte_level_with_reasoning(opened);
        let variables: Map<_, _> = serde_json::from_value(variables).unwrap();
        let chat = Chat {
            messages: &[
                Message::new(Role::User, "x"),
                Message::new(Role::Assistant, "x"),
                Message::new(Role::User, "Hé"),
            ],
            tools: &[],
            variables: &variables,
        };
        let mut tokens = codec.encode_conversation(&chat, &mut Vec::new()).unwrap();
        let mut output = Vec::new();
        loop {
            match next(&tokens) {
                END => return String::from_utf8(output).unwrap(),
                token => {
                    tokens.push(token);
                    output.push(token as u8);
                }
            }
        }
    }

    #[test]
    fn reasoning_precedes_the_answer() {
        const REST: &str = "The message is: Hé\n</think>\n\nHé";
        assert_eq!(generate(false, json!({})), format!("<think>\n{REST}"));
        assert_eq!(generate(true, json!({})), REST);
        for opened in [false, true] {
            assert_eq!(generate(opened, json!({"enable_thinking": false})), "Hé");
        }
    }

    #[test]
    fn reasoning_can_be_ended_early() {
        assert_eq!(byte_after(b"<think>\nThe</think>", b"Hi"), Some(b'\n'));
        assert_eq!(byte_after(b"<think>\nThe</think>\n\nH", b"Hi"), Some(b'i'));
        assert_eq!(byte_after(b"<think>\nThe</think>{", b"{}"), Some(b'}'));
        assert_eq!(byte_after(b"<think>\nThe</think>\n\nHi", b"Hi"), None);
        assert_eq!(byte_after(b"{", b"{}"), Some(b'}'));
        assert_eq!(byte_after(b"other", b"Hi"), None);
    }
}
