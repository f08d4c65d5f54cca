//! The placeholders of an engine's command.

use diagnostics::Diagnostic;

use crate::errors;

/// Values of the placeholders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placeholders<'a> {
    pub model: &'a str,
    pub port: u16,
    /// 0 lets the engine choose.
    pub context: u32,
    pub slots: u32,
    pub threads: usize,
}

/// Replaces the placeholders in each argument. No shell is involved: an argument stays one.
pub(crate) fn substitute(
    command: &[String],
    values: Placeholders<'_>,
) -> Result<Vec<String>, Diagnostic> {
    if command.is_empty() {
        return Err(errors::no_command());
    }
    command.iter().map(|word| replace(word, values)).collect()
}

fn replace(word: &str, values: Placeholders<'_>) -> Result<String, Diagnostic> {
    let (mut out, mut rest) = (String::new(), word);
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            break;
        };
        out.push_str(before);
        match name {
            "model" => out.push_str(values.model),
            "port" => out.push_str(&values.port.to_string()),
            "context" => out.push_str(&values.context.to_string()),
            "slots" => out.push_str(&values.slots.to_string()),
            "threads" => out.push_str(&values.threads.to_string()),
            _ => return Err(errors::unknown_placeholder(name)),
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_once_and_arguments_stay_whole() {
        let values = Placeholders {
            model: "/a b/{port}.gguf; rm",
            port: 81,
            context: 0,
            slots: 4,
            threads: 2,
        };
        let words = |text: &[&str]| text.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let command = words(&[
            "engine",
            "-m",
            "{model}",
            "--port={port}",
            "-np",
            "{slots}",
            "{",
        ]);
        let expected = words(&[
            "engine",
            "-m",
            "/a b/{port}.gguf; rm",
            "--port=81",
            "-np",
            "4",
            "{",
        ]);
        assert_eq!(substitute(&command, values).unwrap(), expected);
        assert!(substitute(&words(&["a", "{modle}"]), values).is_err());
        assert!(substitute(&[], values).is_err());
    }
}
