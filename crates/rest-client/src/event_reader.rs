use std::mem::take;

/// Maximum size of an event, in bytes. Bounds the memory that a peer can use; events of rbee
/// are much smaller.
pub(crate) const MAX_EVENT_BYTES: usize = 16 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Type of the event; `message` if the stream does not name one.
    pub(crate) name: String,
    /// Data; lines are separated by line feeds.
    pub(crate) data: String,
}

/// Violation of the format or of the size limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidStream {
    #[error("an event is larger than {MAX_EVENT_BYTES} bytes")]
    TooLong,
    #[error("a line is not UTF-8")]
    NotUtf8,
}

/// Incremental parser of server-sent events as defined by the HTML standard. Ignores ids and
/// retry times.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    name: String,
    data: String,
    /// Whether the first line was read. Only it can begin with a byte order mark.
    past_first_line: bool,
    /// Whether the last byte was a carriage return. A line feed after it belongs to it.
    after_carriage_return: bool,
    /// Whether an error was returned. The rest of the stream is ignored.
    failed: bool,
}

impl EventReader {
    /// Returns the events that end in this chunk. An error is the last item; later calls return
    /// nothing.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Vec<Result<Event, InvalidStream>> {
        let mut events = Vec::new();
        if !self.failed
            && let Err(error) = self.read(chunk, &mut events)
        {
            self.failed = true;
            events.push(Err(error));
        }
        events
    }

    fn read(
        &mut self,
        mut chunk: &[u8],
        events: &mut Vec<Result<Event, InvalidStream>>,
    ) -> Result<(), InvalidStream> {
        while !chunk.is_empty() {
            if take(&mut self.after_carriage_return) && chunk[0] == b'\n' {
                chunk = &chunk[1..];
                continue;
            }
            let end = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &chunk[..end.unwrap_or(chunk.len())];
            if self.line.len() + self.data.len() + part.len() > MAX_EVENT_BYTES {
                return Err(InvalidStream::TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_carriage_return = chunk[end] == b'\r';
            chunk = &chunk[end + 1..];
            events.extend(self.end_line()?.map(Ok));
        }
        Ok(())
    }

    /// Reads the line and empties it; its memory is used for the next one.
    fn end_line(&mut self) -> Result<Option<Event>, InvalidStream> {
        let mut line = take(&mut self.line);
        let event = self.read_line(&line);
        line.clear();
        self.line = line;
        event
    }

    fn read_line(&mut self, line: &[u8]) -> Result<Option<Event>, InvalidStream> {
        let first = !std::mem::replace(&mut self.past_first_line, true);
        let line = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if first => rest,
            _ => line,
        };
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let line = std::str::from_utf8(line).map_err(|_| InvalidStream::NotUtf8)?;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // Other fields, and comments, whose field is empty.
            _ => {}
        }
        Ok(None)
    }

    /// An event without data is discarded.
    fn end_event(&mut self) -> Option<Event> {
        let (name, mut data) = (take(&mut self.name), take(&mut self.data));
        data.pop()?;
        let name = if name.is_empty() {
            "message".into()
        } else {
            name
        };
        Some(Event { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> Vec<Result<(String, String), InvalidStream>> {
        let mut reader = EventReader::default();
        let events = chunks.iter().flat_map(|chunk| reader.feed(chunk));
        events.map(|e| e.map(|e| (e.name, e.data))).collect()
    }

    #[allow(clippy::unnecessary_wraps)]
    fn event(name: &str, data: &str) -> Result<(String, String), InvalidStream> {
        Ok((name.into(), data.into()))
    }

    #[test]
    fn parses_events_however_the_bytes_are_split() {
        let text = "\u{feff}data: a\ndata:b\ndata\n\n: no field\nid: 7\nevent: x\ndata:  c: d\r\n\r\nevent: y\n\ndata: e\r\r\u{feff}data: f\n\ndata: unfinished\n";
        let expected = [
            event("message", "a\nb\n"),
            event("x", " c: d"),
            event("message", "e"),
        ];
        for length in 1..=text.len() {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(length).collect();
            assert_eq!(read(&chunks), expected, "chunks of {length} bytes");
        }
    }

    #[test]
    fn invalid_utf8_and_long_events_are_errors() {
        assert_eq!(read(&[b"data: \xff\n\n"]), [Err(InvalidStream::NotUtf8)]);
        let long = vec![b'x'; MAX_EVENT_BYTES / 2];
        assert_eq!(read(&[&long, &long]), []);
        assert_eq!(read(&[&long, &long, b"x"]), [Err(InvalidStream::TooLong)]);
        let line = [b"data:", long.as_slice(), b"\n"].concat();
        let found = read(&[&line, &line, &line]);
        assert_eq!(found.last(), Some(&Err(InvalidStream::TooLong)));
    }
}
