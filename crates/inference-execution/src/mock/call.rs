//! The mock engine's output with `answer=call`: a call of the first tool, and after its result
//! the result. A constraint can require another tool or JSON: then the output is a call of that
//! tool, or an object whose names are the quoted texts of the message. Where the constraint
//! permits none of these, the output is as short as it permits.
//!
//! The prompt has the format of the byte-level codec's chat template, and calls have that of
//! Hermes.

use serde_json::{Map, Value};

use super::{
    echo::{ASSISTANT, last_message},
    words::END,
};

/// Maximum nesting of the arguments of a call.
const MAX_DEPTH: usize = 8;
/// Logit of the text that is written if a constraint does not permit the whitespace before it.
const WITHOUT_SPACE_LOGIT: f32 = -20.0;

/// Writes the logits that follow `tokens` to `row`.
pub(super) fn write_logits(tokens: &[u32], row: &mut [f32]) {
    let bytes: Vec<u8> = tokens
        .iter()
        .map(|token| u8::try_from(*token).unwrap_or(0))
        .collect();
    let starts: Vec<usize> = bytes
        .windows(ASSISTANT.len())
        .enumerate()
        .filter(|(_, window)| *window == ASSISTANT)
        .map(|(at, _)| at)
        .collect();
    let output = |start: usize| &bytes[start + ASSISTANT.len()..];
    let in_string = starts.last().is_some_and(|start| {
        let bytes = output(*start).iter();
        bytes.fold(false, |inside, byte| inside != (*byte == b'"'))
    });
    for (token, logit) in row.iter_mut().enumerate() {
        *logit = short_answer_logit(token, in_string);
    }
    for start in starts {
        for answer in answers(&bytes[..start]) {
            if let Some(rest) = rest(output(start), answer.as_bytes()) {
                prefer(rest, row);
                return;
            }
        }
    }
}

/// Sets the logits of the next token of an answer, with and without whitespace.
fn prefer(rest: &[u8], row: &mut [f32]) {
    let mut set = |byte: Option<&u8>, logit: f32| {
        let token = byte.map_or(END, |byte| u32::from(*byte)) as usize;
        if let Some(value) = row.get_mut(token) {
            *value = logit;
        }
    };
    let first_word = rest.iter().find(|byte| !byte.is_ascii_whitespace());
    set(first_word, WITHOUT_SPACE_LOGIT);
    set(rest.first(), 0.0);
}

/// Returns a logit that is the higher the sooner the token ends an answer in JSON.
fn short_answer_logit(token: usize, in_string: bool) -> f32 {
    let rank: u8 = match u8::try_from(token) {
        Err(_) => 0,
        Ok(b'"') if in_string => 1,
        Ok(b'}') => 2,
        Ok(b']') => 3,
        Ok(b'"') => 4,
        Ok(b'1') => 5,
        Ok(byte) if byte.is_ascii_whitespace() => 7,
        Ok(_) => 6,
    };
    -40.0 * (1.0 + f32::from(rank))
}

/// Returns what follows `so_far` in `answer`, regardless of the amount of whitespace; `None` if
/// the answer does not start with `so_far`.
fn rest<'a>(so_far: &[u8], answer: &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = answer;
    for byte in so_far {
        rest = match rest.split_first() {
            Some((first, after)) if first == byte => after,
            _ if byte.is_ascii_whitespace() => rest.trim_ascii_start(),
            _ => {
                let (first, after) = rest.trim_ascii_start().split_first()?;
                (first == byte).then_some(after)?
            }
        };
    }
    Some(rest)
}

/// Returns the possible answers to a prompt, best first.
fn answers(prompt: &[u8]) -> Vec<String> {
    let message = last_message(prompt);
    let text = String::from_utf8_lossy(message);
    let mut answers = Vec::new();
    // A tool result is answered with itself, a message of the user with a call.
    if prompt.ends_with(&[b"user: ", message].concat()) {
        for call in calls(prompt, &text).unwrap_or_default() {
            answers.push(format!("<tool_call>\n{call}\n</tool_call>"));
        }
    }
    if answers.is_empty() {
        answers.push(text.clone().into_owned());
    }
    let names = text.split('\'').skip(1).step_by(2);
    let members = names.map(|name| (name.to_owned(), Value::from("")));
    answers.push(spaced(&Value::Object(members.collect())));
    answers
}

/// Returns a call of each tool; `None` if the prompt has no tools.
fn calls(prompt: &[u8], message: &str) -> Option<Vec<String>> {
    let list = prompt.strip_prefix(b"tools: ")?;
    let line = list.split(|byte| *byte == b'\n').next()?;
    let tools: Vec<Value> = serde_json::from_slice(line).ok()?;
    let call = |tool: Value| {
        let function = tool.get("function")?;
        let schema = function.get("parameters").unwrap_or(&Value::Null);
        let arguments = spaced(&value(schema, message, 0));
        let name = function.get("name")?;
        Some(format!("{{\"name\": {name}, \"arguments\": {arguments}}}"))
    };
    tools.into_iter().map(call).collect()
}

/// Returns a value that fits a schema: numbers and quoted texts come from the message.
fn value(schema: &Value, message: &str, depth: usize) -> Value {
    let listed = schema.get("enum").and_then(|values| values.get(0));
    if let Some(value) = schema.get("const").or(listed) {
        return value.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => number(message).into(),
        Some("string") => quoted(message).into(),
        Some("boolean") => true.into(),
        Some("array") => Value::Array(Vec::new()),
        Some("null") => Value::Null,
        _ if depth == MAX_DEPTH => Value::Null,
        _ => {
            // A constraint has the order of the properties.
            let required = schema.get("required").and_then(Value::as_array);
            let is_required =
                |name: &str| required.is_some_and(|names| names.iter().any(|n| n == name));
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties
                .into_iter()
                .flatten()
                .filter(|(name, _)| is_required(name))
                .map(|(name, member)| (name.clone(), value(member, message, depth + 1)));
            Value::Object(members.collect::<Map<_, _>>())
        }
    }
}

/// Returns the first number of a text, else 1.
fn number(text: &str) -> u32 {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    parts.find_map(|digits| digits.parse().ok()).unwrap_or(1)
}

/// Returns the first text between apostrophes, else the entire text.
fn quoted(text: &str) -> &str {
    let mut parts = text.split('\'');
    match (parts.nth(1), parts.next()) {
        (Some(quoted), Some(_)) => quoted,
        _ => text,
    }
}

/// Writes JSON as Python does by default: with a space after `,` and `:`.
fn spaced(value: &Value) -> String {
    let join = |items: Vec<String>| items.join(", ");
    match value {
        Value::Array(items) => format!("[{}]", join(items.iter().map(spaced).collect())),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{}: {}", Value::from(String::clone(name)), spaced(value))
            };
            format!("{{{}}}", join(members.iter().map(member).collect()))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use text_codec::Codec;
    use worker_contract::{Message, Role, ToolDefinition};

    use super::*;

    fn tools(parameters: &Value) -> Vec<ToolDefinition> {
        let tool = json!({"name": "f", "parameters": parameters});
        vec![serde_json::from_value(tool).unwrap()]
    }

    /// Generates with the tokens that `permits` allows after an output.
    fn generate(
        messages: &[Message],
        tools: &[ToolDefinition],
        permits: impl Fn(&str, u32) -> bool,
    ) -> String {
        let mut tokens = Codec::byte_level().encode_chat(messages, tools).unwrap();
        let mut output = String::new();
        let mut row = [0.0; 257];
        let mut bytes = Vec::new();
        loop {
            write_logits(&tokens, &mut row);
            let permitted = (0..257_u32).filter(|token| permits(&output, *token));
            let next = permitted.max_by(|a, b| row[*a as usize].total_cmp(&row[*b as usize]));
            match next.unwrap() {
                END => return output,
                token => {
                    tokens.push(token);
                    bytes.push(token as u8);
                    output = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
    }

    #[test]
    fn calls_the_first_tool_then_repeats_its_result() {
        let tools = tools(&json!({
            "properties": {
                "a": {"type": "integer"}, "b": {"type": "string"}, "c": {"enum": ["x", "y"]},
                "d": {"type": "object", "required": ["e"], "properties": {"e": {"type": "array"}}},
                "optional": {"type": "string"}
            },
            "required": ["d", "c", "b", "a"]
        }));
        let user = Message::new(Role::User, "f(30) of '你好 \"1\"'?");
        let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 30, \
                    \"b\": \"你好 \\\"1\\\"\", \"c\": \"x\", \"d\": {\"e\": []}}}\n</tool_call>";
        assert_eq!(
            generate(std::slice::from_ref(&user), &tools, |_, _| true),
            call
        );
        let conversation = [
            user,
            Message::new(Role::Assistant, call),
            Message::new(Role::Tool, "21 degrees"),
        ];
        assert_eq!(generate(&conversation, &tools, |_, _| true), "21 degrees");
    }

    #[test]
    fn without_tools_it_repeats_the_message() {
        let user = Message::new(Role::User, "a  b");
        assert_eq!(generate(&[user], &[], |_, _| true), "a  b");
    }

    /// Permits only outputs that start like `text`, after which anything may follow.
    fn begins(text: &str) -> impl Fn(&str, u32) -> bool {
        move |output, token| match text.as_bytes().get(output.len()) {
            Some(byte) => token == u32::from(*byte),
            None => true,
        }
    }

    #[test]
    fn constrained_output_is_a_call_an_object_of_the_quoted_texts_or_short() {
        let tool = |name: &str| {
            let parameters = json!({"properties": {"a": {"type": "integer"}}, "required": ["a"]});
            let tool = json!({"name": name, "parameters": parameters});
            serde_json::from_value::<ToolDefinition>(tool).unwrap()
        };
        let tools = [tool("f"), tool("g")];
        let user = [Message::new(Role::User, "g(30) with 'b' and 'c'")];
        let call = "<tool_call>\n{\"name\": \"g\", \"arguments\": {\"a\": 30}}\n</tool_call>";
        let other_tool = begins("<tool_call>\n{\"name\": \"g\"");
        assert_eq!(generate(&user, &tools, other_tool), call);
        assert_eq!(
            generate(&user, &[], begins("{")),
            "{\"b\": \"\", \"c\": \"\"}"
        );
        let other = begins("{\"title\":\"");
        assert_eq!(generate(&user, &[], other), "{\"title\":\"");
    }

    #[test]
    fn constrained_output_has_another_spacing() {
        let tools = tools(&json!({"properties": {"a": {"type": "integer"}}, "required": ["a"]}));
        let user = [Message::new(Role::User, "f(30)")];
        let no_space = |_: &str, token: u32| !matches!(token, 10 | 32);
        assert_eq!(
            generate(&user, &tools, no_space),
            "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":30}}</tool_call>"
        );
    }
}
