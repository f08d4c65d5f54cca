use serde_json::{Map, Value};

/// Returns the object that `text` begins. What is cut off in the middle is left out, as the
/// clients of Anthropic do when they accumulate a stream; text that begins no object is `{}`.
pub(super) fn partial_object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&completed(text)))
        .unwrap_or_default()
}

/// Cuts `text` off after its last complete value, and closes what is open there.
fn completed(text: &str) -> String {
    let mut open = Vec::new();
    let mut complete = (0, Vec::new());
    let (mut in_string, mut escaped, mut is_key) = (false, false, false);
    for (i, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    in_string = false;
                    if !is_key {
                        complete = (i + 1, open.clone());
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b':' => is_key = false,
            b',' => {
                complete = (i, open.clone());
                is_key = open.last() == Some(&'}');
            }
            b'{' | b'[' => {
                is_key = byte == b'{';
                open.push(if is_key { '}' } else { ']' });
                complete = (i + 1, open.clone());
            }
            b'}' | b']' => {
                open.pop();
                complete = (i + 1, open.clone());
            }
            _ => {}
        }
    }
    let (length, open) = complete;
    let closed = open.into_iter().rev();
    text.get(..length)
        .unwrap_or_default()
        .chars()
        .chain(closed)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::testing::any_json;

    #[test]
    fn what_is_cut_off_is_left_out() {
        for (text, expected) in [
            ("", json!({})),
            ("{", json!({})),
            ("{\"cut", json!({})),
            ("{\"cut\"", json!({})),
            ("{\"cut\":", json!({})),
            ("{\"cut\":\"of", json!({})),
            ("{\"a\":\"b\\\"", json!({})),
            ("{\"a\":\"b\"", json!({"a": "b"})),
            ("{\"a\":1", json!({})),
            ("{\"a\":1,", json!({"a": 1})),
            ("{\"a\":1,\"b\":tr", json!({"a": 1})),
            ("{\"a\":[1,[2,\"x\"", json!({"a": [1, [2, "x"]]})),
            ("{\"a\":{\"b\":\"é\",\"c\":\"é", json!({"a": {"b": "é"}})),
            ("{\"a\":1}", json!({"a": 1})),
            ("no object", json!({})),
            ("[1,2", json!({})),
            ("]}{", json!({})),
        ] {
            assert_eq!(Value::Object(partial_object(text)), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_beginning_of_an_object_has_its_complete_members(
            members in proptest::collection::vec(("[a-z\"\\\\]{1,4}", any_json()), 1..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let object: Map<String, Value> = members.into_iter().collect();
            let text = Value::Object(object).to_string();
            // Parsed again, because that may change the last bit of a number.
            let object: Map<String, Value> = serde_json::from_str(&text).unwrap();
            let cut = text.floor_char_boundary(cut.index(text.len() + 1));
            let partial = partial_object(&text[..cut]);
            // All members but the last are complete.
            for (name, value) in partial.iter().rev().skip(1) {
                prop_assert_eq!(Some(value), object.get(name));
            }
            prop_assert!(partial.keys().all(|name| object.contains_key(name)));
        }
    }
}
