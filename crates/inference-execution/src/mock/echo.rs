//! The mock engine's other way to answer: it repeats the last message, so that whoever asks
//! decides what is said. It reads the prompt that the byte-level codec's chat template writes.

use super::words::END;

const ASSISTANT: &[u8] = b"\nassistant: ";
/// Begin the messages that are repeated.
const ROLES: [&[u8]; 2] = [b"user: ", b"tool: "];

/// The token that follows `tokens`; a prompt without messages is answered by silence.
pub(super) fn next(tokens: &[u32]) -> u32 {
    let bytes: Vec<u8> = tokens
        .iter()
        .map(|token| u8::try_from(*token).unwrap_or(0))
        .collect();
    let starts = bytes
        .windows(ASSISTANT.len())
        .enumerate()
        .filter(|(_, window)| *window == ASSISTANT)
        .map(|(at, _)| at);
    for at in starts {
        // Where the answer begins, what was said so far is how it begins.
        let said = &bytes[at + ASSISTANT.len()..];
        if let Some(rest) = last_message(&bytes[..at]).strip_prefix(said) {
            return rest.first().map_or(END, |byte| u32::from(*byte));
        }
    }
    END
}

/// What the last of the messages says; nothing when there is none.
fn last_message(prompt: &[u8]) -> &[u8] {
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

    fn say(messages: &[Message]) -> String {
        let mut tokens = Codec::byte_level().encode_chat(messages, &[]).unwrap();
        let mut said = Vec::new();
        loop {
            match next(&tokens) {
                END => return String::from_utf8(said).unwrap(),
                token => {
                    tokens.push(token);
                    said.push(token as u8);
                }
            }
        }
    }

    #[test]
    fn the_last_message_is_repeated() {
        let user = |text: &str| Message::new(Role::User, text);
        assert_eq!(say(&[user("é\n\nb")]), "é\n\nb");
        assert_eq!(say(&[user("")]), "");
        let conversation = [
            user("first"),
            Message::new(Role::Assistant, "first"),
            user("a\nassistant: a"),
        ];
        assert_eq!(say(&conversation), "a\nassistant: a");
        assert_eq!(
            say(&[user("call"), Message::new(Role::Tool, "21 degrees")]),
            "21 degrees"
        );
        assert_eq!(next(&[65, 66]), END);
    }
}
