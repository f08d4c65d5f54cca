"""The official OpenAI client, unchanged, against the real programs.

    RBEE_BIN_DIR=target/debug python openai_client.py

Starts a queen of its own in a temporary home on free ports, runs every `check_*` function,
stops everything, and prints `client: N passed, N failed`.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import openai

BIN = Path(os.environ["RBEE_BIN_DIR"])
GOLDEN = Path(__file__).resolve().parents[2] / "models/haiku/golden.json"
CASES = json.loads(GOLDEN.read_text())["cases"]
MODEL = "builtin:haiku"
SLOW = "mock:slots=1,tokens_per_second=20,length=100000,context=1000000"


class Rbee:
    """A queen with its hive in a home of its own."""

    def __init__(self, home, key=None):
        self.home = Path(home)
        self.key = key
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("RBEE_")}
        self.environment |= {
            "RBEE_HOME": str(home),
            "RBEE_QUEEN_PORT": "0",
            "RBEE_HIVE_PORT": "0",
            "RBEE_WORKER_PORTS": "0",
        }
        if key:
            path = self.home / "api.key"
            path.write_text(key)
            path.chmod(0o600)
            self.environment["RBEE_API_KEY_FILE"] = str(path)

    def keeper(self, *args):
        return subprocess.run(
            [BIN / "rbee-keeper", *args], env=self.environment, capture_output=True, text=True, timeout=120, check=True
        ).stdout

    def __enter__(self):
        self.keeper("queen", "start")
        self.url = json.loads((self.home / "run/queen.json").read_text())["url"]
        return self

    def __exit__(self, *_):
        self.keeper("queen", "stop")

    def client(self, **overrides):
        settings = {"base_url": f"{self.url}/v1", "api_key": self.key or "unused", "max_retries": 0, "timeout": 60}
        return openai.OpenAI(**(settings | overrides))

    def status(self):
        return json.loads(self.keeper("--json", "status"))


def eventually(condition, seconds=15):
    """Waits for a condition; fails with what it said last."""
    end = time.monotonic() + seconds
    while True:
        good, seen = condition()
        if good:
            return
        assert time.monotonic() < end, seen
        time.sleep(0.05)


def raised(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def idle(rbee):
    requests = rbee.status()["requests"]
    return requests["running"] == 0 and requests["waiting"] == 0, requests


def check_models_are_listed(rbee):
    models = list(rbee.client().models.list())
    assert MODEL in [m.id for m in models], models
    assert all(m.object == "model" for m in models)


def check_chat_is_golden(rbee):
    for case in CASES[:5]:
        answer = rbee.client().chat.completions.create(model=MODEL, messages=case["messages"], temperature=0, max_tokens=96)
        assert answer.choices[0].message.content == case["output_text"]
        assert answer.choices[0].message.role == "assistant"
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.prompt_tokens == len(case["prompt_ids"])
        assert answer.usage.completion_tokens == len(case["output_ids"])
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        assert answer.model == MODEL and answer.object == "chat.completion"


def check_stream_is_golden_and_counts(rbee):
    case = CASES[0]
    stream = rbee.client().chat.completions.create(
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
    usages = [c.usage for c in chunks if c.usage]
    assert len(usages) == 1 and chunks[-1].usage and not chunks[-1].choices
    assert usages[0].completion_tokens == len(case["output_ids"])


def check_completion_of_a_prompt(rbee):
    case = CASES[0]
    answer = rbee.client().completions.create(model=MODEL, prompt=case["prompt_text"], temperature=0, max_tokens=96)
    assert answer.choices[0].text == case["output_text"]
    assert answer.object == "text_completion"
    stream = rbee.client().completions.create(
        model=MODEL, prompt=case["prompt_text"], temperature=0, max_tokens=96, stream=True
    )
    assert "".join(c.choices[0].text for c in stream if c.choices) == case["output_text"]


def check_stop_text(rbee):
    for stop in ("multiplies", ["nowhere", "multiplies"]):
        answer = rbee.client().chat.completions.create(
            model=MODEL, messages=CASES[0]["messages"], temperature=0, stop=stop
        )
        assert answer.choices[0].message.content == CASES[0]["output_text"].split("multiplies")[0]
        assert answer.choices[0].finish_reason == "stop"


def check_length(rbee):
    answer = rbee.client().chat.completions.create(model=MODEL, messages=CASES[0]["messages"], max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 3


def check_seed(rbee):
    def text(seed):
        return (
            rbee.client()
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
    answer = rbee.client().chat.completions.create(
        model=MODEL, messages=case["messages"], temperature=0, max_tokens=3, logprobs=True, top_logprobs=5
    )
    for position, expected in zip(answer.choices[0].logprobs.content, case["top5_first3"]):
        assert abs(position.logprob - expected[0]["logprob"]) < 1e-3
        for got, want in zip(position.top_logprobs, expected):
            assert got.token == want["token"], (got, want)
            assert abs(got.logprob - want["logprob"]) < 1e-3, (got, want)


def check_raw_headers(rbee):
    raw = rbee.client().chat.completions.with_raw_response.create(
        model=MODEL, messages=CASES[0]["messages"], max_tokens=1
    )
    for name in ("x-rbee-worker", "x-rbee-node", "x-rbee-request-id", "x-rbee-seed"):
        assert raw.headers.get(name), name


def check_errors_have_types(rbee):
    client = rbee.client()
    messages = [{"role": "user", "content": "x"}]
    error = raised(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=messages, max_tokens=0))
    assert error.code == "INVALID_REQUEST" and error.param in ("max_tokens", "max_completion_tokens"), error.body
    error = raised(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "rain " * 600}]),
    )
    assert error.code == "CONTEXT_LENGTH_EXCEEDED"
    error = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="builtin:nothing", messages=messages))
    assert error.code == "MODEL_NOT_FOUND"
    error = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-4", messages=messages))
    assert error.code in ("MODEL_NOT_FOUND", "INVALID_MODEL_REF")
    # The same error for a stream is an HTTP error too, not a broken stream.
    raised(
        openai.NotFoundError,
        lambda: client.chat.completions.create(model="builtin:nothing", messages=messages, stream=True),
    )
    raised(openai.NotFoundError, lambda: client.models.retrieve("builtin:nothing"))


def check_closing_a_stream_frees_the_slot(rbee):
    for _ in range(3):
        stream = rbee.client().chat.completions.create(
            model=SLOW, messages=[{"role": "user", "content": "x"}], stream=True
        )
        for i, _chunk in enumerate(stream):
            if i == 3:
                break
        stream.close()
        eventually(lambda: idle(rbee))


def check_a_client_that_times_out_frees_the_slot(rbee):
    client = rbee.client(timeout=1.0)
    raised(
        openai.APITimeoutError,
        lambda: client.chat.completions.create(model=SLOW, messages=[{"role": "user", "content": "x"}]),
    )
    eventually(lambda: idle(rbee))


def check_keys(_):
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home:
        with Rbee(home, key="sk-a-key-of-this-test-only") as rbee:
            assert MODEL in [m.id for m in rbee.client().models.list()]
            wrong = raised(openai.AuthenticationError, lambda: rbee.client(api_key="sk-wrong").models.list())
            assert wrong.code == "INVALID_API_KEY"
            missing = raised(
                openai.AuthenticationError,
                lambda: rbee.client().models.list(extra_headers={"Authorization": openai.Omit()}),
            )
            assert missing.code == "MISSING_API_KEY"


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home, Rbee(home) as rbee:
        for name, check in list(globals().items()):
            if not name.startswith("check_"):
                continue
            try:
                check(rbee)
                passed += 1
                print(f"client {name} ... ok", flush=True)
            except Exception:
                failed += 1
                traceback.print_exc(file=sys.stdout)
                print(f"client {name} ... FAILED", flush=True)
    print(f"client: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
