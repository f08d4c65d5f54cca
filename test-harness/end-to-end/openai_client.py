"""Tests rbee with the official OpenAI client.

    RBEE_BIN_DIR=target/debug python openai_client.py

Starts a queen in a temporary home on free ports, runs all functions `check_*`, stops all
processes, and prints `client: N passed, N failed`. With RBEE_LLAMA_SERVER, llama.cpp's server serves
the embedded model.
"""

import json
import tempfile
import typing

import httpx
import openai
import pydantic

from rbee import CASES, LLAMA_SERVER, MODEL, SLOW, Rbee, eventually, idle, main, raised

ECHO = "mock:answer=echo"
# Another engine rounds in other ways than the reference.
LOGPROB_DIFFERENCE = 1e-2 if LLAMA_SERVER else 1e-3


def client(rbee, **overrides):
    settings = {"base_url": f"{rbee.url}/v1", "api_key": rbee.key or "unused", "max_retries": 0, "timeout": 60}
    return openai.OpenAI(**(settings | overrides))


def check_models_are_listed(rbee):
    models = list(client(rbee).models.list())
    assert MODEL in [m.id for m in models], models
    assert all(m.object == "model" for m in models)


def check_chat_equals_the_reference(rbee):
    for case in CASES[:5]:
        answer = client(rbee).chat.completions.create(model=MODEL, messages=case["messages"], temperature=0, max_tokens=96)
        assert answer.choices[0].message.content == case["output_text"]
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.prompt_tokens == len(case["prompt_ids"])
        assert answer.usage.completion_tokens == len(case["output_ids"])
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.model == MODEL and answer.object == "chat.completion"


def check_stream_equals_the_reference_and_counts(rbee):
    case = CASES[0]
    stream = client(rbee).chat.completions.create(
        model=MODEL,
        messages=case["messages"],
        temperature=0,
        max_tokens=96,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == case["output_text"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert len({c.id for c in chunks}) == 1
    assert [bool(c.usage) for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == len(case["output_ids"])


def check_completion_of_a_prompt(rbee):
    case = CASES[0]
    answer = client(rbee).completions.create(model=MODEL, prompt=case["prompt_text"], temperature=0, max_tokens=96)
    assert answer.choices[0].text == case["output_text"]
    assert answer.object == "text_completion"
    stream = client(rbee).completions.create(
        model=MODEL, prompt=case["prompt_text"], temperature=0, max_tokens=96, stream=True
    )
    assert "".join(c.choices[0].text for c in stream if c.choices) == case["output_text"]


def check_stop_sequences(rbee):
    for stop in ("multiplies", ["nowhere", "multiplies"]):
        answer = client(rbee).chat.completions.create(
            model=MODEL, messages=CASES[0]["messages"], temperature=0, stop=stop
        )
        assert answer.choices[0].message.content == CASES[0]["output_text"].split("multiplies")[0]
        assert answer.choices[0].finish_reason == "stop"


def check_max_tokens(rbee):
    answer = client(rbee).chat.completions.create(model=MODEL, messages=CASES[0]["messages"], max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def check_seed(rbee):
    def text(seed):
        return (
            client(rbee)
            .chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "Write a haiku about rain"}],
                temperature=1.0,
                max_tokens=40,
                seed=seed,
            )
            .choices[0]
            .message.content
        )

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(5)}) > 1


def check_logprobs(rbee):
    case = CASES[0]
    answer = client(rbee).chat.completions.create(
        model=MODEL, messages=case["messages"], temperature=0, max_tokens=3, logprobs=True, top_logprobs=5
    )
    for position, expected in zip(answer.choices[0].logprobs.content, case["top5_first3"], strict=True):
        assert abs(position.logprob - expected[0]["logprob"]) < LOGPROB_DIFFERENCE
        for got, want in zip(position.top_logprobs, expected, strict=True):
            # llama.cpp's server has no text for control tokens.
            assert got.token == want["token"] or (LLAMA_SERVER and got.token == ""), (got, want)
            assert abs(got.logprob - want["logprob"]) < LOGPROB_DIFFERENCE, (got, want)


def check_response_headers(rbee):
    raw = client(rbee).chat.completions.with_raw_response.create(
        model=MODEL, messages=CASES[0]["messages"], max_tokens=1
    )
    for name in ("x-rbee-worker", "x-rbee-node", "x-rbee-request-id", "x-rbee-seed"):
        assert raw.headers.get(name), name


def check_what_clients_send(rbee):
    """Fields that other clients write in other ways, with the same answer."""
    api = client(rbee)
    case = CASES[0]
    request = {"model": MODEL, "messages": case["messages"], "temperature": 0}
    for extra in (
        {"max_tokens": 96.0, "n": 1.0},
        {"max_tokens": -1},
        {"max_completion_tokens": 0},
        {"max_tokens": 1_000_000},
        {"stop": "", "tools": [], "response_format": None, "stream_options": None, "logit_bias": {}},
    ):
        answer = api.chat.completions.create(**request, extra_body=extra)
        assert answer.choices[0].message.content == case["output_text"], extra
    for content in ({"content": None}, {"content": []}, {}):
        history = [{"role": "user", "content": "x"}, {"role": "assistant", **content}, *case["messages"]]
        answer = api.chat.completions.create(model=MODEL, messages=history, max_tokens=1)
        assert answer.usage.completion_tokens == 1, content


def check_the_last_message_is_continued(rbee):
    case = CASES[0]
    begin, rest = case["output_text"].split("\n", 1)
    begun = {"role": "assistant", "content": begin + "\n"}
    for extra in ({"continue_final_message": True, "add_generation_prompt": False}, {"prefix": True}):
        last = begun | ({"prefix": True} if "prefix" in extra else {})
        answer = client(rbee).chat.completions.create(
            model=MODEL, messages=[*case["messages"], last], temperature=0, extra_body=extra
        )
        assert answer.choices[0].message.content == rest, answer


def check_a_waiting_stream_sends_its_headers(rbee):
    """Behind a busy slot, headers and a comment arrive long before the answer."""
    busy = client(rbee).chat.completions.create(
        model=SLOW, messages=[{"role": "user", "content": "x"}], max_tokens=9999, stream=True
    )
    next(iter(busy))
    body = {"model": SLOW, "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "stream": True}
    with httpx.stream("POST", f"{rbee.url}/v1/chat/completions", json=body, timeout=10, trust_env=False) as response:
        assert response.status_code == 200 and "x-rbee-worker" not in response.headers, response.headers
        lines = response.iter_lines()
        assert next(lines).startswith(": all workers are busy"), "no comment"
        busy.close()
        assert "data: [DONE]" in list(lines)


def check_error_types(rbee):
    api = client(rbee)
    messages = [{"role": "user", "content": "x"}]
    for wrong, code, param in (
        ({"max_tokens": -2}, "invalid_value", "max_tokens"),
        ({"extra_body": {"max_tokens": "9"}}, "invalid_type", "max_tokens"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"extra_body": {"functions": [{"name": "f"}]}}, "unsupported_parameter", "functions"),
    ):
        valid = {"model": MODEL, "messages": messages}
        error = raised(openai.BadRequestError, lambda: api.chat.completions.create(**(valid | wrong)))
        assert (error.code, error.param) == (code, param), error.body
    error = raised(
        openai.BadRequestError,
        lambda: api.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "rain " * 600}]),
    )
    assert (error.code, error.param) == ("context_length_exceeded", "messages"), error.body
    assert "This model's maximum context length is 512 tokens. However, your messages resulted in" in error.message
    assert error.body["details"]["code"] == "CONTEXT_LENGTH_EXCEEDED", error.body
    error = raised(openai.NotFoundError, lambda: api.chat.completions.create(model="builtin:nothing", messages=messages))
    assert error.code == "model_not_found"
    error = raised(openai.NotFoundError, lambda: api.chat.completions.create(model="gpt-4", messages=messages))
    assert error.code == "model_not_found"
    # An error before the first token is an HTTP error, even if the response is streamed.
    error = raised(
        openai.NotFoundError,
        lambda: api.chat.completions.create(model="builtin:nothing", messages=messages, stream=True),
    )
    assert error.code == "model_not_found"
    error = raised(openai.NotFoundError, lambda: api.models.retrieve("builtin:nothing"))
    assert error.code == "model_not_found"


WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How the weather is",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def call_text(city):
    return "<tool_call>\n" + json.dumps({"name": "weather", "arguments": {"city": city}}) + "\n</tool_call>"


def check_tool_calls_and_results(rbee):
    api = client(rbee)
    messages = [{"role": "user", "content": call_text("Zürich") + "\n" + call_text("Bern")}]
    answer = api.chat.completions.create(model=ECHO, messages=messages, tools=[WEATHER])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None, choice
    calls = choice.message.tool_calls
    assert [json.loads(c.function.arguments)["city"] for c in calls] == ["Zürich", "Bern"]
    assert all(c.type == "function" and c.function.name == "weather" for c in calls)
    assert calls[0].id != calls[1].id
    messages.append(choice.message)
    for call, degrees in zip(calls, ("21", "19 degrees")):
        messages.append({"role": "tool", "tool_call_id": call.id, "content": degrees})
    answer = api.chat.completions.create(model=ECHO, messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "19 degrees"
    assert answer.choices[0].finish_reason == "stop" and not answer.choices[0].message.tool_calls


def check_tool_calls_are_streamed(rbee):
    stream = client(rbee).chat.completions.create(
        model=ECHO,
        messages=[{"role": "user", "content": "I look.\n" + call_text("Paris") + call_text("Bern")}],
        tools=[WEATHER],
        stream=True,
    )
    text, calls, deltas = "", {}, 0
    for chunk in stream:
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for piece in delta.tool_calls or []:
            deltas += 1
            call = calls.setdefault(piece.index, {"id": piece.id, "name": piece.function.name, "arguments": ""})
            call["arguments"] += piece.function.arguments or ""
        reason = chunk.choices[0].finish_reason
    assert text == "I look.\n" and reason == "tool_calls", (text, reason)
    assert [json.loads(calls[i]["arguments"])["city"] for i in range(2)] == ["Paris", "Bern"]
    assert all(c["id"] and c["name"] == "weather" for c in calls.values())
    assert deltas > 10, "the arguments come in too few pieces"


def check_tool_choice_and_parallel_calls(rbee):
    def create(**fields):
        return client(rbee).chat.completions.create(
            model=ECHO,
            messages=[{"role": "user", "content": call_text("Paris") + call_text("Bern")}],
            tools=[WEATHER],
            **fields,
        )

    choice = create(tool_choice="none").choices[0]
    assert not choice.message.tool_calls and choice.message.content.startswith("<tool_call>")
    assert len(create(tool_choice="auto").choices[0].message.tool_calls) == 2
    assert len(create(parallel_tool_calls=False).choices[0].message.tool_calls) == 1


NOW = {"type": "function", "function": {"name": "now"}}
TOWN = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"town": {"enum": ["Bern", "Basel"]}},
            "required": ["town"],
            "additionalProperties": False,
        },
    },
}


def check_required_tool_call(rbee):
    # The first model knows no tools, the second would generate other text.
    for model in (MODEL, ECHO):
        for seed in range(4):
            request = {
                "model": model,
                "messages": [{"role": "user", "content": "How is the weather in Bern?"}],
                "tools": [TOWN, NOW],
                "tool_choice": "required",
                "seed": seed,
            }
            choice = client(rbee).chat.completions.create(**request).choices[0]
            assert choice.finish_reason == "tool_calls" and choice.message.content is None, choice
            (call,) = choice.message.tool_calls
            arguments = json.loads(call.function.arguments)
            valid = {"weather": [{"town": "Bern"}, {"town": "Basel"}], "now": [{}]}
            assert arguments in valid[call.function.name], call
            pieces, reasons = [], []
            for chunk in client(rbee).chat.completions.create(**request, stream=True):
                pieces += chunk.choices[0].delta.tool_calls or []
                reasons += [chunk.choices[0].finish_reason]
            assert "".join(p.function.arguments or "" for p in pieces) == call.function.arguments
            assert (pieces[0].id, pieces[0].function.name) == (call.id, call.function.name)
            assert reasons[-1] == "tool_calls" and set(reasons[:-1]) == {None}


def check_named_function(rbee):
    class Place(pydantic.BaseModel):
        town: typing.Literal["Bern", "Basel"]
        days: typing.Literal[1, 2, 3]

    named = {"type": "function", "function": {"name": "Place"}}
    request = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Where is it?"}],
        "tools": [TOWN, openai.pydantic_function_tool(Place)],
        "tool_choice": named,
        "parallel_tool_calls": False,
    }
    choice = client(rbee).chat.completions.parse(**request).choices[0]
    assert choice.finish_reason == "stop", choice
    (call,) = choice.message.tool_calls
    assert isinstance(call.function.parsed_arguments, Place), call
    with client(rbee).chat.completions.stream(**request) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.tool_calls[0].function.parsed_arguments, Place), choice
    error = raised(
        openai.BadRequestError,
        lambda: client(rbee).chat.completions.create(**request | {"tools": [TOWN]}),
    )
    assert error.param == "tool_choice", error.body


def check_tools_with_response_format(rbee):
    response_format = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": ["clear", "grey"]}}}
    for prompt, calls, text in (
        (call_text("Bern"), ["Bern"], None),
        (call_text("Bern") + "\n" + call_text("Basel"), ["Bern", "Basel"], None),
        ('"grey"', [], '"grey"'),
        ('"grey" it is', [], '"grey"'),
    ):
        message = (
            client(rbee)
            .chat.completions.create(
                model=ECHO, messages=[{"role": "user", "content": prompt}], tools=[WEATHER], response_format=response_format
            )
            .choices[0]
            .message
        )
        got = [json.loads(c.function.arguments)["city"] for c in message.tool_calls or []]
        assert (got, message.content) == (calls, text), message


def check_reasoning(rbee):
    for model in ["mock:answer=think", "mock:answer=think_opened"]:
        ask = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
        answer = client(rbee).chat.completions.create(**ask)
        message = answer.choices[0].message
        assert message.content == "Hello"
        assert message.reasoning_content == message.reasoning == "The message is: Hello"
        tokens = answer.usage.completion_tokens_details.reasoning_tokens
        assert 0 < tokens < answer.usage.completion_tokens
        parts = [c.choices[0].delta for c in client(rbee).chat.completions.create(**ask, stream=True)]
        assert "".join(p.content or "" for p in parts) == "Hello"
        assert "".join(getattr(p, "reasoning_content", None) or "" for p in parts) == message.reasoning
        for off in [{"reasoning_effort": "none"}, {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}]:
            message = client(rbee).chat.completions.create(**ask, **off).choices[0].message
            assert message.content == "Hello" and not hasattr(message, "reasoning_content")
        hidden = client(rbee).chat.completions.create(**ask, extra_body={"include_reasoning": False})
        assert not hasattr(hidden.choices[0].message, "reasoning")
    noted = client(rbee).chat.completions.with_raw_response.create(
        model=ECHO, messages=[{"role": "user", "content": "Hi"}], reasoning_effort="high"
    )
    assert "does not reason" in noted.headers["x-rbee-notes"]


def check_several_choices(rbee):
    api = client(rbee)
    request = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Write a haiku about rain"}],
        "temperature": 1.0,
        "max_tokens": 40,
        "seed": 7,
    }
    one = api.chat.completions.create(**request)
    three = api.chat.completions.create(**request, n=3)
    texts = [c.message.content for c in three.choices]
    assert [c.index for c in three.choices] == [0, 1, 2]
    assert texts[0] == one.choices[0].message.content and len(set(texts)) == 3, texts
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens > one.usage.completion_tokens
    streamed, reasons = ["", "", ""], {}
    for chunk in api.chat.completions.create(**request, n=3, stream=True, stream_options={"include_usage": True}):
        if chunk.usage:
            assert chunk.usage == three.usage
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert streamed == texts and set(reasons) == {0, 1, 2}, (streamed, texts, reasons)
    prompts = api.completions.create(model=MODEL, prompt="a", n=2, max_tokens=3, temperature=0)
    assert len(prompts.choices) == 2 and prompts.usage.completion_tokens == 6


def check_responses_equal_the_reference(rbee):
    api = client(rbee)
    for case in CASES[:3]:
        answer = api.responses.create(model=MODEL, input=case["messages"], temperature=0, max_output_tokens=96)
        assert answer.output_text == case["output_text"] and answer.status == "completed", answer
        assert answer.usage.input_tokens == len(case["prompt_ids"]), answer.usage
        assert answer.usage.output_tokens == len(case["output_ids"]), answer.usage
        assert answer.id.startswith("resp_") and answer.store is False and answer.error is None
    short = api.responses.create(model=MODEL, input=CASES[0]["messages"], max_output_tokens=3)
    assert short.status == "incomplete" and short.incomplete_details.reason == "max_output_tokens", short
    scored = api.responses.create(
        model=MODEL,
        input="rain",
        max_output_tokens=3,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
    )
    logprobs = scored.output[0].content[0].logprobs
    assert len(logprobs) == 3 and len(logprobs[0].top_logprobs) == 2, logprobs


def check_responses_are_streamed(rbee):
    case = CASES[0]
    request = {"model": MODEL, "input": case["messages"], "temperature": 0, "max_output_tokens": 96}
    events = list(client(rbee).responses.create(**request, stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    types = [e.type.removeprefix("response.") for e in events]
    assert types[:4] == ["created", "in_progress", "output_item.added", "content_part.added"], types
    assert types[-4:] == ["output_text.done", "content_part.done", "output_item.done", "completed"], types
    assert set(types[4:-4]) == {"output_text.delta"}, types
    assert "".join(e.delta for e in events[4:-4]) == case["output_text"]
    assert len({e.item_id for e in events if hasattr(e, "item_id")}) == 1
    with client(rbee).responses.stream(**request) as stream:
        final = stream.get_final_response()
    assert final.output_text == case["output_text"] == events[-1].response.output_text


FLAT_WEATHER = {"type": "function", "strict": False} | WEATHER["function"]


def check_responses_call_tools(rbee):
    api = client(rbee)
    items = [{"role": "user", "content": "I look.\n" + call_text("Bern") + call_text("Basel")}]
    request = {"model": ECHO, "tools": [FLAT_WEATHER]}
    answer = api.responses.create(**request, input=items)
    assert [item.type for item in answer.output] == ["message", "function_call", "function_call"], answer.output
    assert [json.loads(item.arguments)["city"] for item in answer.output[1:]] == ["Bern", "Basel"]
    with api.responses.stream(**request, input=items) as stream:
        types = [event.type for event in stream]
        final = stream.get_final_response()
    assert types.count("response.function_call_arguments.done") == 2, types
    assert [json.loads(item.arguments) for item in final.output[1:]] == [{"city": "Bern"}, {"city": "Basel"}]
    items += answer.output
    for call in answer.output[1:]:
        items.append({"type": "function_call_output", "call_id": call.call_id, "output": f"21 degrees, {call.call_id}"})
    last = api.responses.create(**request, input=items)
    assert last.output_text == items[-1]["output"], last


def check_responses_have_a_format(rbee):
    class Place(pydantic.BaseModel):
        town: typing.Literal["Bern", "Basel"]
        days: typing.Literal[1, 2, 3]

    answer = client(rbee).responses.parse(model=MODEL, input="Where is it?", text_format=Place)
    assert isinstance(answer.output_parsed, Place), answer
    with client(rbee).responses.stream(model=MODEL, input="Where is it?", text_format=Place) as stream:
        assert isinstance(stream.get_final_response().output_parsed, Place)
    forced = client(rbee).responses.parse(
        model=MODEL, input="Where is it?", tools=[openai.pydantic_function_tool(Place)["function"] | {"type": "function"}],
        tool_choice={"type": "function", "name": "Place"},
    )
    assert isinstance(forced.output[0].parsed_arguments, (Place, dict)), forced


def check_responses_refuse_what_is_stored(rbee):
    api = client(rbee)
    for field, value in (("previous_response_id", "resp_1"), ("conversation", "conv_1"), ("background", True)):
        error = raised(openai.BadRequestError, lambda: api.responses.create(model=MODEL, input="x", **{field: value}))
        assert error.param == field, error.body
    for call in (api.responses.retrieve, api.responses.delete):
        error = raised(openai.NotFoundError, lambda: call("resp_1"))
        assert "not stored" in error.message, error.body


def check_several_prompts(rbee):
    api = client(rbee)
    request = {"model": MODEL, "temperature": 0, "max_tokens": 8}
    texts = ["rain on", "a GPU", "the cloud"]
    alone = [api.completions.create(**request, prompt=text) for text in texts]
    together = api.completions.create(**request, prompt=texts)
    assert [c.index for c in together.choices] == [0, 1, 2]
    assert [c.text for c in together.choices] == [a.choices[0].text for a in alone]
    assert together.usage.total_tokens == sum(a.usage.total_tokens for a in alone)
    streamed = [""] * 6
    for chunk in api.completions.create(**request, prompt=texts, n=2, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == [a.choices[0].text for a in alone for _ in range(2)], streamed


def check_closing_a_stream_of_several_choices_frees_all_slots(rbee):
    stream = client(rbee).chat.completions.create(
        model=SLOW, messages=[{"role": "user", "content": "x"}], stream=True, n=3
    )
    for i, _chunk in enumerate(stream):
        if i == 6:
            break
    stream.close()
    eventually(lambda: idle(rbee))


def check_closing_a_stream_frees_the_slot(rbee):
    for _ in range(3):
        stream = client(rbee).chat.completions.create(
            model=SLOW, messages=[{"role": "user", "content": "x"}], stream=True
        )
        for i, _chunk in enumerate(stream):
            if i == 3:
                break
        stream.close()
        eventually(lambda: idle(rbee))


def check_a_client_that_times_out_frees_the_slot(rbee):
    api = client(rbee, timeout=1.0)
    raised(
        openai.APITimeoutError,
        lambda: api.chat.completions.create(model=SLOW, messages=[{"role": "user", "content": "x"}]),
    )
    eventually(lambda: idle(rbee))


def check_embeddings(rbee):
    texts = ["rain on the roof", "the cloud and the rain", "a GPU hums"]
    answer = client(rbee).embeddings.create(model=MODEL, input=texts)
    vectors = [item.embedding for item in answer.data]
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert all(abs(sum(n * n for n in v) - 1) < 1e-3 for v in vectors)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens > 3
    # The client requests base64 by default.
    plain = client(rbee).embeddings.create(model=MODEL, input=texts[1], encoding_format="float").data[0].embedding
    difference = max(abs(a - b) for a, b in zip(plain, vectors[1], strict=True))
    assert difference < 1e-6, f"batched and alone differ by {difference}"
    short = client(rbee).embeddings.create(model=MODEL, input=texts[0], dimensions=8).data[0].embedding
    assert len(short) == 8 and abs(sum(n * n for n in short) - 1) < 1e-3
    error = raised(openai.BadRequestError, lambda: client(rbee).embeddings.create(model=MODEL, input="rain " * 600))
    assert error.code == "context_length_exceeded", error.body
    error = raised(openai.BadRequestError, lambda: client(rbee).embeddings.create(model=MODEL, input="a", dimensions=9999))
    assert error.param == "dimensions", error.body


def check_keys(_):
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home:
        with Rbee(home, key="sk-a-key-of-this-test-only") as rbee:
            assert MODEL in [m.id for m in client(rbee).models.list()]
            wrong = raised(openai.AuthenticationError, lambda: client(rbee, api_key="sk-wrong").models.list())
            assert wrong.code == "invalid_api_key"
            missing = raised(
                openai.AuthenticationError,
                lambda: client(rbee).models.list(extra_headers={"Authorization": openai.Omit()}),
            )
            assert missing.code == "invalid_api_key"


NO_TOOLS = "the engine llama-cpp does not support tools with this model"
LACKS = dict.fromkeys(["check_required_tool_call", "check_named_function", "check_responses_have_a_format"], NO_TOOLS)
# llama.cpp's server computes other vectors for texts of one request than for each alone.
LACKS["check_embeddings"] = "batched and alone differ"

if __name__ == "__main__":
    main(globals(), LACKS if LLAMA_SERVER else {})
