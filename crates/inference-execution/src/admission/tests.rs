use super::*;
use diagnostics::Code;

fn request(change: impl FnOnce(&mut InferRequest)) -> InferRequest {
    let mut request = InferRequest {
        max_tokens: Some(4),
        ..InferRequest::new("r".parse().unwrap(), InferInput::Prompt("hello".into()))
    };
    change(&mut request);
    request
}

fn try_admit(change: impl FnOnce(&mut InferRequest)) -> Result<Admitted, Diagnostic> {
    let limits = ModelLimits {
        context_length: 16,
        vocab_size: 257,
    };
    let model = "mock:a".parse().unwrap();
    let recommended = SamplingValues::default();
    admit(
        &request(change),
        &model,
        &Codec::byte_level(),
        limits,
        &recommended,
    )
}

#[test]
fn names_the_invalid_field() {
    type Change = fn(&mut InferRequest);
    let cases: [(Change, &str); 22] = [
        (|r| r.tool_choice = ToolChoice::Required, "tool_choice"),
        (
            |r| r.tool_choice = ToolChoice::Named("f".into()),
            "tool_choice",
        ),
        (|r| r.max_tokens = Some(0), "max_tokens"),
        (|r| r.logprobs = Some(MAX_TOP_LOGPROBS + 1), "logprobs"),
        (|r| r.input = InferInput::Prompt(String::new()), "input"),
        (|r| r.input = InferInput::Messages(vec![]), "input"),
        (|r| r.input = InferInput::Tokens(vec![]), "input"),
        (|r| r.input = InferInput::Tokens(vec![257]), "input"),
        (|r| r.continue_from = vec![257], "continue_from"),
        (|r| r.stop = vec![String::new()], "stop"),
        (
            |r| r.stop = vec!["x".repeat(MAX_STOP_SEQUENCE_BYTES + 1)],
            "stop",
        ),
        (
            |r| r.stop = vec!["x".into(); MAX_STOP_SEQUENCES + 1],
            "stop",
        ),
        (
            |r| r.sampling.values.temperature = Some(-0.1),
            "sampling.temperature",
        ),
        (
            |r| r.sampling.values.temperature = Some(f32::NAN),
            "sampling.temperature",
        ),
        (
            |r| r.sampling.values.temperature = Some(f32::INFINITY),
            "sampling.temperature",
        ),
        (|r| r.sampling.values.top_p = Some(1.1), "sampling.top_p"),
        (|r| r.sampling.values.min_p = Some(-0.1), "sampling.min_p"),
        (
            |r| r.sampling.values.repetition_penalty = Some(0.0),
            "sampling.repetition_penalty",
        ),
        (
            |r| r.sampling.values.presence_penalty = Some(2.1),
            "sampling.presence_penalty",
        ),
        (
            |r| r.sampling_defaults.top_p = Some(2.0),
            "sampling_defaults.top_p",
        ),
        (
            |r| r.sampling.logit_bias = vec![(257, 1.0)],
            "sampling.logit_bias",
        ),
        (
            |r| r.sampling.logit_bias = vec![(1, f32::NAN)],
            "sampling.logit_bias",
        ),
    ];
    for (index, (change, param)) in cases.into_iter().enumerate() {
        let error = try_admit(change).unwrap_err();
        assert_eq!(error.code, Code::InvalidRequest, "case {index}: {error}");
        assert_eq!(error.param.as_deref(), Some(param), "case {index}: {error}");
    }
}

#[test]
fn accepts_values_at_their_limits() {
    let at_limits = try_admit(|r| {
        r.stop = vec!["x".repeat(MAX_STOP_SEQUENCE_BYTES); MAX_STOP_SEQUENCES];
        r.logprobs = Some(MAX_TOP_LOGPROBS);
        r.sampling.values.repetition_penalty = Some(0.01);
        r.sampling.logit_bias = vec![(256, 100.0)];
    });
    assert_eq!(at_limits.unwrap().max_tokens, 4);
}

#[test]
fn refuses_far_too_long_prompt_without_tokenizing_it() {
    // No token has more than 7 bytes, so these are at least 143.
    let error = try_admit(|r| r.input = InferInput::Prompt("x".repeat(1001))).unwrap_err();
    assert_eq!(error.code, Code::ContextLengthExceeded);
    assert_eq!(
        error.message,
        "the prompt has at least 143 tokens, but the context length is 16"
    );
}

#[test]
fn reports_tokens_and_context_length_when_the_output_does_not_fit() {
    let error = try_admit(|r| r.max_tokens = Some(12)).unwrap_err();
    assert_eq!(error.code, Code::ContextLengthExceeded);
    assert_eq!(
        error.message,
        "the prompt has 5 tokens and max_tokens is 12, together 17, but the context length is 16"
    );
    assert_eq!(
        error.hint.as_deref(),
        Some("shorten the prompt or lower `max_tokens`")
    );
    assert_eq!(
        try_admit(|r| r.max_tokens = Some(11)).unwrap().max_tokens,
        11
    );
    assert_eq!(try_admit(|r| r.max_tokens = None).unwrap().max_tokens, 11);
    let sixteen = |r: &mut InferRequest| {
        r.max_tokens = None;
        r.input = InferInput::Prompt("0123456789abcdef".into());
    };
    let error = try_admit(sixteen).unwrap_err();
    assert_eq!(error.code, Code::ContextLengthExceeded);
    assert_eq!(error.hint.as_deref(), Some("shorten the prompt"));
    let error = try_admit(|r| r.max_tokens = Some(u32::MAX)).unwrap_err();
    assert_eq!(error.code, Code::ContextLengthExceeded);
}

#[test]
fn upper_bound_is_lowered_to_the_remaining_context() {
    let bound = |max: u32, prompt: &str| {
        try_admit(|r| {
            r.max_tokens = Some(max);
            r.end_with_context = true;
            r.input = InferInput::Prompt(prompt.into());
        })
    };
    for (max, admitted) in [(10, 10), (11, 11), (12, 11), (u32::MAX, 11)] {
        let bound = bound(max, "hello").unwrap();
        assert_eq!(bound.max_tokens, admitted);
        let note = format!("the output ends with the context after at most 11 tokens, not {max}");
        let notes = Vec::from_iter((max > admitted).then_some(note));
        assert_eq!(bound.notes, notes);
    }
    assert_eq!(bound(4096, "0123456789abcde").unwrap().max_tokens, 1);
    for prompt in ["0123456789abcdef", "0123456789abcdefg"] {
        let error = bound(4096, prompt).unwrap_err();
        assert_eq!(error.code, Code::ContextLengthExceeded);
        assert_eq!(error.param.as_deref(), Some("input"));
    }
    assert_eq!(bound(0, "hello").unwrap_err().code, Code::InvalidRequest);
}

#[test]
fn preceding_tokens_come_before_the_input() {
    let admitted = try_admit(|r| r.preceding_tokens = vec![104, 256]).unwrap();
    let hello = b"hello".map(u32::from);
    assert_eq!(admitted.prompt, [&[104, 256][..], &hello].concat());
    let error = try_admit(|r| r.preceding_tokens = vec![257]).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("preceding_tokens"));
}

#[test]
fn the_last_message_is_continued() {
    let begun = |r: &mut InferRequest| {
        r.continue_final_message = true;
        r.input = InferInput::Messages(vec![
            Message::new(Role::User, "a"),
            Message::new(Role::Assistant, "Once "),
        ]);
    };
    let codec = Codec::byte_level();
    let prompt = |edit: &dyn Fn(&mut InferRequest)| {
        let input = InferInput::Tokens(Vec::new());
        let mut request = InferRequest::new("r".parse().unwrap(), input);
        edit(&mut request);
        let limits = ModelLimits {
            context_length: 200,
            vocab_size: 257,
        };
        let model = "mock:a".parse().unwrap();
        let recommended = SamplingValues::default();
        admit(&request, &model, &codec, limits, &recommended).map(|a| codec.decode(&a.prompt))
    };
    assert_eq!(prompt(&begun).unwrap(), "user: a\nassistant: Once ");
    let refused = |edit: &dyn Fn(&mut InferRequest)| {
        let error = prompt(&|r| {
            begun(r);
            edit(r);
        });
        let error = error.unwrap_err();
        assert_eq!(error.param.as_deref(), Some("continue_final_message"));
        error.message
    };
    let with_last = |last: Message| {
        refused(&|r| {
            r.input = InferInput::Messages(vec![Message::new(Role::User, "a"), last.clone()]);
        })
    };
    assert_eq!(
        with_last(Message::new(Role::User, "b")),
        "the last message cannot be continued: it is not of the assistant"
    );
    let only_begun = |r: &mut InferRequest| {
        begun(r);
        r.input = InferInput::Messages(vec![Message::new(Role::Assistant, "Once ")]);
    };
    assert_eq!(
        prompt(&only_begun).unwrap_err().message,
        "the conversation has only the start of the assistant's answer, and no message that it \
         answers"
    );
    refused(&|r| r.constraint = Some(worker_contract::Constraint::JsonObject));
    refused(&|r| r.input = InferInput::Prompt("x".into()));
    refused(&|r| r.reasoning.enabled = Some(true));
}

#[test]
fn an_empty_input_is_named() {
    for (input, message) in [
        (InferInput::Prompt(String::new()), "the prompt is empty"),
        (InferInput::Tokens(Vec::new()), "the prompt has no tokens"),
        (InferInput::Messages(Vec::new()), "the conversation has no messages"),
    ] {
        let error = try_admit(|r| r.input = input).unwrap_err();
        assert_eq!(error.message, message);
        assert_eq!(error.param.as_deref(), Some("input"));
        assert!(error.hint.is_some());
    }
}

#[test]
fn messages_are_rendered_by_the_chat_template() {
    let chat = |r: &mut InferRequest| {
        r.max_tokens = None;
        r.input = InferInput::Messages(vec![Message::new(Role::User, "")]);
    };
    // The text that the template adds exceeds the context.
    assert_eq!(
        try_admit(chat).unwrap_err().code,
        Code::ContextLengthExceeded
    );
}
