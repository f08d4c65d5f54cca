/// A minute of the hour in English: `zero`, `seven`, `forty-two`.
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

/// What the model is asked.
pub fn prompt(word: &str, nonce: &str) -> String {
    format!("Write a haiku about GPU computing that includes the word \"{word}\" (nonce: {nonce})")
}

/// What is wrong with an answer; empty when it passes: the word exactly once, case aside and
/// as a word of its own, and exactly three lines that are not empty.
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
        misses.push(format!("{lines} lines that are not empty, not 3"));
    }
    misses
}

/// How often `word` stands in `text` by itself; `two` does not stand in `forty-two`.
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
    fn minutes_have_words() {
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
    fn only_a_haiku_with_the_word_once_passes() {
        let good = "Forty-two warm cores\nthe warm chip multiplies here\nthe kernel hums here.";
        assert_eq!(text_misses(good, "forty-two"), Vec::<String>::new());
        assert_eq!(text_misses(good, "two").len(), 1, "two is not in forty-two");
        assert_eq!(text_misses("forty-two\nforty-two\nc", "forty-two").len(), 1);
        assert_eq!(text_misses("forty-two b", "forty-two").len(), 1);
        assert_eq!(text_misses("", "forty-two").len(), 2);
        assert_eq!(text_misses("forty-two\n\nb\nc\nd", "forty-two").len(), 1);
    }
}
