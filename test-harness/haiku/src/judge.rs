/// Returns a minute of the hour in English: `zero`, `seven`, `forty-two`.
pub fn minute_word(minute: u32) -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 6] = ["", "", "twenty", "thirty", "forty", "fifty"];
    let minute = (minute % 60) as usize;
    match (minute / 10, minute % 10) {
        (0 | 1, _) => SMALL[minute].to_owned(),
        (tens, 0) => TENS[tens].to_owned(),
        (tens, ones) => format!("{}-{}", TENS[tens], SMALL[ones]),
    }
}

pub fn prompt(word: &str, nonce: &str) -> String {
    format!("Write a haiku about GPU computing that includes the word \"{word}\" (nonce: {nonce})")
}

/// Returns the defects of a haiku, none if it is valid: `word` must occur exactly once, as a
/// whole word in any case, and exactly three lines must be non-empty.
pub fn text_misses(text: &str, word: &str) -> Vec<String> {
    let mut misses = Vec::new();
    let found = occurrences(&text.to_lowercase(), &word.to_lowercase());
    if found != 1 {
        misses.push(format!(
            "the word \"{word}\" occurs {found} times, not once"
        ));
    }
    let lines = text.lines().filter(|l| !l.trim().is_empty()).count();
    if lines != 3 {
        misses.push(format!("the text has {lines} non-empty lines, not 3"));
    }
    misses
}

/// Counts the occurrences of `word` as a whole word. `two` does not occur in `forty-two`.
fn occurrences(text: &str, word: &str) -> usize {
    let joins = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.match_indices(word)
        .filter(|(at, _)| {
            let before = text[..*at].chars().next_back();
            let after = text[at + word.len()..].chars().next();
            !before.is_some_and(joins) && !after.is_some_and(joins)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_spelled_out() {
        for (minute, word) in [
            (0, "zero"),
            (7, "seven"),
            (13, "thirteen"),
            (20, "twenty"),
            (42, "forty-two"),
            (59, "fifty-nine"),
        ] {
            assert_eq!(minute_word(minute), word);
        }
    }

    #[test]
    fn a_haiku_has_three_lines_and_the_word_once() {
        let good = "Forty-two warm cores\nthe warm chip multiplies here\nthe kernel hums here.";
        assert_eq!(text_misses(good, "forty-two"), Vec::<String>::new());
        for (text, word, expected) in [
            (
                good,
                "two",
                vec!["the word \"two\" occurs 0 times, not once"],
            ),
            (
                "forty-two\nforty-two\nc",
                "forty-two",
                vec!["the word \"forty-two\" occurs 2 times, not once"],
            ),
            (
                "forty-two b",
                "forty-two",
                vec!["the text has 1 non-empty lines, not 3"],
            ),
            (
                "",
                "forty-two",
                vec![
                    "the word \"forty-two\" occurs 0 times, not once",
                    "the text has 0 non-empty lines, not 3",
                ],
            ),
            (
                "forty-two\n\nb\nc\nd",
                "forty-two",
                vec!["the text has 4 non-empty lines, not 3"],
            ),
        ] {
            assert_eq!(text_misses(text, word), expected, "{text}");
        }
    }
}
