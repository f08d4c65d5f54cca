/// Syntax in which a model writes tool calls.
///
/// The texts are spelled as models write them. When output is read, whitespace at their start and
/// end is optional.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolFormat {
    /// Name, for messages.
    pub name: &'static str,
    /// Marks that begin calls. If the list is empty, a call is the entire output.
    pub marks: &'static [&'static str],
    /// How calls follow one another.
    pub layout: Layout,
    /// How one call is written.
    pub call: Call,
    /// Another syntax of calls that is read, but not written.
    pub also: Option<&'static Call>,
}

/// How calls follow one another.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// Precedes the calls.
    pub open: &'static str,
    /// Separates two calls; `None` if an output has at most one call.
    pub between: Option<&'static str>,
    /// Follows the calls.
    pub close: &'static str,
    /// Whether each call has its own `open` and `close`.
    pub each: bool,
    /// Whether the calls may be elements of a list in brackets.
    pub list: bool,
    /// First character of a call without a mark, which nothing but whitespace may precede.
    pub unmarked: Option<char>,
    /// The prompt ends with the mark, so that the output begins after it.
    pub prefilled: bool,
    /// Stands in the place of a function's name where text follows.
    pub text_name: Option<&'static str>,
}

/// How one call is written.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// A JSON object with the name and the arguments of the function.
    Object {
        /// Precedes the name, as JSON.
        begin: &'static str,
        /// Precedes the arguments.
        arguments: &'static str,
    },
    /// The name of the function, then its arguments.
    Named {
        /// What precedes the arguments, the name included.
        head: &'static [Item],
        /// The arguments.
        arguments: Arguments,
        /// Texts that follow the arguments.
        end: &'static [&'static str],
    },
}

/// A part of what precedes the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A text.
    Text(&'static str),
    /// A text that models may leave out.
    Optional(&'static str),
    /// The name of the function.
    Name,
    /// A text, followed by letters and digits, that models may leave out. It is not written.
    MaybeId(&'static str),
    /// Any short text. This one is written.
    Any(&'static str),
}

/// Syntax of arguments.
#[derive(Debug, PartialEq, Eq)]
pub enum Arguments {
    /// A JSON object.
    Json,
    /// One marked text for each argument.
    Fields(Fields),
    /// Keyword arguments in the syntax of Python, and a closing parenthesis.
    Python,
    /// Entries of an object with unquoted keys and with strings between `<|"|>`, and a closing
    /// brace.
    Gemma,
}

/// Arguments with a mark before and after each value.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields {
    /// Precedes a key.
    pub open: &'static str,
    /// Follows a key.
    pub key_end: &'static str,
    /// Precedes a value; attributes may stand before it. Empty if `key_end` precedes the value.
    pub value: &'static str,
    /// Stands around a value and is not part of it.
    pub pad: &'static str,
    /// Follows a value.
    pub close: &'static str,
    /// Separates two arguments.
    pub between: &'static str,
}

impl ToolFormat {
    /// Returns all texts of the format. Special tokens that occur in them mark calls.
    pub fn texts(&self) -> Vec<&'static str> {
        let mut texts = self.marks.to_vec();
        let layout = &self.layout;
        texts.extend([
            layout.open,
            layout.between.unwrap_or_default(),
            layout.close,
        ]);
        for call in [Some(&self.call), self.also].into_iter().flatten() {
            let Call::Named {
                head,
                arguments,
                end,
            } = call
            else {
                continue;
            };
            texts.extend(head.iter().filter_map(|item| match item {
                Item::Text(text) | Item::Optional(text) | Item::MaybeId(text) | Item::Any(text) => {
                    Some(*text)
                }
                Item::Name => None,
            }));
            texts.extend(*end);
            match arguments {
                Arguments::Fields(fields) => {
                    texts.extend([fields.open, fields.key_end, fields.value, fields.close]);
                }
                Arguments::Gemma => texts.push(super::literal::GEMMA_QUOTE),
                Arguments::Json | Arguments::Python => {}
            }
        }
        texts.retain(|text| !text.is_empty());
        texts
    }
}
