//! What the mock engine says: a sign, then words chosen by a hash of the prompt.

/// The byte-level codec's tokens: 256 bytes and the end token.
pub(super) const VOCAB_SIZE: u32 = 257;
pub(super) const END: u32 = 256;
/// Begins every answer. By it an answer in progress is told from its prompt, so that the
/// next token is a function of the tokens alone.
const SIGN: u32 = b'~' as u32;
/// Comes first and has four bytes, so that every answer is in need of whole characters.
const OPENER: &str = " 🐝";
const WORDS: [&str; 16] = [
    "amber", "blüte", "copper", "dune", "ember", "fjord", "granite", "harbour", "île", "juniper",
    "kelp", "lagoon", "maple", "nectar", "opal", "piñon",
];

/// The token that follows `tokens`.
pub(super) fn next(tokens: &[u32], length: usize) -> u32 {
    for (start, _) in tokens.iter().enumerate().filter(|(_, t)| **t == SIGN) {
        let (prompt, said) = tokens.split_at(start);
        if said.len() <= length {
            let answer = answer(prompt, said.len() + 1, length);
            if answer.starts_with(said) {
                return answer[said.len()];
            }
        }
    }
    answer(tokens, 1, length)[0]
}

/// The first `count` tokens of the answer to `prompt`, whose end token is at `length`.
fn answer(prompt: &[u32], count: usize, length: usize) -> Vec<u32> {
    // FNV-1a, 64 bit: <http://www.isthe.com/chongo/tech/comp/fnv/>.
    let mut hash = prompt
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, token| {
            (hash ^ u64::from(*token)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut text = format!("~{OPENER}");
    while text.len() < count.min(length) {
        hash = hash.wrapping_mul(0x0100_0000_01b3).wrapping_add(1);
        text.push(' ');
        text.push_str(WORDS[(hash >> 60) as usize]);
    }
    if text.len() > length {
        // The last character must be a whole one.
        text.truncate(text.floor_char_boundary(length));
        text.extend(std::iter::repeat_n('.', length - text.len()));
    }
    let mut tokens: Vec<u32> = text.bytes().map(u32::from).collect();
    tokens.resize(count.max(tokens.len()), END);
    tokens.truncate(count);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(prompt: &str, length: usize) -> String {
        let mut tokens: Vec<u32> = prompt.bytes().map(u32::from).collect();
        let start = tokens.len();
        loop {
            match next(&tokens, length) {
                END => break,
                token => tokens.push(token),
            }
        }
        let bytes = tokens[start..].iter().map(|t| *t as u8).collect();
        String::from_utf8(bytes).expect("whole characters")
    }

    #[test]
    fn an_answer_has_its_length_and_depends_on_the_prompt() {
        for length in 1..60 {
            let text = say("hello", length);
            assert_eq!(text.len(), length);
            assert!(text.is_ascii() == (length < 6), "{text}");
        }
        assert_eq!(say("hello", 1), "~");
        assert_ne!(say("hello", 40), say("hellp", 40));
        assert!(
            say("a ~ in the prompt~", 40).starts_with(' '),
            "taken as begun"
        );
        assert!(say("~x", 40).starts_with("~ "));
    }
}
