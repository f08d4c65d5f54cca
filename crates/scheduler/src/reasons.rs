//! Reasons that several places have in common.

/// Joins the names of those with the same reason, each once, in the order of their first names.
pub fn by_reason<R: PartialEq>(
    reasons: impl IntoIterator<Item = (String, R)>,
) -> Vec<(Vec<String>, R)> {
    let mut groups: Vec<(Vec<String>, R)> = Vec::new();
    for (name, reason) in reasons {
        match groups.iter_mut().find(|(_, known)| *known == reason) {
            Some((names, _)) if names.contains(&name) => {}
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], reason)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_named_once_with_all_that_have_it() {
        let reasons =
            [("a", 1), ("b", 2), ("c", 1), ("a", 1)].map(|(name, n)| (name.to_owned(), n));
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        assert_eq!(
            by_reason(reasons),
            [(names(&["a", "c"]), 1), (names(&["b"]), 2)]
        );
    }
}
