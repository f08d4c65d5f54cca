"""Tests rbee with the official Anthropic client.

    RBEE_BIN_DIR=target/debug python anthropic_client.py
"""

import re
import tempfile

import anthropic

from rbee import CASES, MODEL, SLOW, Rbee, eventually, idle, main, raised


def client(rbee, **overrides):
    settings = {"base_url": rbee.url, "api_key": rbee.key or "unused", "max_retries": 0, "timeout": 60}
    return anthropic.Anthropic(**(settings | overrides))


# A field of the API that this version of the client has no parameter for.
GREEDY = {"temperature": 0}


def check_a_message_equals_the_reference(rbee):
    for case in CASES[:3]:
        answer = client(rbee).messages.create(model=MODEL, messages=case["messages"], max_tokens=96, extra_body=GREEDY)
        assert [block.type for block in answer.content] == ["text"]
        assert answer.content[0].text == case["output_text"]
        assert (answer.role, answer.type, answer.model) == ("assistant", "message", MODEL)
        assert answer.stop_reason == "end_turn"
        assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens == len(case["prompt_ids"])
        assert answer.usage.output_tokens == len(case["output_ids"])
        assert answer._request_id


def check_a_stream_equals_the_reference_and_counts(rbee):
    case = CASES[0]
    with client(rbee).messages.stream(model=MODEL, messages=case["messages"], max_tokens=96, extra_body=GREEDY) as stream:
        assert "".join(stream.text_stream) == case["output_text"]
        message = stream.get_final_message()
    assert message.content[0].text == case["output_text"]
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == len(case["output_ids"])
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == len(case["prompt_ids"])
    events = client(rbee).messages.create(
        model=MODEL, messages=case["messages"], max_tokens=96, extra_body=GREEDY, stream=True
    )
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds


def check_content_blocks_and_system_prompt(rbee):
    case = CASES[0]
    blocks = [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in case["messages"]]
    answer = client(rbee).messages.create(model=MODEL, messages=blocks, max_tokens=96, extra_body=GREEDY)
    assert answer.content[0].text == case["output_text"]
    answer = client(rbee).messages.create(model=MODEL, system="Write about rain.", messages=blocks, max_tokens=96)
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens > len(case["prompt_ids"])


def check_stop_reasons(rbee):
    case = CASES[0]
    answer = client(rbee).messages.create(model=MODEL, messages=case["messages"], max_tokens=3)
    assert answer.stop_reason == "max_tokens" and answer.usage.output_tokens == 3
    answer = client(rbee).messages.create(
        model=MODEL, messages=case["messages"], max_tokens=96, extra_body=GREEDY, stop_sequences=["nowhere", "multiplies"]
    )
    assert answer.content[0].text == case["output_text"].split("multiplies")[0]
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "multiplies")


def check_token_count(rbee):
    case = CASES[0]
    count = client(rbee).messages.count_tokens(model=MODEL, messages=case["messages"])
    assert count.input_tokens == len(case["prompt_ids"])


def check_thinking(rbee):
    ask = {"model": "mock:answer=think", "max_tokens": 2000, "messages": [{"role": "user", "content": "Hello"}]}
    enabled = {"type": "enabled", "budget_tokens": 1024}
    message = client(rbee).messages.create(**ask, thinking=enabled)
    assert [b.type for b in message.content] == ["thinking", "text"], message.content
    assert message.content[0].thinking == "The message is: Hello" and message.content[0].signature
    assert message.content[1].text == "Hello"
    with client(rbee).messages.stream(**ask, thinking=enabled) as stream:
        blocks = stream.get_final_message().content
    assert (blocks[0].thinking, blocks[0].signature) == (message.content[0].thinking, message.content[0].signature)
    assert blocks[1].text == "Hello"
    for thinking in [{}, {"thinking": {"type": "disabled"}}]:
        content = client(rbee).messages.create(**ask, **thinking).content
        assert [(b.type, b.text) for b in content] == [("text", "Hello")]
    turns = [*ask["messages"], {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in message.content]}, {"role": "user", "content": "Bye"}]
    again = client(rbee).messages.create(**(ask | {"messages": turns}))
    assert again.content[0].text == "Bye"


def check_tool_choice(rbee):
    town = {
        "type": "object",
        "properties": {"town": {"enum": ["Bern", "Basel"]}},
        "required": ["town"],
        "additionalProperties": False,
    }
    request = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "How is the weather in Bern?"}],
        "max_tokens": 200,
        "tools": [{"name": "weather", "input_schema": town}, {"name": "now", "input_schema": {"type": "object", "additionalProperties": False}}],
    }
    for choice, names in (
        ({"type": "any"}, {"weather", "now"}),
        ({"type": "tool", "name": "weather"}, {"weather"}),
    ):
        answer = client(rbee).messages.create(**request, tool_choice=choice)
        assert answer.stop_reason == "tool_use", answer
        (block,) = answer.content
        assert block.type == "tool_use" and block.name in names, block
        assert block.input in ([{}] if block.name == "now" else [{"town": "Bern"}, {"town": "Basel"}]), block
        with client(rbee).messages.stream(**request, tool_choice=choice) as stream:
            message = stream.get_final_message()
        assert message.stop_reason == "tool_use" and message.content[0].name in names, message
    error = raised(
        anthropic.BadRequestError,
        lambda: client(rbee).messages.create(**request, tool_choice={"type": "tool", "name": "other"}),
    )
    assert error.body["error"]["param"] == "tool_choice", error.body


def check_error_types(rbee):
    api = client(rbee)
    messages = [{"role": "user", "content": "x"}]
    image = {"type": "image", "source": {"type": "url", "url": "http://x"}}
    server = {"type": "url", "url": "http://x", "name": "x"}
    for wrong, code, param in (
        ({"max_tokens": -2}, "INVALID_REQUEST", "max_tokens"),
        ({"extra_body": {"temperature": 1.5}}, "INVALID_REQUEST", "temperature"),
        ({"messages": []}, "INVALID_REQUEST", "messages"),
        (
            {"messages": [*messages, {"role": "assistant", "content": "Once "}]},
            "INVALID_REQUEST",
            "messages[1].content",
        ),
        ({"messages": [{"role": "user", "content": "rain " * 600}]}, "CONTEXT_LENGTH_EXCEEDED", "messages"),
        ({"messages": [{"role": "user", "content": [image]}]}, "UNSUPPORTED_PARAMETER", "messages[0].content[0]"),
        ({"extra_body": {"mcp_servers": [server]}}, "UNSUPPORTED_PARAMETER", "mcp_servers"),
    ):
        valid = {"model": MODEL, "messages": messages, "max_tokens": 9}
        error = raised(anthropic.BadRequestError, lambda: api.messages.create(**(valid | wrong)))
        assert error.type == "invalid_request_error", error.body
        assert (error.body["error"]["code"], error.body["error"]["param"]) == (code, param), error.body
    for stream in (False, True):
        error = raised(
            anthropic.NotFoundError,
            lambda: api.messages.create(model="claude", messages=messages, max_tokens=9, stream=stream),
        )
        assert error.type == "not_found_error" and error.body["error"]["code"] == "MODEL_NOT_FOUND"


def check_an_overflow_says_so_in_anthropics_words(rbee):
    long = [{"role": "user", "content": "rain " * 600}]
    error = raised(
        anthropic.BadRequestError, lambda: client(rbee).messages.create(model=MODEL, messages=long, max_tokens=9)
    )
    assert re.search(r"prompt is too long: \d+ tokens > 512 maximum", error.message), error.message


def check_a_prefill_is_continued(rbee):
    case = CASES[0]
    begin, rest = case["output_text"].split("\n", 1)
    messages = [*case["messages"], {"role": "assistant", "content": begin}]
    answer = client(rbee).messages.create(model=MODEL, messages=messages, max_tokens=96, extra_body=GREEDY)
    assert answer.content[0].text == "\n" + rest, answer


def check_closing_a_stream_frees_the_slot(rbee):
    for _ in range(2):
        messages = [{"role": "user", "content": "x"}]
        stream = client(rbee).messages.create(model=SLOW, messages=messages, max_tokens=9999, stream=True)
        for i, _event in enumerate(stream):
            if i == 4:
                break
        stream.close()
        eventually(lambda: idle(rbee))


def check_keys(_):
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home:
        with Rbee(home, key="sk-a-key-of-this-test-only") as rbee:
            request = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
            assert client(rbee).messages.create(**request).usage.output_tokens == 1
            bearer = client(rbee, api_key=None, auth_token=rbee.key)
            assert bearer.messages.create(**request).usage.output_tokens == 1
            wrong = raised(anthropic.AuthenticationError, lambda: client(rbee, api_key="sk-wrong").messages.create(**request))
            assert wrong.type == "authentication_error" and wrong.body["error"]["code"] == "INVALID_API_KEY"


if __name__ == "__main__":
    main(globals())
