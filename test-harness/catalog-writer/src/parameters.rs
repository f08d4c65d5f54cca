use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

/// Values of the parameters of recipes, by their names in upper case.
#[derive(Debug, Clone, Default)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// Sets a parameter. Its value becomes part of a script of bash, so it has only characters of
    /// a URL that mean nothing there.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        ensure!(
            !name.is_empty() && name.chars().all(is_name),
            "{name} is not the name of a parameter"
        );
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:/+~-".contains(c);
        ensure!(
            !value.is_empty() && value.chars().all(is_plain),
            "the value of {name} must have letters, digits and `._:/+~-` only"
        );
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// Sets a parameter from `NAME=VALUE`.
    pub fn set_from(&mut self, text: &str) -> Result<()> {
        let (name, value) = text.split_once('=').context("expected NAME=VALUE")?;
        self.set(name, value)
    }

    /// Sets a parameter to a text of this program.
    pub(crate) fn set_text(&mut self, name: &str, text: String) {
        self.0.insert(name.to_owned(), text);
    }

    /// Replaces the parameters of a recipe. Returns the names of those that have no value.
    pub(crate) fn replace(&self, recipe: &str) -> std::result::Result<String, Vec<String>> {
        let mut out = String::with_capacity(recipe.len());
        let mut missing = Vec::new();
        let mut parts = recipe.split('@');
        out.extend(parts.next());
        let mut is_name = true;
        for part in parts {
            // Between two signs there is a name, or ordinary text.
            let looks_like_a_name = is_name
                && !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            if looks_like_a_name {
                match self.0.get(part) {
                    Some(value) => out.push_str(value),
                    None => missing.push(part.to_owned()),
                }
                is_name = false;
            } else {
                if is_name {
                    out.push('@');
                }
                out.push_str(part);
                is_name = true;
            }
        }
        missing.sort();
        missing.dedup();
        if missing.is_empty() {
            Ok(out)
        } else {
            Err(missing)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_replaced_and_other_signs_stay() {
        let mut parameters = Parameters::default();
        parameters.set_from("COMMIT=abc").unwrap();
        parameters.set_from("URL=https://example.org/a").unwrap();
        let text = "a=\"${x[@]}\" @URL@#commit=@COMMIT@ b@c \"$@\" @COMMIT@";
        assert_eq!(
            parameters.replace(text).unwrap(),
            "a=\"${x[@]}\" https://example.org/a#commit=abc b@c \"$@\" abc"
        );
        assert_eq!(
            parameters.replace("@B@ @A@ @B@ @COMMIT@").unwrap_err(),
            ["A", "B"]
        );
    }

    #[test]
    fn a_value_cannot_be_a_command() {
        let mut parameters = Parameters::default();
        for bad in [
            "A=", "A=$(x)", "A=a b", "A=a;b", "A=\"", "a=b", "A", "A=@B@",
        ] {
            assert!(parameters.set_from(bad).is_err(), "{bad}");
        }
    }
}
