use std::collections::HashMap;

use diagnostics::Diagnostic;

use crate::damaged;

/// Token ids from here on are refused; no vocabulary is so large.
const MAX_TOKENS: u32 = 1 << 24;

/// How the tokens of a vocabulary spell bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Each byte is a printable character, as in GPT-2.
    ByteLevel,
    /// UTF-8 with `▁` for a space and `<0x0A>` for a byte.
    SentencePiece,
}

/// The bytes that each token contributes to the text.
#[derive(Debug, Default)]
pub(crate) struct PieceTable {
    bytes: Vec<u8>,
    /// Where the bytes of each token end; they begin where those of the token before end.
    ends: Vec<usize>,
    /// The names of special tokens, which contribute nothing.
    special: HashMap<u32, String>,
}

impl PieceTable {
    /// A table of ordinary tokens, given by id with their bytes, and special tokens by name.
    pub(crate) fn new(
        pieces: &HashMap<u32, Vec<u8>>,
        special: HashMap<u32, String>,
    ) -> Result<Self, Diagnostic> {
        let largest = pieces.keys().chain(special.keys()).max().copied();
        let size = largest.map_or(0, |id| id.saturating_add(1));
        if size > MAX_TOKENS {
            return Err(damaged(format!(
                "its largest token id is {}, the limit is {MAX_TOKENS}",
                size - 1
            )));
        }
        let mut table = Self {
            special,
            ..Self::default()
        };
        for id in 0..size {
            if !table.special.contains_key(&id)
                && let Some(piece) = pieces.get(&id)
            {
                table.bytes.extend_from_slice(piece);
            }
            table.ends.push(table.bytes.len());
        }
        Ok(table)
    }

    /// Ids from 0 on.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of the longest token, or of the longest name of a special one.
    pub(crate) fn longest(&self) -> usize {
        let pieces = (0..self.ends.len()).map(|id| self.bytes(id as u32).len());
        pieces
            .chain(self.special.values().map(String::len))
            .max()
            .unwrap_or(0)
    }

    /// The bytes of a token; nothing for a special one and for an id beyond the vocabulary.
    pub(crate) fn bytes(&self, id: u32) -> &[u8] {
        let index = id as usize;
        let Some(&end) = self.ends.get(index) else {
            return &[];
        };
        let begin = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[begin..end]
    }

    /// The text of a token for a person.
    pub(crate) fn text(&self, id: u32) -> String {
        match self.special.get(&id) {
            Some(name) => name.clone(),
            None => String::from_utf8_lossy(self.bytes(id)).into_owned(),
        }
    }

    pub(crate) fn special_id(&self, name: &str) -> Option<u32> {
        self.special
            .iter()
            .find(|(_, n)| n.as_str() == name)
            .map(|(id, _)| *id)
    }
}

/// The bytes that an ordinary token of a vocabulary stands for.
pub(crate) fn spelled_bytes(token: &str, spelling: Spelling) -> Vec<u8> {
    match spelling {
        Spelling::ByteLevel => {
            let mut out = Vec::with_capacity(token.len());
            for c in token.chars() {
                match byte_of(c) {
                    Some(byte) => out.push(byte),
                    None => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                }
            }
            out
        }
        Spelling::SentencePiece => match hex_byte(token) {
            Some(byte) => vec![byte],
            None => token.replace('▁', " ").into_bytes(),
        },
    }
}

/// `<0x0A>` as a byte.
fn hex_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

/// Whether GPT-2's alphabet writes this byte as the character of the same number.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

/// The byte that a character of GPT-2's alphabet stands for: printable bytes stand for
/// themselves, the others follow in order from U+0100.
fn byte_of(c: char) -> Option<u8> {
    let number = u32::from(c);
    match u8::try_from(number) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => (0..=255)
            .filter(|&b| !is_printable(b))
            .nth(number as usize - 0x100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_gpt2s() {
        assert_eq!(spelled_bytes("Ġa", Spelling::ByteLevel), b" a");
        assert_eq!(spelled_bytes("Ċ", Spelling::ByteLevel), b"\n");
        assert_eq!(spelled_bytes("Ã©", Spelling::ByteLevel), "é".as_bytes());
        assert_eq!(spelled_bytes("Ń", Spelling::ByteLevel), [0xad]);
        let covered: std::collections::BTreeSet<u8> = (0..0x180)
            .filter_map(|n| char::from_u32(n).and_then(byte_of))
            .collect();
        assert_eq!(covered.len(), 256);
        // No character of the alphabet: a vocabulary's own foreign token stays as it is.
        assert_eq!(spelled_bytes("語", Spelling::ByteLevel), "語".as_bytes());
    }

    #[test]
    fn sentencepiece_spells_spaces_and_bytes() {
        assert_eq!(spelled_bytes("▁a▁", Spelling::SentencePiece), b" a ");
        assert_eq!(spelled_bytes("<0xE2>", Spelling::SentencePiece), [0xe2]);
        assert_eq!(
            spelled_bytes("<0xE22>", Spelling::SentencePiece),
            b"<0xE22>"
        );
    }

    #[test]
    fn an_absurd_id_is_refused_before_a_table_is_made() {
        let pieces = HashMap::from([(u32::MAX, vec![1])]);
        let error = PieceTable::new(&pieces, HashMap::new()).unwrap_err();
        assert!(error.message.contains("token id"), "{error}");
    }
}
