//! The mock engine's other output: it repeats the last message, so that the client determines the
//! text. It parses prompts in the format of the byte-level codec's chat template.

use super::words::END;

pub(super) const ASSISTANT: &[u8] = b"\nassistant: ";
/// Prefixes of the messages that are repeated.
const ROLES: [&[u8]; 2] = [b"user: ", b"tool: "];

/// Returns the token that follows `tokens`. The output is empty if the prompt has no messages.
pub(super) fn next(tokens: &[u32]) -> u32 {
    let bytes = bytes(tokens);
    for at in starts(&bytes) {
        // The output starts here if the message before it starts with the text after it.
        let so_far = &bytes[at + ASSISTANT.len()..];
        if let Some(rest) = last_message(&bytes[..at]).strip_prefix(so_far) {
            return rest.first().map_or(END, |byte| u32::from(*byte));
        }
    }
    END
}

pub(super) fn bytes(tokens: &[u32]) -> Vec<u8> {
    let bytes = tokens.iter().map(|token| u8::try_from(*token));
    bytes.map(|byte| byte.unwrap_or(0)).collect()
}

/// Returns the positions at which an output may start, before the name of its role.
pub(super) fn starts(bytes: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(ASSISTANT.len()).enumerate();
    windows
        .filter(|(_, window)| *window == ASSISTANT)
        .map(|(at, _)| at)
        .collect()
}

/// Returns the content of the last message, or nothing if there is none.
pub(super) fn last_message(prompt: &[u8]) -> &[u8] {
    let starts = ROLES.iter().filter_map(|role| {
        let after_line = rfind(prompt, &[b"\n", *role].concat()).map(|at| at + 1 + role.len());
        after_line.or_else(|| prompt.starts_with(role).then_some(role.len()))
    });
    starts.max().map_or(&[], |start| &prompt[start..])
}

fn rfind(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).rposition(|window| window == part)
}

#[cfg(test)]
mod tests {
    use text_codec::Codec;
    use worker_contract::{Message, Role};

    use super::*;

    fn generate(messages: &[Message]) -> String {
        let mut tokens = Codec::byte_level().encode_chat(messages, &[]).unwrap();
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
    fn repeats_the_last_message() {
        let user = |text: &str| Message::new(Role::User, text);
        assert_eq!(generate(&[user("é\n\nb")]), "é\n\nb");
        assert_eq!(generate(&[user("")]), "");
        let conversation = [
            user("first"),
            Message::new(Role::Assistant, "first"),
            user("a\nassistant: a"),
        ];
        assert_eq!(generate(&conversation), "a\nassistant: a");
        assert_eq!(
            generate(&[user("call"), Message::new(Role::Tool, "21 degrees")]),
            "21 degrees"
        );
        assert_eq!(next(&[65, 66]), END);
    }
}
