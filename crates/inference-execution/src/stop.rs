/// Finds stop sequences in a text that arrives in chunks. The end of the text is held back
/// while it could be the start of a stop sequence. The result depends on the text only, not on
/// the boundaries of the chunks.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
    found: Option<usize>,
}

impl StopMatcher {
    /// Returns a matcher for `stops`. Empty stop sequences match nothing.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|s| !s.is_empty()).collect(),
            held: String::new(),
            found: None,
        }
    }

    /// Returns the index, among the non-empty stop sequences, of the one that was found.
    pub fn found(&self) -> Option<usize> {
        self.found
    }

    /// Whether text is held back.
    pub fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Processes the next chunk and appends the text that became final to `out`. Returns
    /// whether a stop sequence was found; neither it nor the text after it is appended.
    pub fn push(&mut self, chunk: &str, out: &mut String) -> bool {
        if self.stops.is_empty() {
            out.push_str(chunk);
            return false;
        }
        self.held.push_str(chunk);
        if let Some((start, index)) = self.first_completed() {
            self.found = Some(index);
            out.push_str(&self.held[..start]);
            self.held.clear();
            return true;
        }
        let decided = self.undecided_from();
        out.push_str(&self.held[..decided]);
        self.held.drain(..decided);
        false
    }

    /// Appends the text that is held back to `out`; no text follows.
    pub fn flush(&mut self, out: &mut String) {
        out.push_str(&self.held);
        self.held.clear();
    }

    /// Returns the start and the index of the stop sequence that is complete first; the longest
    /// if several end at the same position.
    fn first_completed(&self) -> Option<(usize, usize)> {
        self.stops
            .iter()
            .enumerate()
            .filter_map(|(index, stop)| {
                let start = self.held.find(stop)?;
                Some((start + stop.len(), start, index))
            })
            .min()
            .map(|(_, start, index)| (start, index))
    }

    /// Returns the start of the longest suffix of the held text that a stop sequence starts
    /// with.
    fn undecided_from(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let earliest = (self.held.len() + 1).saturating_sub(longest);
        (earliest..self.held.len())
            .filter(|start| self.held.is_char_boundary(*start))
            .find(|start| {
                let suffix = &self.held[*start..];
                self.stops.iter().any(|stop| stop.starts_with(suffix))
            })
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(stops: &[String], chunks: &[&str]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops.to_vec());
        let mut text = String::new();
        for chunk in chunks {
            if matcher.push(chunk, &mut text) {
                return (text, true);
            }
        }
        matcher.flush(&mut text);
        (text, false)
    }

    #[test]
    fn finds_stop_sequence_that_spans_chunks() {
        let stops = ["END".to_owned()];
        assert_eq!(run(&stops, &["say E", "N", "D now"]), ("say ".into(), true));
        assert_eq!(
            run(&stops, &["say E", "N", "ough"]),
            ("say ENough".into(), false)
        );
        let mut matcher = StopMatcher::new(stops.to_vec());
        let mut text = String::new();
        matcher.push("xEN", &mut text);
        assert_eq!(text, "x", "the start of END is held back");
        matcher.push("EN", &mut text);
        assert_eq!(text, "xEN", "only the latest start of END is held back");
        matcher.flush(&mut text);
        assert_eq!(text, "xENEN");
    }

    #[test]
    fn reports_which_stop_sequence_was_found() {
        let mut matcher = StopMatcher::new(vec!["zz".into(), "ab".into(), "b".into()]);
        let mut text = String::new();
        assert!(!matcher.push("a", &mut text));
        assert_eq!(matcher.found(), None);
        assert!(matcher.push("bzz", &mut text));
        assert_eq!(matcher.found(), Some(1));
    }

    #[test]
    fn finds_stop_sequence_after_a_repeated_start() {
        let stops = ["aab".to_owned()];
        assert_eq!(run(&stops, &["a", "a", "a", "b"]), ("a".into(), true));
    }

    proptest! {
        /// Compares with a reference that examines the text one character at a time.
        #[test]
        fn chunk_boundaries_do_not_affect_the_text(
            text in "[abé]{0,30}",
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            cuts in prop::collection::vec(0..60_usize, 0..8),
        ) {
            let mut cuts: Vec<usize> =
                cuts.into_iter().filter(|c| text.is_char_boundary(*c)).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            let chunks: Vec<&str> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();

            let mut expected = (text.clone(), false);
            'ends: for end in (1..=text.len()).filter(|e| text.is_char_boundary(*e)) {
                let longest = stops.iter().filter(|s| text[..end].ends_with(*s)).map(String::len).max();
                if let Some(length) = longest {
                    expected = (text[..end - length].to_owned(), true);
                    break 'ends;
                }
            }
            prop_assert_eq!(run(&stops, &chunks), expected);
        }
    }
}
