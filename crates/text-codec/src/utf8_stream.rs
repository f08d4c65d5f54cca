/// Incremental UTF-8 decoder for the bytes of tokens.
///
/// Holds back incomplete characters; invalid bytes become U+FFFD. The concatenated output equals
/// `String::from_utf8_lossy` of all bytes.
#[derive(Debug, Clone, Default)]
pub struct Utf8Stream {
    /// Incomplete character, at most 3 bytes.
    pending: Vec<u8>,
}

impl Utf8Stream {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes and returns the text that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let mut text = String::with_capacity(self.pending.len());
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(bad) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[bad..];
                }
            }
        }
        self.pending = rest.to_vec();
        text
    }

    /// Ends the stream: an incomplete character becomes U+FFFD.
    pub fn flush(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn holds_back_incomplete_characters() {
        let mut stream = Utf8Stream::new();
        let bee = "🐝".as_bytes();
        assert_eq!(stream.push(&bee[..1]), "");
        assert_eq!(stream.push(&bee[1..3]), "");
        assert_eq!(stream.push(&bee[3..]), "🐝");
        assert_eq!(stream.push(b"a\xe2\x82"), "a");
        assert_eq!(stream.push(b"b"), "\u{fffd}b");
        assert_eq!(stream.push(b"\xff"), "\u{fffd}");
        assert_eq!(stream.push(b"\xf0\x9f"), "");
        assert_eq!(stream.flush(), "\u{fffd}");
        assert_eq!(stream.flush(), "");
    }

    proptest! {
        #[test]
        fn any_split_decodes_like_from_utf8_lossy(
            text in "\\PC{0,20}",
            junk in prop::collection::vec(any::<u8>(), 0..20),
            cuts in prop::collection::vec(0..8_usize, 1..20),
        ) {
            let bytes = [text.as_bytes(), &junk, text.as_bytes()].concat();
            let mut stream = Utf8Stream::new();
            let mut out = String::new();
            let mut rest = bytes.as_slice();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                out += &stream.push(piece);
                prop_assert!(stream.pending.len() < 4);
                rest = after;
            }
            out += &stream.push(rest);
            out += &stream.flush();
            prop_assert_eq!(out, String::from_utf8_lossy(&bytes));
        }
    }
}
