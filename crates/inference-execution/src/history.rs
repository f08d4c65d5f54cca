//! Conversations that exceed the context: their oldest turns are dropped.

use diagnostics::Diagnostic;
use text_codec::{Chat, Codec};
use worker_contract::{Message, Role};

use crate::errors;

/// Factor by which a text must exceed the context length to be refused by its bytes alone. The
/// margin is for chat templates that drop parts of the input.
pub(crate) const FAR_TOO_LONG: usize = 4;

/// Tokenizes a conversation without as many of its oldest turns as necessary to leave room for
/// output. A turn begins with a message of the user. System messages and the last turn are kept.
///
/// Errors: as those of the chat template; `CONTEXT_LENGTH_EXCEEDED` if the last turn alone is
/// far too long. A last turn that is a little too long is returned.
pub(crate) fn encode_recent(
    messages: &[Message],
    chat: Chat<'_>,
    codec: &Codec,
    context_length: u32,
    notes: &mut Vec<String>,
) -> Result<Vec<u32>, Diagnostic> {
    if messages.is_empty() {
        return Err(errors::no_messages());
    }
    let starts = turn_starts(messages);
    let last = starts.len() - 1;
    let encode = |start: usize| {
        let kept = without_turns_before(messages, start);
        let mut notes = Vec::new();
        let chat = Chat {
            messages: &kept,
            ..chat
        };
        let tokens = codec.encode_conversation(&chat, &mut notes)?;
        Ok::<_, Diagnostic>((tokens, notes, messages.len() - kept.len()))
    };
    // The fewer turns, the fewer tokens: searches for the first start that fits, or the last.
    let (mut low, mut high) = (0, last);
    let mut best = None;
    while low < high {
        let middle = if best.is_none() && low == 0 {
            // Most conversations fit as they are.
            0
        } else {
            low + (high - low) / 2
        };
        let start = starts[middle];
        if least_tokens(messages, start, codec) / FAR_TOO_LONG > context_length as usize {
            low = middle + 1;
            continue;
        }
        let encoded = encode(start)?;
        if encoded.0.len() < context_length as usize {
            high = middle;
            best = Some(encoded);
        } else {
            low = middle + 1;
        }
    }
    let (tokens, own_notes, dropped) = if let Some(best) = best {
        best
    } else {
        let least = least_tokens(messages, starts[last], codec);
        if least / FAR_TOO_LONG > context_length as usize {
            return Err(errors::prompt_far_too_long(least, context_length));
        }
        encode(starts[last])?
    };
    notes.extend(own_notes);
    if dropped > 0 {
        notes.push(dropped_note(dropped, messages.len(), context_length));
    }
    Ok(tokens)
}

/// Says that the oldest messages were dropped, `dropped` of `all`.
pub fn dropped_note(dropped: usize, all: usize, context_length: u32) -> String {
    format!(
        "the oldest {dropped} of {all} messages were dropped because the conversation exceeds \
         the context of {context_length} tokens"
    )
}

/// Returns the indices at which the conversation may begin: 0, and each message of the user.
pub fn turn_starts(messages: &[Message]) -> Vec<usize> {
    let users = messages
        .iter()
        .enumerate()
        .filter(|(_, message)| message.role == Role::User)
        .map(|(index, _)| index);
    let mut starts: Vec<usize> = std::iter::once(0).chain(users).collect();
    // Only system messages precede the first turn: dropping what is before it drops nothing.
    starts.dedup_by_key(|start| without_turns_before(messages, *start).len());
    starts
}

/// Returns the messages from `start` on, and the system messages before them.
pub fn without_turns_before(messages: &[Message], start: usize) -> Vec<Message> {
    let is_kept = |index: usize, message: &Message| index >= start || message.role == Role::System;
    messages
        .iter()
        .enumerate()
        .filter(|(index, message)| is_kept(*index, message))
        .map(|(_, message)| message.clone())
        .collect()
}

/// Returns a lower bound for the tokens of the messages that are kept, from their bytes.
fn least_tokens(messages: &[Message], start: usize, codec: &Codec) -> usize {
    let bytes: usize = messages
        .iter()
        .enumerate()
        .filter(|(index, message)| *index >= start || message.role == Role::System)
        .map(|(_, message)| message.content.len())
        .sum();
    bytes / codec.longest_token_bytes().max(1)
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use serde_json::Map;

    use super::*;

    fn recent(
        messages: &[(Role, &str)],
        context_length: u32,
    ) -> Result<(String, Vec<String>), Diagnostic> {
        let codec = Codec::byte_level();
        let messages: Vec<Message> = messages
            .iter()
            .map(|(role, text)| Message::new(*role, *text))
            .collect();
        let variables = Map::new();
        let chat = Chat {
            messages: &[],
            tools: &[],
            variables: &variables,
        };
        let mut notes = Vec::new();
        let tokens = encode_recent(&messages, chat, &codec, context_length, &mut notes)?;
        Ok((codec.decode(&tokens), notes))
    }

    const LONG: [(Role, &str); 6] = [
        (Role::System, "SYSTEM"),
        (Role::User, "FIRST"),
        (Role::Assistant, "ANSWER"),
        (Role::User, "SECOND"),
        (Role::Assistant, "REPLY"),
        (Role::User, "THIRD"),
    ];

    #[test]
    fn drops_as_few_of_the_oldest_turns_as_necessary() {
        let (all, notes) = recent(&LONG, 4096).unwrap();
        assert!(all.contains("FIRST") && notes.is_empty());
        let mut fewest = usize::MAX;
        for context in (all.len() / 2..=all.len() + 1).rev() {
            let (text, notes) = recent(&LONG, context as u32).unwrap();
            assert!(text.contains("SYSTEM") && text.contains("THIRD"));
            let kept = LONG.iter().filter(|(_, t)| text.contains(t)).count();
            assert!([6, 4, 2].contains(&kept), "whole turns: {text}");
            assert!(kept <= fewest);
            fewest = kept;
            assert_eq!(notes.is_empty(), kept == 6, "{notes:?}");
            if kept == 4 {
                assert!(text.len() < context);
                assert_eq!(
                    notes[0],
                    format!(
                        "the oldest 2 of 6 messages were dropped because the conversation \
                         exceeds the context of {context} tokens"
                    )
                );
            }
        }
        assert_eq!(fewest, 2);
    }

    #[test]
    fn a_last_turn_that_does_not_fit_is_kept_or_refused() {
        let (text, _) = recent(&[(Role::User, "SHORT"), (Role::User, "LONGER")], 4).unwrap();
        assert!(text.contains("LONGER") && !text.contains("SHORT"));
        let long = "x".repeat(200);
        let error = recent(&[(Role::User, &long)], 4).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
    }
}
