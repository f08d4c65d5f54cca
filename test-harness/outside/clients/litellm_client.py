"""LiteLLM, through its routes for OpenAI, Anthropic and Ollama."""

import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
import pydantic  # noqa: E402
from harness import CALLS, CASES, MODEL, QUESTION, WEATHER, main, not_applicable  # noqa: E402

litellm.suppress_debug_info = True
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather", "parameters": WEATHER}}
USER = {"role": "user", "content": QUESTION}


def routes(rbee):
    """Returns the prefix of the model and the base URL of every route."""
    return [("openai", f"{rbee.url}/v1"), ("anthropic", rbee.url), ("ollama_chat", rbee.url)]


def further_routes(rbee):
    """Routes for the same APIs, of which each has its own rules for errors."""
    return [("text-completion-openai", f"{rbee.url}/v1"), ("hosted_vllm", f"{rbee.url}/v1"), ("ollama", rbee.url)]


def greedy(route):
    """Returns the settings of the references, which have no penalty; Ollama has one by default."""
    return {"repeat_penalty": 1} if route[0] == "ollama_chat" else {}


def ask(route, model, **settings):
    prefix, base = route
    settings = {"temperature": 0, "max_tokens": 200, "api_key": "unused", "timeout": 60, "num_retries": 0} | settings
    return litellm.completion(model=f"{prefix}/{model}", api_base=base, **settings)


def check_a_chat_equals_the_reference(rbee):
    case = CASES[0]
    for route in routes(rbee):
        answer = ask(route, MODEL, messages=case["messages"], **greedy(route))
        assert answer.choices[0].message.content == case["output_text"], (route, answer)
        assert answer.choices[0].finish_reason == "stop", (route, answer)
        assert answer.usage.completion_tokens == len(case["output_ids"]), (route, answer)


def check_a_stream_equals_the_reference(rbee):
    case = CASES[0]
    for route in routes(rbee):
        parts = list(ask(route, MODEL, messages=case["messages"], stream=True, **greedy(route)))
        text = "".join(part.choices[0].delta.content or "" for part in parts)
        assert text == case["output_text"], (route, text)


def check_a_tool_is_called_and_its_result_answered(rbee):
    for route in routes(rbee):
        first = ask(route, CALLS, messages=[USER], tools=[TOOL]).choices[0].message
        (call,) = first.tool_calls
        assert call.function.name == "weather", (route, call)
        assert json.loads(call.function.arguments) == {"town": "Bern", "days": 3}, (route, call)
        result = {"role": "tool", "tool_call_id": call.id, "name": "weather", "content": "21 degrees"}
        second = ask(route, CALLS, messages=[USER, first.model_dump(), result], tools=[TOOL])
        assert second.choices[0].message.content == "21 degrees", (route, second)


def check_a_schema_describes_the_answer(rbee):
    class Haiku(pydantic.BaseModel):
        title: str
        rating: int

    for route in routes(rbee):
        if route[0] != "anthropic":
            answer = ask(route, CALLS, messages=[USER], response_format=Haiku)
            Haiku.model_validate_json(answer.choices[0].message.content)


def check_texts_are_embedded(rbee):
    for route in (("openai", f"{rbee.url}/v1"), ("ollama", rbee.url)):
        answer = litellm.embedding(
            model=f"{route[0]}/{MODEL}", api_base=route[1], api_key="unused", input=["rain", "the cloud"]
        )
        assert len(answer.data) == 2, (route, answer)


def check_every_further_route_answers(rbee):
    for route in further_routes(rbee):
        answer = ask(route, MODEL, messages=CASES[0]["messages"], max_tokens=9)
        assert answer.choices and answer.usage.completion_tokens > 0, (route, answer)


def overflows(route):
    """Returns the error of a prompt that does not fit, of a whole answer and of a stream."""
    long = [{"role": "user", "content": "rain " * 600}]
    for stream in (False, True):
        try:
            list(ask(route, MODEL, messages=long, stream=stream))
        except Exception as error:
            assert "512" in str(error), (route, stream, error)
            yield stream, error
            continue
        raise AssertionError(f"{route[0]}: no error")


def check_an_overflow_is_recognized(rbee):
    for route in [*routes(rbee), *further_routes(rbee)]:
        if route[0].startswith("ollama"):
            continue
        for stream, error in overflows(route):
            # LiteLLM does not translate errors of streamed text completions.
            if route[0] != "text-completion-openai" or not stream:
                assert isinstance(error, litellm.ContextWindowExceededError), (route, stream, error)


def check_an_overflow_is_recognized_on_the_routes_for_ollama(rbee):
    for route in [*routes(rbee), *further_routes(rbee)]:
        if route[0].startswith("ollama"):
            for stream, error in overflows(route):
                assert isinstance(error, litellm.BadRequestError), (route, stream, error)
                assert "the input length exceeds the context length" in str(error), (route, stream, error)
                recognized = isinstance(error, litellm.ContextWindowExceededError)
    if not recognized:
        not_applicable("LiteLLM has no rule for the texts of Ollama's errors; it raises BadRequestError")


def check_a_missing_model_is_not_found(rbee):
    for route in routes(rbee)[:2]:
        try:
            ask(route, "nothing", messages=[USER])
        except litellm.NotFoundError:
            continue
        raise AssertionError(f"{route[0]}: no error")


if __name__ == "__main__":
    main("litellm", globals())
