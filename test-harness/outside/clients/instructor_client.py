"""Instructor, over the official OpenAI client."""

import instructor
import openai
import pydantic
from harness import CALLS, QUESTION, main


class Haiku(pydantic.BaseModel):
    title: str
    rating: int


def answer(rbee, mode):
    client = openai.OpenAI(base_url=f"{rbee.url}/v1", api_key="unused", max_retries=0, timeout=60)
    haiku = instructor.from_openai(client, mode=mode).chat.completions.create(
        model=CALLS,
        messages=[{"role": "user", "content": QUESTION}],
        response_model=Haiku,
        temperature=0,
        max_tokens=400,
        max_retries=0,
    )
    assert isinstance(haiku, Haiku)
    return haiku


def check_a_tool_carries_the_answer(rbee):
    haiku = answer(rbee, instructor.Mode.TOOLS)
    assert haiku.model_dump() == {"title": "Bern", "rating": 3}, haiku


def check_a_strict_tool_carries_the_answer(rbee):
    answer(rbee, instructor.Mode.TOOLS_STRICT)


def check_a_schema_describes_the_answer(rbee):
    answer(rbee, instructor.Mode.JSON_SCHEMA)


if __name__ == "__main__":
    main("instructor", globals())
