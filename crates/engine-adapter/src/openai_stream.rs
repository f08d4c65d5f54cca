//! The chunks of `/v1/chat/completions` and `/v1/completions`.

use serde_json::Value;
use worker_contract::{FinishReason, TokenLogprob, ToolCallPiece, TopLogprob};

use crate::{
    errors,
    json::{count, logprob, text, token_ids},
    piece::{Counts, Piece, Update},
};

/// Reads a chunk of a conversation.
pub(crate) fn read_chat(event: &Value) -> Vec<Update> {
    let choice = &event["choices"][0];
    let delta = &choice["delta"];
    // vLLM named the field `reasoning_content` before it named it `reasoning`.
    let mut reasoning = text(delta, "reasoning_content");
    if reasoning.is_empty() {
        reasoning = text(delta, "reasoning");
    }
    let calls = delta["tool_calls"].as_array().into_iter().flatten();
    let piece = Piece {
        text: text(delta, "content"),
        reasoning,
        calls: calls.map(call).collect(),
        ..Piece::default()
    };
    let entries = choice["logprobs"]["content"].as_array();
    let logprobs: Vec<TokenLogprob> = entries.into_iter().flatten().filter_map(logprob).collect();
    read(event, piece, logprobs)
}

/// Reads a chunk of a continued prompt.
pub(crate) fn read_completion(event: &Value) -> Vec<Update> {
    let choice = &event["choices"][0];
    let piece = Piece {
        text: text(choice, "text"),
        ..Piece::default()
    };
    read(event, piece, legacy_logprobs(&choice["logprobs"]))
}

fn read(event: &Value, piece: Piece, logprobs: Vec<TokenLogprob>) -> Vec<Update> {
    if let Some(error) = event.get("error") {
        return vec![Update::Failed(errors::in_stream(error))];
    }
    let choice = &event["choices"][0];
    let mut updates = pieces(piece, &token_ids(&choice["token_ids"]), logprobs);
    let usage = &event["usage"];
    if usage.is_object() {
        updates.push(Update::Counts(Counts {
            prompt: count(&usage["prompt_tokens"]),
            completion: count(&usage["completion_tokens"]),
            cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
        }));
    }
    if let Some(reason) = choice["finish_reason"].as_str() {
        updates.push(Update::Finish(match reason {
            "length" => FinishReason::Length,
            "tool_calls" | "function_call" => FinishReason::ToolCalls,
            _ => FinishReason::Stop,
        }));
    }
    updates
}

/// Splits a chunk into its tokens, as far as the server reports them. The text belongs to the last
/// token, because only then it is complete.
fn pieces(piece: Piece, ids: &[u32], logprobs: Vec<TokenLogprob>) -> Vec<Update> {
    let is_empty = piece.text.is_empty() && piece.reasoning.is_empty() && piece.calls.is_empty();
    let tokens = ids.len().max(logprobs.len());
    if is_empty && tokens == 0 {
        return Vec::new();
    }
    let mut logprobs = logprobs.into_iter();
    let mut pieces: Vec<Piece> = (0..tokens.max(1))
        .map(|index| Piece {
            token: ids.get(index).copied(),
            logprob: logprobs.next(),
            ..Piece::default()
        })
        .collect();
    if let Some(last) = pieces.last_mut() {
        last.text = piece.text;
        last.reasoning = piece.reasoning;
        last.calls = piece.calls;
    }
    pieces.into_iter().map(Update::Piece).collect()
}

fn call(value: &Value) -> ToolCallPiece {
    let name = text(&value["function"], "name");
    ToolCallPiece {
        index: count(&value["index"]).unwrap_or_default(),
        id: value["id"].as_str().map(str::to_owned),
        name: (!name.is_empty()).then_some(name),
        arguments: text(&value["function"], "arguments"),
    }
}

/// Reads the log probabilities of a continued prompt: parallel lists.
fn legacy_logprobs(value: &Value) -> Vec<TokenLogprob> {
    let tokens = value["tokens"].as_array().into_iter().flatten();
    tokens
        .enumerate()
        .filter_map(|(index, token)| {
            let token = token.as_str()?.to_owned();
            let alternatives = value["top_logprobs"][index].as_object();
            let mut top: Vec<TopLogprob> = alternatives
                .into_iter()
                .flatten()
                .filter_map(|(token, logprob)| {
                    Some(TopLogprob {
                        id: 0,
                        bytes: token.clone().into_bytes(),
                        token: token.clone(),
                        logprob: logprob.as_f64()? as f32,
                    })
                })
                .collect();
            top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
            Some(TokenLogprob {
                bytes: token.clone().into_bytes(),
                token,
                logprob: value["token_logprobs"][index].as_f64()? as f32,
                top,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn chunks_become_pieces_counts_and_a_reason() {
        let chunk = json!({"choices": [{"index": 0, "finish_reason": null, "delta": {
            "reasoning_content": "hm", "tool_calls": [{"index": 0, "id": "c", "type": "function",
            "function": {"name": "f", "arguments": "{"}}]}}]});
        let [Update::Piece(piece)] = &read_chat(&chunk)[..] else {
            panic!("{:?}", read_chat(&chunk))
        };
        assert_eq!((piece.reasoning.as_str(), piece.calls.len()), ("hm", 1));
        let last = json!({"choices": [{"index": 0, "finish_reason": "tool_calls", "delta": {}}]});
        assert_eq!(read_chat(&last), [Update::Finish(FinishReason::ToolCalls)]);
        let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}});
        assert!(matches!(
            read_chat(&usage)[..],
            [Update::Counts(Counts {
                prompt: Some(3),
                ..
            })]
        ));
    }

    #[test]
    fn the_tokens_of_a_chunk_are_reported_one_by_one() {
        let chunk = json!({"choices": [{"index": 0, "text": "ab", "token_ids": [1, 2],
            "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-0.5, -1.0],
                "top_logprobs": [{"x": -2.0, "a": -0.5}, {"b": -1.0}]}}]});
        let updates = read_completion(&chunk);
        let [Update::Piece(first), Update::Piece(second)] = &updates[..] else {
            panic!("{updates:?}")
        };
        assert_eq!((first.token, first.text.as_str()), (Some(1), ""));
        assert_eq!((second.token, second.text.as_str()), (Some(2), "ab"));
        let top = &first.logprob.as_ref().unwrap().top;
        assert_eq!((top[0].token.as_str(), top.len()), ("a", 2));
    }
}
