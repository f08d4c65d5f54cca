//! Values that several engines receive.

use reasoning::Format;
use serde_json::{Map, Value, json};
use worker_contract::{ALL_TOKENS, InferRequest, Message, Role, ToolDefinition};

/// Returns the seed of a choice. Engines have seeds of 32 bits.
pub(crate) fn engine_seed(request: &InferRequest, seed: u64) -> u32 {
    (seed as u32).wrapping_add(request.sampling.choice)
}

pub(crate) fn role(message: &Message) -> &'static str {
    match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// Returns a tool in the notation of OpenAI, which Ollama uses as well.
pub(crate) fn tool(tool: &ToolDefinition) -> Value {
    let parameters = tool.parameters.clone();
    let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    let mut function = json!({"name": tool.name, "parameters": parameters});
    if let Some(description) = &tool.description {
        function["description"] = json!(description);
    }
    if tool.strict {
        function["strict"] = json!(true);
    }
    json!({"type": "function", "function": function})
}

/// Sets the fields that have a value.
pub(crate) fn set(body: &mut Map<String, Value>, fields: &[(&str, Option<Value>)]) {
    for (name, value) in fields {
        if let Some(value) = value {
            body.insert((*name).to_owned(), value.clone());
        }
    }
}

/// Returns a message in the notation of OpenAI.
pub(crate) fn message(message: &Message) -> Value {
    let mut value = json!({"role": role(message), "content": message.content});
    if !message.images.is_empty() {
        let mut parts = vec![json!({"type": "text", "text": message.content})];
        parts.extend(message.images.iter().map(|image| {
            let media = image.media_type.as_deref().unwrap_or("image/png");
            let url = format!("data:{media};base64,{}", image.data);
            json!({"type": "image_url", "image_url": {"url": url}})
        }));
        value["content"] = Value::Array(parts);
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            json!({"id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": call.arguments}})
        });
        value["tool_calls"] = calls.collect();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = json!(id);
    }
    if let Some(name) = &message.name {
        value["name"] = json!(name);
    }
    if let Some(reasoning) = &message.reasoning {
        value["reasoning_content"] = json!(reasoning);
    }
    value
}

/// Writes the parameters of the sampler under the names of llama.cpp's server. The neutral value replaces a
/// default of the server where the contract has none.
pub(crate) fn llama_cpp_sampling(request: &InferRequest, context: u32, body: &mut Value) {
    let values = request.sampling.values.or(&request.sampling_defaults);
    body["temperature"] = json!(values.temperature.unwrap_or(1.0));
    body["top_p"] = json!(values.top_p.unwrap_or(1.0));
    body["top_k"] = json!(values.top_k.unwrap_or(0));
    body["min_p"] = json!(values.min_p.unwrap_or(0.0));
    body["typical_p"] = json!(values.typical_p.unwrap_or(1.0));
    body["repeat_penalty"] = json!(values.repetition_penalty.unwrap_or(1.0));
    body["frequency_penalty"] = json!(values.frequency_penalty.unwrap_or(0.0));
    body["presence_penalty"] = json!(values.presence_penalty.unwrap_or(0.0));
    // The server allocates memory for the window.
    let window = values.penalty_window.unwrap_or(ALL_TOKENS);
    body["repeat_last_n"] = json!(window.min(context));
}

/// Makes llama.cpp's server report the marks of reasoning, and end it after `budget` tokens. `opening` is
/// the mark that the prompt ends with, if it does.
pub(crate) fn limit_reasoning(
    body: &mut Value,
    format: &Format,
    opening: Option<&str>,
    budget: Option<u32>,
) {
    body["preserved_tokens"] = json!(format.marks());
    let Some(budget) = budget else { return };
    body["reasoning_budget_tokens"] = json!(budget);
    body["reasoning_budget_start_tag"] = json!(format.opening());
    body["reasoning_budget_end_tags"] = json!([format.closing()]);
    // Without this field, the server has nothing to end the reasoning with.
    body["reasoning_budget_message"] = json!("");
    if let Some(opening) = opening {
        body["generation_prompt"] = json!(opening);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_limits_reasoning() {
        let format = Format::detect("<think></think>", |_| false).unwrap();
        let mut body = json!({});
        limit_reasoning(&mut body, &format, Some("<think>"), Some(5));
        assert_eq!(body["reasoning_budget_tokens"], 5);
        assert_eq!(body["reasoning_budget_end_tags"], json!(["</think>"]));
        assert_eq!(body["reasoning_budget_message"], "");
        assert_eq!(body["generation_prompt"], "<think>");
    }
}
