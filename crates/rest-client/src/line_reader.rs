use std::mem::take;

use crate::event_reader::{InvalidStream, MAX_EVENT_BYTES};

/// Incremental reader of lines. Empty lines are skipped.
#[derive(Debug, Default)]
pub(crate) struct LineReader {
    line: Vec<u8>,
    /// Whether an error was returned. The rest of the stream is ignored.
    failed: bool,
}

impl LineReader {
    /// Returns the lines that end in this chunk. An error is the last item; later calls return
    /// nothing.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Vec<Result<String, InvalidStream>> {
        let mut lines = Vec::new();
        if !self.failed
            && let Err(error) = self.read(chunk, &mut lines)
        {
            self.failed = true;
            lines.push(Err(error));
        }
        lines
    }

    fn read(
        &mut self,
        chunk: &[u8],
        lines: &mut Vec<Result<String, InvalidStream>>,
    ) -> Result<(), InvalidStream> {
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + part.len() > MAX_EVENT_BYTES {
                return Err(InvalidStream::TooLong);
            }
            self.line.extend_from_slice(part);
            if self.line.last() != Some(&b'\n') {
                return Ok(());
            }
            let line = take(&mut self.line);
            let text = std::str::from_utf8(&line).map_err(|_| InvalidStream::NotUtf8)?;
            if !text.trim().is_empty() {
                lines.push(Ok(text.trim_end().to_owned()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_however_the_bytes_are_split() {
        let text = "{\"a\": \"ä\"}\r\n\nsecond\nunfinished";
        for length in 1..=text.len() {
            let mut reader = LineReader::default();
            let chunks = text.as_bytes().chunks(length);
            let lines: Vec<_> = chunks.flat_map(|chunk| reader.feed(chunk)).collect();
            let expected = ["{\"a\": \"ä\"}", "second"].map(|line| Ok(line.to_owned()));
            assert_eq!(lines, expected, "chunks of {length} bytes");
        }
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut reader = LineReader::default();
        assert_eq!(reader.feed(b"\xff\nnext\n"), [Err(InvalidStream::NotUtf8)]);
        assert_eq!(reader.feed(b"more\n"), []);
        let mut reader = LineReader::default();
        let long = vec![b'x'; MAX_EVENT_BYTES];
        assert_eq!(reader.feed(&long), []);
        assert_eq!(reader.feed(b"x"), [Err(InvalidStream::TooLong)]);
    }
}
