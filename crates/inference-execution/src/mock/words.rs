//! The mock engine's default output: a start marker, then words selected by a hash of the prompt.

/// The vocabulary of the byte-level codec: 256 bytes and the end token.
pub(super) const VOCAB_SIZE: u32 = 257;
pub(super) const END: u32 = 256;
/// First token of every output. It separates the prompt from the output, so that the next token
/// is a function of the tokens alone.
const START: u32 = b'~' as u32;
/// Follows the start marker. A character of four bytes, so that every output has a character that
/// spans several tokens.
const OPENER: &str = " 🐝";
const WORDS: [&str; 16] = [
    "amber", "blüte", "copper", "dune", "ember", "fjord", "granite", "harbour", "île", "juniper",
    "kelp", "lagoon", "maple", "nectar", "opal", "piñon",
];

/// Returns the token that follows `tokens`.
pub(super) fn next(tokens: &[u32], length: usize) -> u32 {
    for (start, _) in tokens.iter().enumerate().filter(|(_, t)| **t == START) {
        let (prompt, so_far) = tokens.split_at(start);
        if so_far.len() <= length {
            let output = output(prompt, so_far.len() + 1, length);
            if output.starts_with(so_far) {
                return output[so_far.len()];
            }
        }
    }
    output(tokens, 1, length)[0]
}

/// Returns the first `count` tokens of the output for `prompt`, whose end token is at `length`.
fn output(prompt: &[u32], count: usize, length: usize) -> Vec<u32> {
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
        // Do not end inside a character.
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

    fn generate(prompt: &str, length: usize) -> String {
        let mut tokens: Vec<u32> = prompt.bytes().map(u32::from).collect();
        let start = tokens.len();
        loop {
            match next(&tokens, length) {
                END => break,
                token => tokens.push(token),
            }
        }
        let bytes = tokens[start..].iter().map(|t| *t as u8).collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn output_has_its_length_and_depends_on_the_prompt() {
        for length in 1..60 {
            let text = generate("hello", length);
            assert_eq!(text.len(), length);
            assert!(text.is_ascii() == (length < 6), "{text}");
        }
        assert_eq!(generate("hello", 1), "~");
        assert_ne!(generate("hello", 40), generate("hellp", 40));
        assert!(
            generate("a ~ in the prompt~", 40).starts_with(' '),
            "the prompt ends with a start marker"
        );
        assert!(generate("~x", 40).starts_with("~ "));
    }
}
