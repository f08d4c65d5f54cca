use std::collections::HashMap;

use diagnostics::Diagnostic;
use tokenizers::Tokenizer;

use crate::errors;

/// Exclusive limit of token ids; no vocabulary is that large.
const MAX_TOKENS: u32 = 1 << 24;

/// Encoding of bytes in the token strings of a vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenEncoding {
    /// One printable character per byte, as in GPT-2.
    ByteLevel,
    /// UTF-8 with `▁` for a space and `<0x0A>` for a single byte.
    SentencePiece,
}

/// Bytes that each token contributes to the text.
#[derive(Debug, Default)]
pub(crate) struct TokenTable {
    bytes: Vec<u8>,
    /// End of each token in `bytes`; it starts where the previous token ends.
    ends: Vec<usize>,
    /// Names of special tokens, which contribute no bytes.
    special: HashMap<u32, String>,
}

impl TokenTable {
    /// Builds a table of ordinary tokens and special tokens, both by id.
    pub(crate) fn new(
        ordinary: &HashMap<u32, Vec<u8>>,
        special: HashMap<u32, String>,
    ) -> Result<Self, Diagnostic> {
        let size = match ordinary.keys().chain(special.keys()).max() {
            None => 0,
            Some(&largest) if largest < MAX_TOKENS => largest + 1,
            Some(&largest) => return Err(errors::token_id_too_large(largest, MAX_TOKENS)),
        };
        let mut table = Self {
            special,
            ..Self::default()
        };
        for id in 0..size {
            if !table.special.contains_key(&id)
                && let Some(bytes) = ordinary.get(&id)
            {
                table.bytes.extend_from_slice(bytes);
            }
            table.ends.push(table.bytes.len());
        }
        Ok(table)
    }

    pub(crate) fn from_tokenizer(
        tokenizer: &Tokenizer,
        encoding: TokenEncoding,
    ) -> Result<Self, Diagnostic> {
        let mut ordinary: HashMap<u32, Vec<u8>> = tokenizer
            .get_vocab(false)
            .into_iter()
            .map(|(token, id)| (id, token_bytes(&token, encoding)))
            .collect();
        let mut special = HashMap::new();
        // Added tokens contain literal text, except that SentencePiece decoders replace `▁`
        // by a space everywhere: Gemma's runs of spaces are added tokens.
        for (id, token) in tokenizer.get_added_tokens_decoder() {
            if token.special {
                special.insert(id, token.content);
            } else {
                let text = match encoding {
                    TokenEncoding::SentencePiece => token.content.replace('▁', " "),
                    TokenEncoding::ByteLevel => token.content,
                };
                ordinary.insert(id, text.into_bytes());
            }
        }
        Self::new(&ordinary, special)
    }

    /// Number of ids, gaps included.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Length in bytes of the longest ordinary token or name of a special token.
    pub(crate) fn longest(&self) -> usize {
        let ordinary = (0..self.ends.len()).map(|id| self.bytes(id as u32).len());
        ordinary
            .chain(self.special.values().map(String::len))
            .max()
            .unwrap_or(0)
    }

    /// Bytes of a token: none for a special token or an id beyond the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let index = id as usize;
        let Some(&end) = self.ends.get(index) else {
            return &[];
        };
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..end]
    }

    /// Bytes of an ordinary token, or name of a special token.
    pub(crate) fn name(&self, id: u32) -> &[u8] {
        match self.special.get(&id) {
            Some(name) => name.as_bytes(),
            None => self.bytes(id),
        }
    }

    /// Whether the text is a token, ordinary or special.
    pub(crate) fn has(&self, text: &str) -> bool {
        (0..self.ends.len()).any(|id| self.name(id as u32) == text.as_bytes())
    }

    /// Text of a token for display.
    pub(crate) fn text(&self, id: u32) -> String {
        match self.special.get(&id) {
            Some(name) => name.clone(),
            None => String::from_utf8_lossy(self.bytes(id)).into_owned(),
        }
    }

    /// Special tokens whose names occur in one of `texts`, by id.
    pub(crate) fn special_within(&self, texts: &[&str]) -> Vec<(u32, String)> {
        let occurs = |name: &str| !name.is_empty() && texts.iter().any(|text| text.contains(name));
        let named = self.special.iter().filter(|(_, name)| occurs(name));
        let mut found: Vec<(u32, String)> = named.map(|(id, name)| (*id, name.clone())).collect();
        found.sort_unstable();
        found
    }

    /// Names of the special tokens.
    pub(crate) fn special_names(&self) -> impl Iterator<Item = &str> {
        self.special.values().map(String::as_str)
    }

    pub(crate) fn special_id(&self, name: &str) -> Option<u32> {
        self.special
            .iter()
            .find(|(_, n)| n.as_str() == name)
            .map(|(id, _)| *id)
    }
}

/// Decodes an ordinary token of a vocabulary.
fn token_bytes(token: &str, encoding: TokenEncoding) -> Vec<u8> {
    match encoding {
        TokenEncoding::ByteLevel => {
            let mut out = Vec::with_capacity(token.len());
            for c in token.chars() {
                match gpt2_byte(c) {
                    Some(byte) => out.push(byte),
                    None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            out
        }
        TokenEncoding::SentencePiece => match hex_byte(token) {
            Some(byte) => vec![byte],
            None => token.replace('▁', " ").into_bytes(),
        },
    }
}

/// Parses `<0x0A>`.
fn hex_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Whether GPT-2's alphabet represents this byte by the character of the same code point.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// Byte that a character of GPT-2's alphabet represents: printable bytes represent themselves,
/// the others are numbered from U+0100 on.
fn gpt2_byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => (0..=255)
            .filter(|&b| !is_printable(b))
            .nth(code as usize - 0x100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_level_tokens_use_the_gpt2_alphabet() {
        let decode = |token| token_bytes(token, TokenEncoding::ByteLevel);
        assert_eq!(decode("Ġa"), b" a");
        assert_eq!(decode("Ċ"), b"\n");
        assert_eq!(decode("Ã©"), "é".as_bytes());
        assert_eq!(decode("Ń"), [0xad]);
        let covered: std::collections::BTreeSet<u8> = (0..0x180)
            .filter_map(|n| char::from_u32(n).and_then(gpt2_byte))
            .collect();
        assert_eq!(covered.len(), 256);
        // Characters outside the alphabet stay as they are.
        assert_eq!(decode("語"), "語".as_bytes());
    }

    #[test]
    fn sentencepiece_tokens_encode_spaces_and_single_bytes() {
        let decode = |token| token_bytes(token, TokenEncoding::SentencePiece);
        assert_eq!(decode("▁a▁"), b" a ");
        assert_eq!(decode("<0xE2>"), [0xe2]);
        assert_eq!(decode("<0xE22>"), b"<0xE22>");
    }

    #[test]
    fn rejects_excessive_token_id_before_allocating() {
        let ordinary = HashMap::from([(u32::MAX, vec![1])]);
        let error = TokenTable::new(&ordinary, HashMap::new()).unwrap_err();
        assert_eq!(
            error.message,
            "invalid tokenizer: the largest token id is 4294967295, the limit is 16777216"
        );
    }
}
