//! Answers of a model that says anything it may.

use answer_constraint::{Begun, Compiler, Constraint, Vocabulary, thread_builder};
use diagnostics::Diagnostic;

pub const END: u32 = 256;
/// Tokens of more than one byte, such as real vocabularies have, with what is hard about
/// them: halves of characters, quotes with what follows them, text that is no UTF-8.
pub const PIECES: [&[u8]; 12] = [
    b"\"a\"",
    b"\":",
    b"\", \"",
    b"true",
    b"null",
    b" -",
    b"12",
    b"}}",
    b"]}",
    b"\xc3",
    b"\xa9\"",
    b"\xff\xfe",
];

/// Every byte, the end, and the pieces.
pub fn vocabulary() -> Vocabulary {
    let mut tokens: Vec<Vec<u8>> = (0..=255_u8).map(|b| vec![b]).collect();
    // The end token's bytes must never count as text.
    tokens.push(b"1".to_vec());
    tokens.extend(PIECES.iter().map(|piece| piece.to_vec()));
    // A token without text, and one that is longer than any trie takes.
    tokens.push(Vec::new());
    tokens.push(vec![b'x'; 5000]);
    Vocabulary {
        tokens,
        end_tokens: vec![END],
    }
}

pub fn compiler() -> Compiler {
    Compiler::new(vocabulary)
}

pub fn begin(constraint: &Constraint) -> Result<Begun, Diagnostic> {
    compiler().begin(constraint, &[])
}

/// An answer, and the tokens that it was made of, the end token last if it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub tokens: Vec<u32>,
    pub text: Vec<u8>,
    pub ended: bool,
}

/// Takes any of the allowed tokens, by `seed`, until the end or `most` tokens.
pub fn say(begun: Begun, seed: u64, most: usize) -> Result<Answer, Diagnostic> {
    let talk = thread_builder("talk").spawn(move || {
        let Begun {
            mut matcher,
            mut allowed,
        } = begun;
        let tokens = vocabulary().tokens;
        let (mut said, mut text, mut state) = (Vec::new(), Vec::new(), seed | 1);
        while said.len() < most {
            assert!(!allowed.is_empty());
            let ids: Vec<u32> = allowed.ids().collect();
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            // The end is taken where it may be, every other time.
            let id = if allowed.contains(END) && state >> 63 == 1 {
                END
            } else {
                ids[(state >> 33) as usize % ids.len()]
            };
            said.push(id);
            if id == END {
                break;
            }
            text.extend_from_slice(&tokens[id as usize]);
            matcher.accept(id)?;
            allowed = matcher.allowed()?;
        }
        let ended = said.last() == Some(&END);
        Ok(Answer {
            tokens: said,
            text,
            ended,
        })
    });
    talk.unwrap().join().unwrap()
}
