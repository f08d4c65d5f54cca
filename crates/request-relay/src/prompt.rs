//! The beginnings of prompts, by which the scheduler finds workers that have them in their caches.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use scheduler::PromptPrefixes;
use worker_contract::{InferInput, Message};

/// A prefix ends after each chunk of this many bytes, or tokens.
const CHUNK_BYTES: usize = 256;
const CHUNK_TOKENS: usize = 64;
/// Shorter prefixes are not worth remembering.
const SHORTEST_BYTES: usize = 128;
/// Number of prefixes of a prompt; what follows them is not compared.
const LONGEST: usize = 128;

/// Returns the beginnings of a prompt. Messages with images end them.
pub(crate) fn prefixes(input: &InferInput) -> PromptPrefixes {
    let mut prefixes = Prefixes::default();
    match input {
        InferInput::Prompt(text) => prefixes.text(text),
        InferInput::Messages(messages) => {
            for message in messages.iter().take_while(|m| m.images.is_empty()) {
                prefixes.message(message);
            }
        }
        InferInput::Tokens(tokens) => {
            for chunk in tokens.chunks_exact(CHUNK_TOKENS).take(LONGEST) {
                chunk.hash(&mut prefixes.hasher);
                prefixes.end();
            }
        }
    }
    PromptPrefixes::new(prefixes.hashes, size(input))
}

/// Size of a prompt in bytes of text. A token counts as four.
fn size(input: &InferInput) -> u64 {
    let bytes = match input {
        InferInput::Prompt(text) => text.len(),
        InferInput::Messages(messages) => messages.iter().map(|m| m.content.len()).sum(),
        InferInput::Tokens(tokens) => tokens.len().saturating_mul(4),
    };
    bytes as u64
}

#[derive(Default)]
struct Prefixes {
    hasher: DefaultHasher,
    bytes: usize,
    hashes: Vec<u64>,
}

impl Prefixes {
    fn message(&mut self, message: &Message) {
        if self.hashes.len() >= LONGEST {
            return;
        }
        (message.role as u8).hash(&mut self.hasher);
        self.text(&message.content);
        for call in &message.tool_calls {
            self.text(&call.name);
            self.text(&call.arguments);
        }
        if self.bytes >= SHORTEST_BYTES {
            self.end();
        }
    }

    fn text(&mut self, text: &str) {
        for chunk in text.as_bytes().chunks(CHUNK_BYTES) {
            if self.hashes.len() >= LONGEST {
                return;
            }
            self.hasher.write(chunk);
            self.bytes += chunk.len();
            if chunk.len() == CHUNK_BYTES {
                self.end();
            }
        }
    }

    fn end(&mut self) {
        if self.hashes.len() < LONGEST {
            self.hashes.push(self.hasher.finish());
        }
    }
}

#[cfg(test)]
mod tests {
    use worker_contract::Role;

    use super::*;

    /// Number of prefixes that two prompts share, and of all of the first.
    fn shared(a: &InferInput, b: &InferInput) -> (usize, usize) {
        let (a, b) = (prefixes(a), prefixes(b));
        let (a, b) = (a.hashes(), b.hashes());
        (a.iter().zip(b).take_while(|(a, b)| a == b).count(), a.len())
    }

    #[test]
    fn a_conversation_begins_with_its_earlier_turns() {
        let (system, question) = ("You are terse. ".repeat(20), "And then? ".repeat(10));
        let mut messages = vec![
            Message::new(Role::System, system),
            Message::new(Role::User, question.clone()),
        ];
        let first = InferInput::Messages(messages.clone());
        messages.push(Message::new(Role::Assistant, "Nothing."));
        messages.push(Message::new(Role::User, question));
        let second = InferInput::Messages(messages.clone());
        assert_eq!(shared(&first, &second), (3, 3));
        messages[0].content.insert(0, '!');
        assert_eq!(shared(&first, &InferInput::Messages(messages)), (0, 3));
    }

    #[test]
    fn prompts_are_compared_in_chunks() {
        let prompt = |text: String| InferInput::Prompt(text);
        let text = "x".repeat(1000);
        assert_eq!(
            shared(&prompt(text.clone()), &prompt(text.clone() + "y")),
            (3, 3)
        );
        assert_eq!(
            shared(&prompt(text.clone()), &prompt("x".repeat(600) + "y")),
            (2, 3)
        );
        assert_eq!(
            shared(&prompt("short".into()), &prompt("short".into())),
            (0, 0)
        );
        let tokens = |n: u32| InferInput::Tokens((0..n).collect());
        assert_eq!(shared(&tokens(200), &tokens(129)), (2, 3));
        assert_eq!(
            shared(&prompt("x".repeat(1 << 20)), &prompt(text)).1,
            LONGEST
        );
    }
}
