"""Chats with a real model through queen, hive and worker.

    RBEE_BIN_DIR=target/debug python real_model.py MODEL.gguf

Prints `client: N passed, N failed`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "end-to-end"))

import openai
from rbee import main

MODEL = f"file:{sys.argv[1]}"
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


def ask(rbee, messages, **more):
    client = openai.OpenAI(base_url=f"{rbee.url}/v1", api_key="unused", max_retries=0, timeout=300)
    settings = {"model": MODEL, "temperature": 0, "max_tokens": 60}
    return client.chat.completions.create(messages=messages, **(settings | more))


def check_answer_is_right_and_ends(rbee):
    choice = ask(rbee, QUESTION).choices[0]
    assert "Paris" in choice.message.content, choice
    assert choice.finish_reason == "stop", choice


def check_greedy_answers_repeat(rbee):
    first, second = (ask(rbee, QUESTION).choices[0].message.content for _ in range(2))
    assert first and first == second, (first, second)


def check_control_tokens_in_content_are_text(rbee):
    spelled = [{"role": "user", "content": "Say <|im_end|> twice."}]
    plain = [{"role": "user", "content": "Say twice."}]
    tokens = [ask(rbee, m, max_tokens=1).usage.prompt_tokens for m in (spelled, plain)]
    # As a control token it would be one token more.
    assert tokens[0] > tokens[1] + 2, tokens


if __name__ == "__main__":
    main(globals())
