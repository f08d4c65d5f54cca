use std::collections::HashSet;

/// What the Jinja source of a chat template reads and quotes.
#[derive(Debug, Default)]
pub(crate) struct Source<'a> {
    /// Variables that the template reads before it sets them.
    reads: HashSet<&'a str>,
    /// Texts of string literals.
    literals: HashSet<&'a str>,
}

impl<'a> Source<'a> {
    /// Reads the source of a template. Text outside of `{{ … }}` and `{% … %}` does not count.
    pub fn read(template: &'a str) -> Self {
        let mut source = Self::default();
        let mut set = HashSet::new();
        let mut rest = template;
        while let Some((start, kind)) = next_block(rest) {
            let inside = &rest[start + 2..];
            let end = match kind {
                Block::Comment => inside.find("#}").unwrap_or(inside.len()),
                Block::Code => source.code(inside, &mut set),
            };
            rest = inside.get(end + 2..).unwrap_or_default();
        }
        source
    }

    /// Whether the template reads a variable of the request with this name.
    pub fn reads(&self, name: &str) -> bool {
        self.reads.contains(name)
    }

    /// Whether the template has a string literal with this text.
    pub fn quotes(&self, text: &str) -> bool {
        self.literals.contains(text)
    }

    /// Reads a block up to its end, whose position is returned. `set` has the variables that the
    /// template has set so far.
    fn code(&mut self, code: &'a str, set: &mut HashSet<&'a str>) -> usize {
        let mut assigned = None;
        let (mut at, mut before) = (0, "");
        while let Some(c) = code[at..].chars().next() {
            let rest = &code[at..];
            if rest.starts_with("}}") || rest.starts_with("%}") {
                break;
            }
            if c == '"' || c == '\'' {
                let (text, length) = literal(rest, c);
                self.literals.insert(text);
                at += length;
                before = "literal";
                continue;
            }
            if !is_name(c) {
                at += c.len_utf8();
                if !c.is_whitespace() {
                    before = &rest[..c.len_utf8()];
                }
                continue;
            }
            let length = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            let name = &rest[..length];
            at += length;
            let after = code[at..].trim_start();
            let is_assigned = after.starts_with('=') && !after.starts_with("==");
            match before {
                // An attribute.
                "." => {}
                "set" if is_assigned => assigned = Some(name),
                // A keyword argument.
                _ if is_assigned => {}
                _ if set.contains(name) => {}
                _ => {
                    self.reads.insert(name);
                }
            }
            before = name;
        }
        set.extend(assigned);
        at
    }
}

enum Block {
    Comment,
    Code,
}

fn next_block(text: &str) -> Option<(usize, Block)> {
    text.match_indices('{').find_map(|(at, _)| {
        let kind = match text.as_bytes().get(at + 1)? {
            b'{' | b'%' => Block::Code,
            b'#' => Block::Comment,
            _ => return None,
        };
        Some((at, kind))
    })
}

/// Returns the text of a string literal, as it is written, and the length of the literal.
fn literal(text: &str, quote: char) -> (&str, usize) {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return (&text[1..at], at + 1),
            _ => {}
        }
    }
    (&text[1..], text.len())
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_variables_of_the_request() {
        for (template, reads) in [
            ("{% if thinking %}", true),
            ("{%- if thinking is defined and not thinking -%}", true),
            ("{% set thinking = thinking | default(true) %}", true),
            (
                "{% if not thinking is defined %}{% set thinking = false %}{% endif %}",
                true,
            ),
            ("{% set thinking = false %}{% if thinking %}", false),
            ("{{ message.thinking }}", false),
            ("{{ message['thinking'] }}", false),
            ("{{ f(thinking=1) }}", false),
            ("{{ f(x=thinking) }}", true),
            ("{{ '{% if thinking %}' }}", false),
            ("{# if thinking #}thinking{{ keep_thinking }}", false),
            ("{{ \"it's\" + thinking }}", true),
            ("{{ 'a\\'b' ~ thinking", true),
            ("{{ thinking == 1 }}", true),
        ] {
            assert_eq!(
                Source::read(template).reads("thinking"),
                reads,
                "{template}"
            );
        }
    }

    #[test]
    fn literals_are_known_by_their_text() {
        let source = Source::read("{{ effort in ['low', \"high\"] }} 'medium'");
        assert!(source.quotes("low") && source.quotes("high"));
        assert!(!source.quotes("medium"));
    }

    #[test]
    fn damaged_templates_are_read_as_far_as_possible() {
        for template in [
            "{", "{{", "{#", "{{ '", "{{ 'é\\", "{%é", "}}{{ a }", "{{{{",
        ] {
            Source::read(template);
        }
    }
}
