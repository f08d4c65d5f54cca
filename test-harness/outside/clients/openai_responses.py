"""The official OpenAI client, `client.responses`."""

import functools
import json

import openai
import pydantic
from harness import CALLS, CASES, MODEL, QUESTION, WEATHER, main

TOOL = {"type": "function", "name": "weather", "parameters": WEATHER, "strict": False}


def responses(check):
    """Passes `client.responses` to a check."""

    @functools.wraps(check)
    def wrapped(rbee):
        client = openai.OpenAI(base_url=f"{rbee.url}/v1", api_key="unused", max_retries=0, timeout=60)
        check(client.responses)

    return wrapped


@responses
def check_a_response_equals_the_reference(api):
    for case in CASES[:3]:
        answer = api.create(model=MODEL, input=case["messages"], temperature=0, max_output_tokens=96, store=False)
        assert answer.output_text == case["output_text"], answer
        assert answer.status == "completed" and answer.object == "response"
        assert answer.usage.input_tokens == len(case["prompt_ids"])
        assert answer.usage.output_tokens == len(case["output_ids"])


@responses
def check_instructions_are_a_system_message(api):
    answer = api.create(model=MODEL, instructions="Write about rain.", input="Write", max_output_tokens=20, store=False)
    assert answer.usage.input_tokens > 10 and answer.status in ("completed", "incomplete")


@responses
def check_a_stream_equals_the_reference(api):
    case = CASES[0]
    events = list(
        api.create(model=MODEL, input=case["messages"], temperature=0, max_output_tokens=96, store=False, stream=True)
    )
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == case["output_text"] == events[-1].response.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


@responses
def check_the_token_limit_is_incomplete(api):
    answer = api.create(model=MODEL, input=CASES[0]["messages"], max_output_tokens=3, store=False)
    assert answer.status == "incomplete" and answer.incomplete_details.reason == "max_output_tokens"


@responses
def check_a_function_is_called_and_its_output_answered(api):
    conversation = [{"role": "user", "content": QUESTION}]
    first = api.create(model=CALLS, input=conversation, tools=[TOOL], temperature=0, store=False)
    (call,) = [item for item in first.output if item.type == "function_call"]
    assert (call.name, json.loads(call.arguments)) == ("weather", {"town": "Bern", "days": 3})
    conversation += first.output
    conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"})
    second = api.create(model=CALLS, input=conversation, tools=[TOOL], temperature=0, store=False)
    assert second.output_text == "21 degrees"


@responses
def check_a_function_call_is_streamed(api):
    with api.stream(model=CALLS, input=QUESTION, tools=[TOOL], temperature=0, store=False) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.done"]
    assert json.loads(done[0].arguments) == {"town": "Bern", "days": 3}


@responses
def check_a_schema_describes_the_answer(api):
    class Haiku(pydantic.BaseModel):
        title: str
        rating: int

    answer = api.parse(model=CALLS, input=QUESTION, text_format=Haiku, temperature=0, store=False)
    assert isinstance(answer.output_parsed, Haiku)


@responses
def check_an_unknown_previous_response_is_refused_by_name(api):
    try:
        api.create(model=MODEL, input="x", previous_response_id="resp_1")
    except openai.BadRequestError as error:
        assert "previous_response_id" in str(error), error
    else:
        raise AssertionError("no error")


if __name__ == "__main__":
    main("openai (Python) responses", globals())
