"""Pydantic AI, with its models for OpenAI."""

import asyncio

import pydantic
from harness import CALLS, CASES, MODEL, QUESTION, main
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

GREEDY = {"temperature": 0, "max_tokens": 400}


class Haiku(pydantic.BaseModel):
    title: str
    rating: int


def agent(rbee, model, **settings):
    provider = OpenAIProvider(base_url=f"{rbee.url}/v1", api_key="unused")
    return Agent(OpenAIChatModel(model, provider=provider), model_settings=GREEDY, **settings)


def run(coroutine):
    return asyncio.new_event_loop().run_until_complete(coroutine)


def check_an_answer_equals_the_reference(rbee):
    case = CASES[0]
    result = run(agent(rbee, MODEL).run(case["messages"][0]["content"]))
    assert result.output == case["output_text"].strip(), result.output


def check_a_stream_equals_the_reference(rbee):
    case = CASES[0]

    async def stream():
        async with agent(rbee, MODEL).run_stream(case["messages"][0]["content"]) as result:
            return [text async for text in result.stream_text()][-1]

    assert run(stream()) == case["output_text"]


def check_tools_are_called_in_a_loop(rbee):
    weather = agent(rbee, CALLS)
    received = []

    @weather.tool_plain
    def forecast(town: str, days: int) -> str:
        received.append((town, days))
        return "21 degrees"

    assert run(weather.run(QUESTION)).output == "21 degrees"
    assert received == [("Bern", 3)]


def check_a_tool_carries_the_answer(rbee):
    result = run(agent(rbee, CALLS, output_type=Haiku).run(QUESTION))
    assert result.output == Haiku(title="Bern", rating=3), result.output


def check_a_schema_describes_the_answer(rbee):
    result = run(agent(rbee, CALLS, output_type=NativeOutput(Haiku)).run(QUESTION))
    assert isinstance(result.output, Haiku)


if __name__ == "__main__":
    main("pydantic-ai", globals())
