use serde_json::{Map, Value, json};

/// Special tokens, at the start of the vocabulary.
pub(crate) const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Id of the token that pads and ends a text.
pub(crate) const PADDING: u32 = 0;
/// Id of the token that starts a turn.
pub(crate) const BEGIN: u32 = 1;
/// Id of the token that ends a turn.
pub(crate) const END: u32 = 2;
/// Chat template: ChatML.
pub(crate) const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const LETTERS: &str = "etaoinshrdlucmfwypvbgkjqxz";

/// Byte-level BPE vocabulary of any size: three special tokens, the 256 bytes, then parts of words,
/// each merged from two shorter tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vocabulary {
    /// Tokens by id, in GPT-2's alphabet.
    pub(crate) tokens: Vec<String>,
    /// Merges by priority.
    pub(crate) merges: Vec<(String, String)>,
}

impl Vocabulary {
    /// Creates a vocabulary of `size` tokens, but at least 259, and at most 493,765, which are all
    /// words of up to four characters.
    pub(crate) fn new(size: usize) -> Self {
        let mut vocabulary = Self {
            tokens: SPECIAL.map(String::from).to_vec(),
            merges: Vec::new(),
        };
        let bytes = (0..=u8::MAX).map(|byte| gpt2_char(byte).to_string());
        vocabulary.tokens.extend(bytes);
        let letters: Vec<String> = LETTERS.chars().map(String::from).collect();
        let space = vec![gpt2_char(b' ').to_string()];
        let mut words = letters.clone();
        let mut spaced = Vec::new();
        for _ in 0..3 {
            let with_space = match spaced.as_slice() {
                [] => vocabulary.join(&space, &letters, size),
                spaced => vocabulary.join(spaced, &letters, size),
            };
            words = vocabulary.join(&words, &letters, size);
            spaced = with_space;
        }
        vocabulary
    }

    /// Appends the concatenations of every word in `left` and every letter in `right`, up to
    /// `size` tokens.
    fn join(&mut self, left: &[String], right: &[String], size: usize) -> Vec<String> {
        let mut words = Vec::new();
        let pairs = left.iter().flat_map(|l| right.iter().map(move |r| (l, r)));
        for (left, right) in pairs.take(size.saturating_sub(self.tokens.len())) {
            self.merges.push((left.clone(), right.clone()));
            words.push(format!("{left}{right}"));
        }
        self.tokens.extend(words.iter().cloned());
        words
    }

    pub(crate) fn tokenizer_json(&self) -> Value {
        let added: Vec<Value> = (0..)
            .zip(SPECIAL)
            .map(|(id, content)| added_token(id, content))
            .collect();
        let ids: Map<String, Value> = self
            .tokens
            .iter()
            .cloned()
            .zip((0..).map(u32_value))
            .collect();
        let merges: Vec<String> = self
            .merges
            .iter()
            .map(|(l, r)| format!("{l} {r}"))
            .collect();
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true
        });
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null,
            "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": ids, "merges": merges,
            },
        })
    }
}

fn u32_value(id: u32) -> Value {
    id.into()
}

fn added_token(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": false, "special": true
    })
}

/// Returns the character that represents a byte in GPT-2's alphabet: printable bytes represent
/// themselves, the others are numbered from U+0100 on.
fn gpt2_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, 33..=126 | 161..=172 | 174..=255);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|b| !printable(*b)).count() as u32;
    char::from_u32(256 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn vocabularies_have_the_requested_size_and_unique_tokens() {
        for size in [259, 260, 512, 49_152, 151_936] {
            let vocabulary = Vocabulary::new(size);
            assert_eq!(vocabulary.tokens.len(), size);
            let tokens: HashSet<&String> = vocabulary.tokens.iter().collect();
            assert_eq!(tokens.len(), size);
            for (left, right) in &vocabulary.merges {
                assert!(tokens.contains(left) && tokens.contains(right));
                assert!(tokens.contains(&format!("{left}{right}")));
            }
        }
        assert_eq!(Vocabulary::new(usize::MAX).tokens.len(), 493_765);
    }
}
