//! Ollama's own interface (`docs/api.md` of its repository), which has more than its imitation of
//! OpenAI's.

use diagnostics::Diagnostic;
use serde_json::{Map, Value, json};
use worker_contract::{
    ALL_TOKENS, Constraint, FinishReason, InferInput, InferRequest, Message, ToolCallPiece,
    ToolChoice,
};

use crate::{
    adapter::Adapter,
    call::{Call, Framing},
    errors,
    json::{count, logprob, text},
    piece::{Counts, Piece, Update},
    thinking::Thinking,
    values::{engine_seed, role, set, tool},
};

/// Translates a request.
pub(crate) fn call(
    adapter: &Adapter,
    request: &InferRequest,
    thinking: &Thinking,
    seed: u64,
    notes: &mut Vec<String>,
) -> Result<Call, Diagnostic> {
    let mut body = json!({
        "model": adapter.facts().model,
        "stream": true,
        "keep_alive": -1,
        "options": options(adapter, request, seed)?,
    });
    if let Some(top) = request.logprobs {
        body["logprobs"] = json!(true);
        body["top_logprobs"] = json!(top);
    }
    constrain(adapter, request, &mut body)?;
    thinking.note_budget(adapter.kind().name(), notes);
    if !thinking.variables.is_empty() {
        notes.push("the engine has no variables of chat templates; they were ignored".into());
    }
    let path = match &request.input {
        InferInput::Tokens(_) => return Err(adapter.unsupported("prompts of tokens", "input")),
        InferInput::Prompt(prompt) => {
            body["prompt"] = json!(prompt);
            // Without a template.
            body["raw"] = json!(true);
            "/api/generate"
        }
        InferInput::Messages(messages) => {
            chat(adapter, request, messages, thinking, &mut body)?;
            "/api/chat"
        }
    };
    Ok(Call::new(path, body, Framing::Lines(read)))
}

fn chat(
    adapter: &Adapter,
    request: &InferRequest,
    messages: &[Message],
    thinking: &Thinking,
    body: &mut Value,
) -> Result<(), Diagnostic> {
    // A last message of the assistant is continued. Any other one is answered.
    let ends_with_answer = messages.last().is_some_and(|m| role(m) == "assistant");
    if ends_with_answer && !request.continue_final_message {
        let what = "answering a conversation that ends with a message of the assistant";
        return Err(adapter.unsupported(what, "input"));
    }
    body["messages"] = messages.iter().map(message).collect();
    if request.may_call() {
        if request.tool_choice != ToolChoice::Auto {
            return Err(adapter.unsupported("a call that is required", "tool_choice"));
        }
        body["tools"] = request.tools.iter().map(tool).collect();
    }
    match (&thinking.effort, thinking.enabled) {
        (Some(effort), _) if ["low", "medium", "high"].contains(&effort.as_str()) => {
            body["think"] = json!(effort);
        }
        (_, Some(enabled)) => body["think"] = json!(enabled),
        (_, None) => {}
    }
    Ok(())
}

fn options(adapter: &Adapter, request: &InferRequest, seed: u64) -> Result<Value, Diagnostic> {
    let values = request.sampling.values.or(&request.sampling_defaults);
    if !request.sampling.logit_bias.is_empty() {
        return Err(adapter.unsupported("logit_bias", "sampling.logit_bias"));
    }
    let mut options = Map::new();
    let window = values.penalty_window.map(|window| match window {
        ALL_TOKENS => json!(-1),
        window => json!(window),
    });
    set(
        &mut options,
        &[
            ("seed", Some(json!(engine_seed(request, seed) >> 1))),
            ("num_predict", request.max_tokens.map(|v| json!(v))),
            ("temperature", values.temperature.map(|v| json!(v))),
            ("top_p", values.top_p.map(|v| json!(v))),
            ("top_k", values.top_k.map(|v| json!(v))),
            ("min_p", values.min_p.map(|v| json!(v))),
            ("typical_p", values.typical_p.map(|v| json!(v))),
            (
                "repeat_penalty",
                values.repetition_penalty.map(|v| json!(v)),
            ),
            (
                "frequency_penalty",
                values.frequency_penalty.map(|v| json!(v)),
            ),
            (
                "presence_penalty",
                values.presence_penalty.map(|v| json!(v)),
            ),
            ("repeat_last_n", window),
            // Another value than before loads the model again.
            (
                "num_ctx",
                adapter.settings().context_length.map(|v| json!(v)),
            ),
        ],
    );
    Ok(Value::Object(options))
}

fn constrain(
    adapter: &Adapter,
    request: &InferRequest,
    body: &mut Value,
) -> Result<(), Diagnostic> {
    match &request.constraint {
        None => {}
        Some(Constraint::JsonObject) => body["format"] = json!("json"),
        Some(Constraint::JsonSchema(schema) | Constraint::StrictJsonSchema(schema)) => {
            body["format"] = schema.clone();
        }
        Some(Constraint::Regex(_)) => {
            return Err(adapter.unsupported("regular expressions", "constraint"));
        }
        Some(Constraint::Grammar(_)) => {
            return Err(adapter.unsupported("grammars", "constraint"));
        }
    }
    Ok(())
}

fn message(message: &Message) -> Value {
    let mut value = json!({"role": role(message), "content": message.content});
    if !message.images.is_empty() {
        let images = message.images.iter().map(|image| json!(image.data));
        value["images"] = images.collect();
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            // Ollama has arguments as an object, not as a text.
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or(json!({}));
            json!({"id": call.id, "function": {"name": call.name, "arguments": arguments}})
        });
        value["tool_calls"] = calls.collect();
    }
    if let Some(name) = &message.name {
        value["tool_name"] = json!(name);
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = json!(id);
    }
    if let Some(reasoning) = &message.reasoning {
        value["thinking"] = json!(reasoning);
    }
    value
}

/// Reads a line of the response.
fn read(line: &Value) -> Vec<Update> {
    if let Some(error) = line.get("error") {
        return vec![Update::Failed(errors::in_stream(error))];
    }
    let message = &line["message"];
    let mut content = text(message, "content");
    content.push_str(line["response"].as_str().unwrap_or_default());
    let mut thinking = text(message, "thinking");
    thinking.push_str(line["thinking"].as_str().unwrap_or_default());
    let calls = message["tool_calls"].as_array().into_iter().flatten();
    let piece = Piece {
        text: content,
        reasoning: thinking,
        calls: calls.enumerate().map(tool_call).collect(),
        logprob: logprob(&line["logprobs"][0]),
        ..Piece::default()
    };
    let mut updates = Vec::new();
    if !piece.text.is_empty() || !piece.reasoning.is_empty() || !piece.calls.is_empty() {
        updates.push(Update::Piece(piece));
    }
    if line["done"] == true {
        updates.push(Update::Counts(Counts {
            prompt: count(&line["prompt_eval_count"]),
            completion: count(&line["eval_count"]),
            cached: None,
        }));
        updates.push(Update::Finish(match line["done_reason"].as_str() {
            Some("length") => FinishReason::Length,
            _ => FinishReason::Stop,
        }));
    }
    updates
}

/// Reads a call, which is complete. Versions before 0.12 give it no id.
fn tool_call((position, value): (usize, &Value)) -> ToolCallPiece {
    let function = &value["function"];
    let index = count(&function["index"]).unwrap_or(position as u32);
    let id = value["id"].as_str().map(str::to_owned);
    ToolCallPiece {
        index,
        id: Some(id.unwrap_or_else(|| format!("call_{index}"))),
        name: Some(text(function, "name")),
        arguments: function["arguments"].to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_pieces_counts_and_a_reason() {
        let line = json!({"model": "m", "message": {"role": "assistant", "content": "",
            "thinking": "hm", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]},
            "done": false});
        let [Update::Piece(piece)] = &read(&line)[..] else {
            panic!("{:?}", read(&line))
        };
        assert_eq!(piece.reasoning, "hm");
        assert_eq!(piece.calls[0].arguments, r#"{"a":1}"#);
        let done = json!({"message": {"role": "assistant", "content": ""}, "done": true,
            "done_reason": "length", "prompt_eval_count": 4, "eval_count": 6});
        let counts = Counts {
            prompt: Some(4),
            completion: Some(6),
            cached: None,
        };
        assert_eq!(
            read(&done),
            [Update::Counts(counts), Update::Finish(FinishReason::Length)]
        );
        assert!(matches!(
            &read(&json!({"error": "llama runner process no longer running"}))[..],
            [Update::Failed(_)]
        ));
    }
}
