/// Finds stop texts in text that arrives in pieces. What could be the beginning of a stop
/// text is held back until it is known. The result depends on the text alone, never on how
/// it was cut into pieces.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    found: Option<usize>,
}

/// What a piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Text that is final.
    pub text: String,
    /// A stop text was complete; it and what follows it are not part of the answer.
    pub stopped: bool,
}

impl StopMatcher {
    /// A matcher for `stops`; empty ones are left out, since they would match everywhere.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|s| !s.is_empty()).collect(),
            held: String::new(),
            found: None,
        }
    }

    /// Which stop text was complete, by its place among those that are not empty.
    pub fn found(&self) -> Option<usize> {
        self.found
    }

    /// Takes the next piece.
    pub fn push(&mut self, piece: &str) -> Pushed {
        if self.stops.is_empty() {
            return Pushed {
                text: piece.to_owned(),
                stopped: false,
            };
        }
        self.held.push_str(piece);
        if let Some((start, which)) = self.first_completed() {
            self.found = Some(which);
            let mut text = std::mem::take(&mut self.held);
            text.truncate(start);
            return Pushed {
                text,
                stopped: true,
            };
        }
        let keep_from = self.undecided_from();
        let undecided = self.held.split_off(keep_from);
        Pushed {
            text: std::mem::replace(&mut self.held, undecided),
            stopped: false,
        }
    }

    /// The text held back, once nothing follows it.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Where the stop text starts that is complete first, and which it is; of several that
    /// end together the longest counts.
    fn first_completed(&self) -> Option<(usize, usize)> {
        self.stops
            .iter()
            .enumerate()
            .filter_map(|(which, stop)| {
                self.held
                    .find(stop)
                    .map(|start| (start + stop.len(), start, which))
            })
            .min()
            .map(|(_, start, which)| (start, which))
    }

    /// Where the longest end of the text starts that begins a stop text.
    fn undecided_from(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let earliest = (self.held.len() + 1).saturating_sub(longest);
        (earliest..self.held.len())
            .filter(|start| self.held.is_char_boundary(*start))
            .find(|start| {
                let end = &self.held[*start..];
                self.stops.iter().any(|stop| stop.starts_with(end))
            })
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[String], pieces: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.to_vec());
        let mut text = String::new();
        for piece in pieces {
            let pushed = matcher.push(piece);
            text.push_str(&pushed.text);
            if pushed.stopped {
                return (text, true);
            }
        }
        text.push_str(&matcher.flush());
        (text, false)
    }

    #[test]
    fn a_stop_text_may_be_spread_over_pieces() {
        let stops = ["END".to_owned()];
        assert_eq!(run(&stops, &["say E", "N", "D now"]), ("say ".into(), true));
        assert_eq!(
            run(&stops, &["say E", "N", "ough"]),
            ("say ENough".into(), false)
        );
        let mut matcher = StopMatcher::new(stops.to_vec());
        assert_eq!(
            matcher.push("xEN").text,
            "x",
            "what may become END is held back"
        );
        assert_eq!(
            matcher.push("EN").text,
            "EN",
            "only the new beginning is held"
        );
        assert_eq!(matcher.flush(), "EN");
    }

    #[test]
    fn the_stop_text_that_was_complete_is_told() {
        let mut matcher = StopMatcher::new(vec!["zz".into(), "ab".into(), "b".into()]);
        assert!(!matcher.push("a").stopped);
        assert_eq!(matcher.found(), None);
        assert!(matcher.push("bzz").stopped);
        assert_eq!(matcher.found(), Some(1));
    }

    #[test]
    fn a_repeated_beginning_is_not_overlooked() {
        let stops = ["aab".to_owned()];
        assert_eq!(run(&stops, &["a", "a", "a", "b"]), ("a".into(), true));
    }

    proptest! {
        /// Compared with a reference that looks at the text one character at a time.
        #[test]
        fn the_cut_into_pieces_does_not_matter(
            text in "[abé]{0,30}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cuts in prop::collection::vec(0..60_usize, 0..8),
        ) {
            let mut cuts: Vec<usize> =
                cuts.into_iter().filter(|c| text.is_char_boundary(*c)).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();

            let mut expected = (text.clone(), false);
            'ends: for end in (1..=text.len()).filter(|e| text.is_char_boundary(*e)) {
                let longest = stops.iter().filter(|s| text[..end].ends_with(*s)).map(String::len).max();
                if let Some(length) = longest {
                    expected = (text[..end - length].to_owned(), true);
                    break 'ends;
                }
            }
            prop_assert_eq!(run(&stops, &pieces), expected);
        }
    }
}
