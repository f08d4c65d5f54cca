//! Changes the form of a conversation that a chat template refuses, without losing any text.

use worker_contract::{Message, Role};

/// Ways to change a conversation, from the smallest to the largest change.
pub(crate) const REPAIRS: [Repair; 3] = [
    Repair {
        system: false,
        joined: true,
    },
    Repair {
        system: true,
        joined: false,
    },
    Repair {
        system: true,
        joined: true,
    },
];

/// What to change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repair {
    /// System messages become the start of the next user message.
    pub(crate) system: bool,
    /// Consecutive messages of the same role become one.
    pub(crate) joined: bool,
}

impl Repair {
    /// Returns the changed conversation with a note for each change; `None` if it has nothing to
    /// change.
    pub(crate) fn apply(self, messages: &[Message]) -> Option<(Vec<Message>, Vec<String>)> {
        let mut changed = messages.to_vec();
        let mut notes = Vec::new();
        if self.system {
            changed = without_system(changed);
            if changed == messages {
                return None;
            }
            notes.push(
                "the chat template takes no system message; it was put before the next user message"
                    .to_owned(),
            );
        }
        if self.joined {
            let count = changed.len();
            changed = joined(changed);
            if changed.len() == count {
                return None;
            }
            notes.push(
                "the chat template wants alternating roles; consecutive messages of one role were \
                 joined"
                    .to_owned(),
            );
        }
        Some((changed, notes))
    }
}

/// Joins two texts by a blank line.
fn join(first: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second.to_owned(),
        (_, true) => first.to_owned(),
        _ => format!("{first}\n\n{second}"),
    }
}

fn without_system(messages: Vec<Message>) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    let mut waiting = String::new();
    for mut message in messages {
        match message.role {
            Role::System => {
                waiting = join(&waiting, &message.content);
                continue;
            }
            Role::User => message.content = join(&std::mem::take(&mut waiting), &message.content),
            Role::Assistant | Role::Tool => {}
        }
        out.push(message);
    }
    if !waiting.is_empty() {
        out.push(Message::new(Role::User, waiting));
    }
    out
}

fn joined(messages: Vec<Message>) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::with_capacity(messages.len());
    for message in messages {
        if let Some(last) = out.last_mut()
            && last.role == message.role
            && message.role != Role::Tool
            && last.tool_calls.is_empty()
            && last.reasoning.is_none()
            && message.reasoning.is_none()
        {
            last.content = join(&last.content, &message.content);
            last.tool_calls = message.tool_calls;
        } else {
            out.push(message);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(repair: Repair, messages: &[(Role, &str)]) -> Vec<(Role, String)> {
        let messages: Vec<Message> = messages
            .iter()
            .map(|(role, text)| Message::new(*role, *text))
            .collect();
        let (changed, _) = repair.apply(&messages).unwrap();
        changed.into_iter().map(|m| (m.role, m.content)).collect()
    }

    #[test]
    fn no_text_is_lost() {
        let (system, user, model) = (Role::System, Role::User, Role::Assistant);
        assert_eq!(
            texts(
                REPAIRS[1],
                &[
                    (system, "a"),
                    (system, "b"),
                    (user, "c"),
                    (model, "d"),
                    (system, "e")
                ]
            ),
            [
                (user, "a\n\nb\n\nc".to_owned()),
                (model, "d".to_owned()),
                (user, "e".to_owned())
            ]
        );
        assert_eq!(
            texts(
                REPAIRS[0],
                &[
                    (user, "a"),
                    (user, ""),
                    (user, "b"),
                    (model, "c"),
                    (model, "d")
                ]
            ),
            [(user, "a\n\nb".to_owned()), (model, "c\n\nd".to_owned())]
        );
        let alternating = [Message::new(user, "a"), Message::new(model, "b")];
        assert!(
            REPAIRS
                .iter()
                .all(|repair| repair.apply(&alternating).is_none())
        );
    }
}
