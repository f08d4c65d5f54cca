//! Random sampling of constrained output.

use answer_constraint::{Compiler, Constraint, ConstraintState, Vocabulary, thread_builder};
use diagnostics::Diagnostic;

pub const END: u32 = 256;
/// Tokens of several bytes, including difficult ones: halves of characters, quotes with what
/// follows them, invalid UTF-8.
pub const TOKENS: [&[u8]; 12] = [
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

/// Every byte, the end token, `TOKENS`, a token without text, and one too long for the trie.
pub fn vocabulary() -> Vocabulary {
    let mut tokens: Vec<Vec<u8>> = (0..=255_u8).map(|b| vec![b]).collect();
    // The bytes of the end token must never count as text.
    tokens.push(b"1".to_vec());
    tokens.extend(TOKENS.iter().map(|token| token.to_vec()));
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

pub fn compile(constraint: &Constraint) -> Result<ConstraintState, Diagnostic> {
    compiler().compile(constraint, &[])
}

/// Sampled tokens, including the end token if `ended`, and their text.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    pub tokens: Vec<u32>,
    pub text: Vec<u8>,
    pub ended: bool,
}

/// Samples uniformly from the allowed tokens until the end or `max_tokens`.
pub fn sample(state: ConstraintState, seed: u64, max_tokens: usize) -> Result<Output, Diagnostic> {
    let thread = thread_builder("sampling").spawn(move || {
        let ConstraintState {
            mut matcher,
            mut allowed,
            ..
        } = state;
        let vocabulary = vocabulary().tokens;
        let (mut tokens, mut text, mut random) = (Vec::new(), Vec::new(), seed | 1);
        while tokens.len() < max_tokens {
            assert!(!allowed.is_empty());
            let ids: Vec<u32> = allowed.ids().collect();
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            // Where the output may end, it ends with probability 1/2.
            let id = if allowed.contains(END) && random >> 63 == 1 {
                END
            } else {
                ids[(random >> 33) as usize % ids.len()]
            };
            tokens.push(id);
            if id == END {
                break;
            }
            text.extend_from_slice(&vocabulary[id as usize]);
            matcher.accept(id)?;
            allowed = matcher.allowed()?;
        }
        let ended = tokens.last() == Some(&END);
        Ok(Output {
            tokens,
            text,
            ended,
        })
    });
    thread.unwrap().join().unwrap()
}
