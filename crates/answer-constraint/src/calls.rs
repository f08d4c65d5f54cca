//! Grammars of tool calls, in Lark syntax.

use diagnostics::Diagnostic;
use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

use crate::{
    closed::close_objects,
    errors,
    lenience::Lenience,
    output::{Calls, Fields, Function, Piece, Syntax, Trigger},
    schema::{self, Options, Prepared},
};

/// Any text that is a name of an argument.
const ANY_KEY: &str = "/[A-Za-z_][A-Za-z0-9_.-]*/";

/// The rules and grammars of a constraint.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub lines: Vec<String>,
    pub grammars: Vec<GrammarWithLexer>,
    /// What is not enforced, as sentences for the user.
    pub notes: Vec<String>,
}

impl Rules {
    /// Adds the rule `calls`.
    pub fn calls(&mut self, calls: &Calls, lenience: &Lenience) -> Result<(), Diagnostic> {
        let [open, close] = [&calls.open, &calls.close].map(|pieces| lark(pieces));
        let divider = calls.divider.as_deref().map(lark);
        let more = divider.map_or_else(String::new, |divider| format!("({divider} call)*"));
        self.lines
            .push(format!("calls: {open} call {more} {close}"));
        let mut names = Vec::with_capacity(calls.functions.len());
        for (nth, function) in calls.functions.iter().enumerate() {
            let [begin, end] = [&function.begin, &function.end].map(|pieces| lark(pieces));
            let arguments = self.arguments(nth, function, lenience)?;
            self.lines
                .push(format!("call{nth}: {begin} {arguments} {end}"));
            names.push(format!("call{nth}"));
        }
        self.lines.push(format!("call: {}", names.join(" | ")));
        Ok(())
    }

    /// Adds the rule `mixed`: text in which calls may occur. `special` are the tokens without
    /// text.
    pub fn mixed(&mut self, trigger: &Trigger, special: &[u32]) {
        let anything = "/(?s:.+)/";
        let (mark, excluded) = match trigger {
            Trigger::Start(first) => {
                let others = format!("/[ \\t\\r\\n]*[^{} \\t\\r\\n](?s:.*)/", class(*first));
                self.lines.push(format!("FREE: {others}"));
                self.lines.push(format!("MORE: {anything}"));
                let special = special_tokens(special, None);
                let more = special
                    .map_or_else(String::new, |special| format!("| FREE? ({special} MORE?)+"));
                self.lines
                    .push(format!("mixed: calls | FREE {more} | \"\""));
                return;
            }
            Trigger::Mark { mark, excluded } => (mark, excluded),
        };
        let (token, text) = match mark {
            Piece::Token(id) => (Some(*id), None),
            Piece::Text(text) => (None, Some(text.as_str())),
        };
        let without = |texts: &mut dyn Iterator<Item = &str>| {
            let texts = texts.map(|text| regex_syntax::escape(text).replace('/', "\\/"));
            let texts = texts.collect::<Vec<_>>().join("|");
            if texts.is_empty() {
                return String::new();
            }
            format!(" & ~/(?s:.*({texts}).*)/")
        };
        let excluded = || excluded.iter().map(String::as_str);
        let free = without(&mut excluded().chain(text));
        self.lines.push(format!("FREE: {anything}{free}"));
        if let Some(text) = text {
            let before = without(&mut excluded());
            let text = Value::from(text);
            self.lines.push(format!("BEFORE: /(?s:.*)/{before}"));
            self.lines.push(format!("marked[lazy]: BEFORE {text}"));
            self.lines.push("part: (marked calls)* FREE?".to_owned());
        } else if let Some(id) = token {
            self.lines
                .push(format!("part: FREE? (<[{id}]> calls FREE?)*"));
        }
        let more = special_tokens(special, token);
        let more = more.map_or_else(String::new, |special| format!("({special} part)*"));
        self.lines.push(format!("mixed: part {more}"));
    }

    /// Adds the grammar of a function's arguments and returns the expression for it.
    fn arguments(
        &mut self,
        nth: usize,
        function: &Function,
        lenience: &Lenience,
    ) -> Result<String, Diagnostic> {
        let schema = match lenience.any.get(&nth) {
            Some(note) => {
                self.notes.push(note.clone());
                prepared(&any_object(), Options::default())?
            }
            None => self.function_schema(nth, function, lenience)?,
        };
        match &function.syntax {
            Syntax::Json => {
                self.json(format!("arguments{nth}"), schema);
                Ok(format!("@arguments{nth}"))
            }
            Syntax::Fields(fields) => {
                self.fields(nth, fields, &schema);
                Ok(format!("fields{nth}"))
            }
        }
    }

    fn function_schema(
        &mut self,
        nth: usize,
        function: &Function,
        lenience: &Lenience,
    ) -> Result<Value, Diagnostic> {
        let options = Options {
            strict: function.strict,
            coerce_one_of: lenience.one_of.contains(&nth),
        };
        match prepared_arguments(function, options) {
            Ok(prepared) => {
                let mut ignored = prepared.ignored;
                if options.coerce_one_of {
                    ignored = Some(errors::with_one_of(ignored));
                }
                let subject = || errors::parameters_of(&function.name);
                let note = ignored.map(|ignored| errors::ignored(&subject(), &ignored));
                self.notes.extend(note);
                Ok(prepared.schema)
            }
            Err(error) if function.strict => Err(errors::in_function(error, &function.name)),
            Err(error) => {
                self.notes
                    .push(errors::any_arguments(&function.name, &error));
                prepared(&any_object(), Options::default())
            }
        }
    }

    fn json(&mut self, name: String, schema: Value) {
        self.grammars.push(GrammarWithLexer {
            name: Some(name),
            ..GrammarWithLexer::from_json_schema(schema)
        });
    }

    /// Adds the rule `fields…` for properties that stand by themselves.
    fn fields(&mut self, nth: usize, fields: &Fields, schema: &Value) {
        let no_properties = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        let properties = properties.unwrap_or(&no_properties);
        let required: Vec<&str> = match schema.get("required") {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let rule = format!("fields{nth}");
        if properties.is_empty() {
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            if closed {
                self.lines.push(format!("{rule}: \"\""));
                return;
            }
            let plain = self.plain(nth, fields);
            let [open, assign, divider] =
                [&fields.open, &fields.assign, &fields.divider].map(|pieces| lark(pieces));
            self.lines
                .push(format!("one{nth}: {open} {ANY_KEY} {assign} {plain}"));
            self.lines
                .push(format!("{rule}: (one{nth} ({divider} one{nth})*)?"));
            return;
        }
        let mut required_rules = Vec::new();
        let mut optional_rules = Vec::new();
        for (field, (name, property)) in properties.iter().enumerate() {
            let rule = format!("field{nth}_{field}");
            let value = self.field_value(nth, field, fields, (name, property), schema);
            let open = lark_text(&fields.open, name, &fields.assign);
            self.lines.push(format!("{rule}: {open} {value}"));
            if required.contains(&name.as_str()) {
                required_rules.push(rule);
            } else {
                optional_rules.push(rule);
            }
        }
        let divider = lark(&fields.divider);
        // `tail…_n` is the rest of the optional properties from the one with number n, after
        // another property; `head…_n` is the same at the start.
        let count = optional_rules.len();
        for (n, optional) in optional_rules.iter().enumerate() {
            let next = n + 1;
            self.lines.push(format!(
                "tail{nth}_{n}: ({divider} {optional})? tail{nth}_{next}"
            ));
            self.lines.push(format!(
                "head{nth}_{n}: {optional} tail{nth}_{next} | head{nth}_{next}"
            ));
        }
        self.lines.push(format!("tail{nth}_{count}: \"\""));
        self.lines.push(format!("head{nth}_{count}: \"\""));
        if required_rules.is_empty() {
            self.lines.push(format!("{rule}: head{nth}_0"));
        } else {
            let all = required_rules.join(&format!(" {divider} "));
            self.lines.push(format!("{rule}: {all} tail{nth}_0"));
        }
    }

    /// Returns the expression for a value and what follows it.
    fn field_value(
        &mut self,
        nth: usize,
        field: usize,
        fields: &Fields,
        (name, property): (&String, &Value),
        root: &Value,
    ) -> String {
        let close = lark(&fields.close);
        if fields.plain.contains(name) {
            let quote = lark(&fields.quote);
            let choices = property.get("enum").and_then(Value::as_array);
            let literals = choices.and_then(|choices| {
                let texts = choices
                    .iter()
                    .map(|choice| Some(choice.as_str()?.to_owned()));
                texts.collect::<Option<Vec<String>>>()
            });
            let constant = property.get("const").and_then(Value::as_str);
            let literals = literals.or_else(|| Some(vec![constant?.to_owned()]));
            if let Some(literals) = literals.filter(|literals| !literals.is_empty()) {
                let literals = literals
                    .iter()
                    .map(|text| Value::from(text.as_str()).to_string());
                let literals = literals.collect::<Vec<_>>().join(" | ");
                return format!("{quote} ({literals}) {quote} {close}");
            }
            return self.plain(nth, fields);
        }
        let grammar = format!("value{nth}_{field}");
        let mut schema = match property {
            Value::Object(schema) => schema.clone(),
            _ => Map::new(),
        };
        for shared in ["$defs", "definitions", "x-guidance"] {
            if let Some(value) = root.get(shared) {
                schema.insert(shared.to_owned(), value.clone());
            }
        }
        self.json(grammar.clone(), Value::Object(schema));
        format!("@{grammar} {close}")
    }

    /// Returns the expression for a plain string and what follows it.
    fn plain(&mut self, nth: usize, fields: &Fields) -> String {
        let quote = lark(&fields.quote);
        let close = [&fields.quote[..], &fields.close[..]].concat();
        let rule = format!("plain{nth}");
        let defined = self
            .lines
            .iter()
            .any(|r| r.starts_with(&format!("{rule}[lazy]:")));
        match close.split_first() {
            Some((Piece::Text(text), rest)) => {
                if !defined {
                    let text = Value::from(text.as_str());
                    self.lines.push(format!("{rule}[lazy]: /(?s:.*)/ {text}"));
                }
                format!("{quote} {rule} {}", lark(rest))
            }
            _ => format!("{quote} /(?s:.+)/? {}", lark(&close)),
        }
    }
}

/// Returns the grammar of a function's arguments alone.
pub(crate) fn arguments(
    function: &Function,
    coerce_one_of: bool,
) -> Result<GrammarWithLexer, Diagnostic> {
    let options = Options {
        strict: function.strict,
        coerce_one_of,
    };
    let prepared = prepared_arguments(function, options)?;
    Ok(GrammarWithLexer::from_json_schema(prepared.schema))
}

fn prepared_arguments(function: &Function, options: Options) -> Result<Prepared, Diagnostic> {
    let mut prepared = schema::prepare(&function.arguments, options)?;
    close_objects(&mut prepared.schema);
    Ok(prepared)
}

fn prepared(schema: &Value, options: Options) -> Result<Value, Diagnostic> {
    schema::prepare(schema, options).map(|prepared| prepared.schema)
}

fn any_object() -> Value {
    json!({"type": "object"})
}

/// Formats pieces in Lark syntax.
pub(crate) fn lark(pieces: &[Piece]) -> String {
    let terms = pieces.iter().map(|piece| match piece {
        // Lark strings are escaped like JSON strings.
        Piece::Text(text) => Value::from(text.as_str()).to_string(),
        Piece::Token(id) => format!("<[{id}]>"),
    });
    terms.collect::<Vec<_>>().join(" ")
}

/// Formats pieces around a text in Lark syntax, with as few strings as possible.
fn lark_text(before: &[Piece], text: &str, after: &[Piece]) -> String {
    let mut pieces: Vec<Piece> = before.to_vec();
    let text = [Piece::Text(text.to_owned())];
    for piece in text.iter().chain(after) {
        match (pieces.last_mut(), piece) {
            (Some(Piece::Text(last)), Piece::Text(more)) => last.push_str(more),
            _ => pieces.push(piece.clone()),
        }
    }
    lark(&pieces)
}

/// Formats tokens without text in Lark syntax, as ranges; `None` if there are none.
fn special_tokens(ids: &[u32], except: Option<u32>) -> Option<String> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for id in ids.iter().copied().filter(|id| Some(*id) != except) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    let ranges = ranges.iter().map(|(first, last)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    });
    let ranges: Vec<String> = ranges.collect();
    (!ranges.is_empty()).then(|| format!("<[{}]>", ranges.join(",")))
}

/// Escapes a character within a class of a regular expression.
fn class(c: char) -> String {
    format!("\\{c}")
}
