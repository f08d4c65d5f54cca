//! `POST /v1/chat/completions` and `/v1/completions`, as OpenAI documents them and as llama.cpp and
//! vLLM extend them.

use diagnostics::Diagnostic;
use serde_json::{Map, Value, json};
use worker_contract::{
    Constraint, EngineKind, InferInput, InferRequest, ToolChoice, ToolDefinition,
};

use crate::{
    adapter::Adapter,
    call::{Call, Framing},
    errors, gbnf,
    openai_stream::{read_chat, read_completion},
    thinking::Thinking,
    values::{engine_seed, limit_reasoning, llama_cpp_sampling, message, set, tool},
};

/// Translates a request for vLLM or any other server.
pub(crate) fn call(
    adapter: &Adapter,
    request: &InferRequest,
    thinking: &Thinking,
    seed: u64,
    notes: &mut Vec<String>,
) -> Result<Call, Diagnostic> {
    let is_vllm = adapter.kind() == EngineKind::Vllm;
    let prompt = match &request.input {
        InferInput::Messages(_) => {
            let mut call = chat(adapter, request, thinking, seed, notes)?;
            // vLLM generates the output once more, with the same seed and the same parsers.
            call.repeated.clone_from(&request.continue_from);
            return Ok(call);
        }
        InferInput::Prompt(prompt) => json!(prompt),
        InferInput::Tokens(tokens) if is_vllm => json!(tokens),
        InferInput::Tokens(_) => return Err(adapter.unsupported("prompts of tokens", "input")),
    };
    let mut body = common(adapter, request, seed)?;
    body["prompt"] = prompt;
    if let Some(top) = request.logprobs {
        body["logprobs"] = json!(top);
    }
    let mut call = Call::new("/v1/completions", body, Framing::Events(read_completion));
    call.repeated.clone_from(&request.continue_from);
    if let InferInput::Tokens(tokens) = &request.input {
        call.prompt.clone_from(tokens);
    }
    Ok(call)
}

/// Translates a conversation.
pub(crate) fn chat(
    adapter: &Adapter,
    request: &InferRequest,
    thinking: &Thinking,
    seed: u64,
    notes: &mut Vec<String>,
) -> Result<Call, Diagnostic> {
    let kind = adapter.kind();
    let InferInput::Messages(messages) = &request.input else {
        return Err(errors::unexpected("a prompt as a conversation"));
    };
    // A grammar would apply to the reasoning as well.
    let is_regex = matches!(request.constraint, Some(Constraint::Regex(_)));
    let can_reason = adapter.facts().format.is_some() && thinking.enabled != Some(false);
    if kind == EngineKind::LlamaCpp && is_regex && can_reason {
        let what = "regular expressions for an answer after reasoning";
        return Err(adapter.unsupported(what, "constraint"));
    }
    let mut body = common(adapter, request, seed)?;
    body["messages"] = messages.iter().map(message).collect();
    if let Some(top) = request.logprobs {
        body["logprobs"] = json!(true);
        body["top_logprobs"] = json!(top);
    }
    call_tools(request, kind, &mut body);
    think(adapter, thinking, &mut body, notes);
    if request.continue_final_message {
        if kind == EngineKind::Openai {
            let what = "the continuation of the last message";
            return Err(adapter.unsupported(what, "continue_final_message"));
        }
        body["continue_final_message"] = json!(true);
        body["add_generation_prompt"] = json!(false);
    }
    Ok(Call::new(
        "/v1/chat/completions",
        body,
        Framing::Events(read_chat),
    ))
}

/// Returns what both paths have in common.
fn common(adapter: &Adapter, request: &InferRequest, seed: u64) -> Result<Value, Diagnostic> {
    let kind = adapter.kind();
    let mut body = json!({
        "model": adapter.facts().model,
        "stream": true,
        "stream_options": {"include_usage": true},
        "seed": engine_seed(request, seed),
    });
    if let Some(max) = request.max_tokens {
        body["max_tokens"] = json!(max);
    }
    match kind {
        EngineKind::LlamaCpp => {
            llama_cpp_sampling(request, adapter.facts().context, &mut body);
            body["cache_prompt"] = json!(true);
        }
        EngineKind::Vllm => {
            body["return_token_ids"] = json!(true);
            body["stream_options"]["continuous_usage_stats"] = json!(true);
        }
        EngineKind::Ollama | EngineKind::Openai => {}
    }
    if let Some(body) = body.as_object_mut() {
        sampling(adapter, request, body)?;
        bias(request, body);
    }
    constrain(adapter, request, &mut body)?;
    Ok(body)
}

fn sampling(
    adapter: &Adapter,
    request: &InferRequest,
    body: &mut Map<String, Value>,
) -> Result<(), Diagnostic> {
    let values = request.sampling.values.or(&request.sampling_defaults);
    if adapter.kind() == EngineKind::LlamaCpp {
        return Ok(());
    }
    set(
        body,
        &[
            ("temperature", values.temperature.map(|v| json!(v))),
            ("top_p", values.top_p.map(|v| json!(v))),
            (
                "frequency_penalty",
                values.frequency_penalty.map(|v| json!(v)),
            ),
            (
                "presence_penalty",
                values.presence_penalty.map(|v| json!(v)),
            ),
        ],
    );
    if adapter.kind() == EngineKind::Vllm {
        set(
            body,
            &[
                ("top_k", values.top_k.map(|v| json!(v))),
                ("min_p", values.min_p.map(|v| json!(v))),
                (
                    "repetition_penalty",
                    values.repetition_penalty.map(|v| json!(v)),
                ),
            ],
        );
    }
    // What the request itself asks for is not ignored. Defaults of the client's API are.
    let asked = &request.sampling.values;
    let mut missing = vec![("typical_p", asked.typical_p.is_some_and(|p| p < 1.0))];
    if adapter.kind() == EngineKind::Openai {
        missing.extend([
            ("top_k", asked.top_k.is_some_and(|k| k > 0)),
            ("min_p", asked.min_p.is_some_and(|p| p > 0.0)),
            (
                "repetition_penalty",
                asked.repetition_penalty.is_some_and(|p| p != 1.0),
            ),
        ]);
    }
    match missing.into_iter().find(|(_, is_asked)| *is_asked) {
        Some((name, _)) => Err(adapter.unsupported(name, &format!("sampling.{name}"))),
        None => Ok(()),
    }
}

fn bias(request: &InferRequest, body: &mut Map<String, Value>) {
    let biases = request.sampling.logit_bias.iter();
    let bias: Map<String, Value> = biases
        .map(|(id, value)| (id.to_string(), json!(value)))
        .collect();
    if !bias.is_empty() {
        body.insert("logit_bias".to_owned(), Value::Object(bias));
    }
}

fn constrain(
    adapter: &Adapter,
    request: &InferRequest,
    body: &mut Value,
) -> Result<(), Diagnostic> {
    let schema = |schema: &Value, strict: bool| {
        json!({"type": "json_schema", "json_schema":
            {"name": "answer", "schema": schema, "strict": strict}})
    };
    let kind = adapter.kind();
    match &request.constraint {
        None => {}
        Some(Constraint::JsonObject) => body["response_format"] = json!({"type": "json_object"}),
        Some(Constraint::JsonSchema(s)) => body["response_format"] = schema(s, false),
        Some(Constraint::StrictJsonSchema(s)) => body["response_format"] = schema(s, true),
        Some(Constraint::Regex(pattern)) if kind == EngineKind::Vllm => {
            regex_syntax::parse(pattern).map_err(|error| errors::invalid_regex(&error))?;
            body["structured_outputs"] = json!({"regex": pattern});
        }
        Some(Constraint::Regex(pattern)) if kind == EngineKind::LlamaCpp => {
            body["grammar"] = json!(gbnf::grammar(pattern)?);
        }
        Some(Constraint::Grammar(grammar)) if kind == EngineKind::Vllm => {
            body["structured_outputs"] = json!({"grammar": grammar});
        }
        Some(Constraint::Regex(_)) => {
            return Err(adapter.unsupported("regular expressions", "constraint"));
        }
        Some(Constraint::Grammar(_)) => {
            return Err(adapter.unsupported("grammars in Lark's notation", "constraint"));
        }
    }
    Ok(())
}

fn call_tools(request: &InferRequest, kind: EngineKind, body: &mut Value) {
    if !request.may_call() {
        return;
    }
    let mut tools: Vec<&ToolDefinition> = request.tools.iter().collect();
    body["tool_choice"] = match &request.tool_choice {
        ToolChoice::Auto | ToolChoice::None => json!("auto"),
        ToolChoice::Required => json!("required"),
        // The server of llama.cpp ignores the name of a tool.
        ToolChoice::Named(name) if kind == EngineKind::LlamaCpp => {
            tools.retain(|tool| tool.name == *name);
            json!("required")
        }
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
    };
    body["tools"] = tools.into_iter().map(tool).collect();
    body["parallel_tool_calls"] = json!(request.parallel_tool_calls);
}

fn think(adapter: &Adapter, thinking: &Thinking, body: &mut Value, notes: &mut Vec<String>) {
    let kind = adapter.kind();
    let mut variables = thinking.variables.clone();
    match kind {
        EngineKind::LlamaCpp => {
            if let Some(format) = &adapter.facts().format {
                limit_reasoning(body, format, None, None);
                if let Some(budget) = thinking.plan.budget {
                    body["reasoning_budget_tokens"] = json!(budget);
                }
            }
        }
        EngineKind::Vllm => {
            if let Some(enabled) = thinking.enabled {
                variables.insert("enable_thinking".into(), json!(enabled));
                variables.insert("thinking".into(), json!(enabled));
            }
            if let Some(effort) = &thinking.effort {
                body["reasoning_effort"] = json!(effort);
            }
            thinking.note_budget(kind.name(), notes);
        }
        EngineKind::Ollama | EngineKind::Openai => {
            if let Some(effort) = &thinking.effort {
                body["reasoning_effort"] = json!(effort);
            } else if let Some(enabled) = thinking.enabled {
                body["reasoning_effort"] = json!(if enabled { "medium" } else { "none" });
            }
            thinking.note_budget(kind.name(), notes);
            if !variables.is_empty() {
                notes.push(
                    "the engine has no variables of chat templates; they were ignored".into(),
                );
                variables.clear();
            }
        }
    }
    if !variables.is_empty() {
        body["chat_template_kwargs"] = Value::Object(variables);
    }
}
