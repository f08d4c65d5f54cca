use std::mem::take;

/// Most bytes of one event: far beyond any token, far below what a peer could fill memory with.
const MOST_BYTES: usize = 16 << 20;
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// An event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; `message` when the stream names none.
    pub(crate) name: String,
    /// Its data, lines joined by line feeds.
    pub(crate) data: String,
}

/// Why a stream cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("an event has more than {MOST_BYTES} bytes")]
    TooLong,
    #[error("a line is not UTF-8")]
    NotUtf8,
}

/// Reads server-sent events as the HTML standard defines them, from bytes that come in any
/// pieces. Ids and retry times are passed over.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    line: Vec<u8>,
    name: String,
    data: String,
    /// A line was read, so that no byte order mark can follow.
    begun: bool,
    /// A line feed now is the second half of a line end.
    after_return: bool,
    /// An error was found: nothing that follows can be trusted.
    broken: bool,
}

impl EventReader {
    /// The events that this piece completes, in order; nothing follows an error, whatever
    /// else comes.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Vec<Result<Event, Unreadable>> {
        let mut events = Vec::new();
        if !self.broken
            && let Err(error) = self.read(piece, &mut events)
        {
            self.broken = true;
            events.push(Err(error));
        }
        events
    }

    fn read(
        &mut self,
        mut piece: &[u8],
        events: &mut Vec<Result<Event, Unreadable>>,
    ) -> Result<(), Unreadable> {
        while !piece.is_empty() {
            if take(&mut self.after_return) && piece[0] == b'\n' {
                piece = &piece[1..];
                continue;
            }
            let end = piece.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &piece[..end.unwrap_or(piece.len())];
            if self.line.len() + self.data.len() + part.len() > MOST_BYTES {
                return Err(Unreadable::TooLong);
            }
            self.line.extend_from_slice(part);
            let Some(end) = end else { break };
            self.after_return = piece[end] == b'\r';
            piece = &piece[end + 1..];
            events.extend(self.end_line()?.map(Ok));
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<Option<Event>, Unreadable> {
        let line = take(&mut self.line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) if first => rest,
            _ => &line,
        };
        if line.is_empty() {
            return Ok(self.end_event());
        }
        let line = std::str::from_utf8(line).map_err(|_| Unreadable::NotUtf8)?;
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            // A comment has no field.
            _ => {}
        }
        Ok(None)
    }

    /// An event without data is none.
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

    fn read(pieces: &[&[u8]]) -> Vec<Result<(String, String), Unreadable>> {
        let mut reader = EventReader::default();
        let events = pieces.iter().flat_map(|piece| reader.feed(piece));
        events.map(|e| e.map(|e| (e.name, e.data))).collect()
    }

    #[allow(clippy::unnecessary_wraps)]
    fn event(name: &str, data: &str) -> Result<(String, String), Unreadable> {
        Ok((name.into(), data.into()))
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let text = "\u{feff}data: a\ndata:b\ndata\n\n: no field\nid: 7\nevent: x\ndata:  c: d\r\n\r\nevent: y\n\ndata: e\r\r\u{feff}data: f\n\ndata: unfinished\n";
        let expected = [
            event("message", "a\nb\n"),
            event("x", " c: d"),
            event("message", "e"),
        ];
        for length in 1..=text.len() {
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(length).collect();
            assert_eq!(read(&pieces), expected, "pieces of {length}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_an_error() {
        assert_eq!(read(&[b"data: \xff\n\n"]), [Err(Unreadable::NotUtf8)]);
        let long = vec![b'x'; MOST_BYTES / 2];
        assert_eq!(read(&[&long, &long]), []);
        assert_eq!(read(&[&long, &long, b"x"]), [Err(Unreadable::TooLong)]);
        let line = [b"data:", long.as_slice(), b"\n"].concat();
        let found = read(&[&line, &line, &line]);
        assert_eq!(found.last(), Some(&Err(Unreadable::TooLong)));
    }
}
