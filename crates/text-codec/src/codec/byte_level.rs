//! The codec that needs no model.

use std::collections::HashMap;

use super::{Boundaries, Codec, CodecSettings, Encoder};
use crate::token_table::TokenTable;

const END: u32 = 256;
const END_TEXT: &str = "<|end|>";
/// Writes tool calls in the format of Hermes.
const TEMPLATE: &str = "\
{% if tools %}tools: {{ tools | tojson }}\n{% endif %}\
{% for m in messages %}{{ m.role }}: {{ m.content }}\
{% for call in m.tool_calls or [] %}<tool_call>\
{\"name\": {{ call.function.name | tojson }}, \"arguments\": {{ call.function.arguments | tojson }}}\
</tool_call>{% endfor %}{{ '\n' }}{% endfor %}assistant: ";
const CONTENT: &str = "{{ m.content }}";
/// Precedes the content for a model that reasons.
const EARLIER_REASONING: &str =
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}";
/// End of a prompt for a model that reasons: reasoning that was turned off.
const NO_REASONING: &str =
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n";
const OPENED_REASONING: &str = "{% else %}<think>\n";

impl Codec {
    /// A codec that needs no model: token ids 0 to 255 are bytes; 256, written `<|end|>`, ends
    /// generation.
    pub fn byte_level() -> Self {
        Self::byte_level_with_template(TEMPLATE.to_owned())
    }

    /// The codec of [`Self::byte_level`] for a model that reasons between `<think>` and
    /// `</think>`, and where the prompt contains the opening mark if `opened` is set.
    pub fn byte_level_with_reasoning(opened: bool) -> Self {
        let opening = if opened { OPENED_REASONING } else { "" };
        let messages = TEMPLATE.replace(CONTENT, &format!("{EARLIER_REASONING}{CONTENT}"));
        Self::byte_level_with_template(format!("{messages}{NO_REASONING}{opening}{{% endif %}}"))
    }

    fn byte_level_with_template(template: String) -> Self {
        let bytes = (0..=u8::MAX).map(|b| (u32::from(b), vec![b])).collect();
        let special = HashMap::from([(END, END_TEXT.to_owned())]);
        let settings = CodecSettings {
            chat_template: Some(template),
            eos_token: Some(END_TEXT.to_owned()),
            ..CodecSettings::default()
        };
        // 257 ids are within the table's limit.
        let table = TokenTable::new(&bytes, special).unwrap_or_default();
        Self::new(Encoder::Bytes, table, Boundaries::default(), settings)
    }
}

/// Encodes a text in which [`END_TEXT`] is the end token.
pub(super) fn encode(text: &str) -> Vec<u32> {
    let mut ids = Vec::with_capacity(text.len());
    for (index, part) in text.split(END_TEXT).enumerate() {
        if index > 0 {
            ids.push(END);
        }
        ids.extend(part.bytes().map(u32::from));
    }
    ids
}
