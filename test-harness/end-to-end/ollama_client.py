"""Tests rbee with the official Ollama client.

    RBEE_BIN_DIR=target/debug python ollama_client.py
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import ollama

from rbee import BIN, CASES, MODEL, REFERENCE, SLOW, Rbee, eventually, idle, main, raised

# The references have no penalty, which Ollama has by default.
GREEDY = {"temperature": 0, "num_predict": 96.0, "repeat_penalty": 1}
# A model that no other check uses.
KEPT = "mock:answer=echo,tokens_per_second=1000"


def client(rbee):
    return ollama.Client(host=rbee.url, timeout=60)


def check_models_are_listed_and_shown(rbee):
    listed = {m.model: m for m in client(rbee).list().models}
    assert MODEL in listed, listed
    assert listed[MODEL].size > 1 << 20 and len(listed[MODEL].digest) == 64
    assert listed[MODEL].details.family == "llama"
    for name in (MODEL, "haiku", "haiku:latest", "haiku:q8_0"):
        shown = client(rbee).show(name)
        assert "completion" in shown.capabilities and shown.modelinfo["llama.context_length"] == 512, shown
        assert shown.modelinfo["llama.block_count"] == 4 and shown.modelinfo["llama.embedding_length"] == 256, shown
        assert "messages" in shown.template and shown.details.families == ["llama"], shown
    assert client(rbee).show("haiku:safetensors").parameters.split() == ["temperature", "0.7"]


def check_models_are_pulled_copied_and_deleted(_):
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "registry/library/tiny/135m.gguf")
        weights.parent.mkdir(parents=True)
        shutil.copy(REFERENCE.parent / "rbee-haiku-tiny-q8_0.gguf", weights)
        port = Path(folder, "port")
        command = [BIN / "sim", "ollama", "--dir", Path(folder, "registry"), "--port-file", port]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as registry:
            try:
                eventually(lambda: (port.exists() and port.read_text().isdigit(), "the registry starts"))
                rbee = Rbee(Path(folder, "home"))
                rbee.environment["RBEE_OLLAMA_REGISTRY"] = f"http://127.0.0.1:{port.read_text()}"
                with rbee:
                    pulled_copied_and_deleted(client(rbee), weights.stat().st_size)
            finally:
                registry.kill()


def pulled_copied_and_deleted(api, size):
    assert raised(ollama.ResponseError, lambda: api.pull("tiny:none")).status_code == 404
    lines = list(api.pull("tiny:135m", stream=True))
    assert lines[0].status == "pulling manifest" and lines[-1].status == "success", lines
    blobs = [line for line in lines if line.digest]
    assert blobs and blobs[-1].completed == blobs[-1].total == size, lines
    digest = blobs[0].digest
    assert digest.startswith("sha256:") and blobs[0].status == f"pulling {digest[7:19]}", lines
    assert api.pull("tiny:135m").status == "success"

    def listed():
        return {m.model: m for m in api.list().models}

    model = listed()["tiny:135m"]
    assert model.size == size and len(model.digest) == 64 and model.modified_at, model
    assert model.details.format == "gguf" and model.details.quantization_level == "Q8_0", model
    assert api.copy("tiny:135m", "mine").status == "success"
    shown = api.show("mine")
    assert shown.modelinfo["general.architecture"] == "llama" and shown.details.family == "llama", shown
    answer = api.generate(model="mine", prompt="a", options={"num_predict": 1})
    assert answer.eval_count == 1, answer
    assert "in use" in raised(ollama.ResponseError, lambda: api.delete("tiny:135m")).error
    api.generate(model="mine", keep_alive=0)
    assert api.delete("mine").status == "success"

    def deleted():
        try:
            return api.delete("tiny:135m").status == "success", "deleted"
        except ollama.ResponseError as error:
            return False, error

    eventually(deleted)
    assert "tiny:135m" not in listed() and "mine" not in listed(), listed()
    assert raised(ollama.ResponseError, lambda: api.delete("tiny:135m")).status_code == 404
    assert raised(ollama.ResponseError, lambda: api.show("tiny:135m")).status_code == 404
    assert raised(ollama.ResponseError, lambda: api.copy("tiny:135m", "mine")).status_code == 404


def check_chat_equals_the_reference(rbee):
    for case in CASES[:3]:
        answer = client(rbee).chat(model="haiku", messages=case["messages"], options=GREEDY)
        assert answer.message.content == case["output_text"]
        assert (answer.message.role, answer.done, answer.done_reason) == ("assistant", True, "stop")
        assert answer.prompt_eval_count == len(case["prompt_ids"])
        assert answer.eval_count == len(case["output_ids"])
        assert answer.total_duration >= answer.eval_duration > 0
    assert MODEL in [m.model for m in client(rbee).ps().models]


def check_a_stream_equals_the_reference_and_counts(rbee):
    case = CASES[0]
    parts = list(client(rbee).chat(model=MODEL, messages=case["messages"], options=GREEDY, stream=True))
    assert "".join(p.message.content for p in parts) == case["output_text"]
    assert len(parts) > 2 and [p.done for p in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == len(case["output_ids"])


def check_generate(rbee):
    case = CASES[0]
    (message,) = case["messages"]
    answer = client(rbee).generate(model=MODEL, prompt=message["content"], options=GREEDY)
    assert answer.response == case["output_text"]
    raw = client(rbee).generate(model=MODEL, prompt=case["prompt_text"], raw=True, options=GREEDY, stream=True)
    assert "".join(p.response for p in raw) == case["output_text"]
    loaded = client(rbee).generate(model=MODEL)
    assert (loaded.response, loaded.done_reason) == ("", "load")


def check_keep_alive_unloads(rbee):
    def running():
        return [m.model for m in client(rbee).ps().models]

    def unloaded():
        models = running()
        return KEPT not in models, models

    client(rbee).generate(model=KEPT, prompt="a", keep_alive="1h")
    assert KEPT in running()
    answer = client(rbee).generate(model=KEPT, keep_alive=0)
    assert (answer.response, answer.done_reason) == ("", "unload")
    eventually(unloaded)
    client(rbee).chat(model=KEPT, messages=[{"role": "user", "content": "a"}], keep_alive=0)
    eventually(unloaded)


def check_done_reasons_and_seeds(rbee):
    case = CASES[0]
    answer = client(rbee).chat(model=MODEL, messages=case["messages"], options={"num_predict": 3})
    assert (answer.done_reason, answer.eval_count) == ("length", 3)
    answer = client(rbee).chat(model=MODEL, messages=case["messages"], options=GREEDY | {"stop": ["multiplies"]})
    assert answer.message.content == case["output_text"].split("multiplies")[0]

    def text(seed):
        options = {"temperature": 1.0, "num_predict": 40, "seed": seed}
        return client(rbee).generate(model=MODEL, prompt="Write a haiku about rain", options=options).response

    assert text(7) == text(7)
    assert len({text(seed) for seed in range(5)}) > 1


def check_generate_continues_from_its_context(rbee):
    first = client(rbee).generate(model=MODEL, prompt="Write a haiku", options=GREEDY)
    assert len(first.context) == first.prompt_eval_count + first.eval_count, first
    second = client(rbee).generate(model=MODEL, prompt="And another", context=first.context, options=GREEDY)
    assert second.context[: len(first.context)] == first.context
    assert second.prompt_eval_count > len(first.context)


def check_old_turns_are_dropped(rbee):
    turns = [{"role": role, "content": "rain " * 60} for _ in range(4) for role in ("user", "assistant")]
    messages = [*turns, {"role": "user", "content": "Write a haiku"}]
    answer = client(rbee).chat(model=MODEL, messages=messages, options=GREEDY)
    assert answer.done and answer.prompt_eval_count < 512, answer


def check_options_without_effect_are_accepted(rbee):
    options = GREEDY | {"mirostat": 2, "num_gpu": 1, "num_ctx": 8192, "typical_p": 0.9, "repeat_last_n": 8}
    answer = client(rbee).chat(model=MODEL, messages=CASES[0]["messages"], options=options)
    assert answer.message.content == CASES[0]["output_text"]


def check_thinking(rbee):
    ask = {"model": "mock:answer=think", "messages": [{"role": "user", "content": "Hello"}]}
    for think in [None, True, "high"]:
        message = client(rbee).chat(**ask, think=think).message
        assert (message.content, message.thinking) == ("Hello", "The message is: Hello"), message
    parts = [part.message for part in client(rbee).chat(**ask, stream=True)]
    assert "".join(p.content or "" for p in parts) == "Hello"
    assert "".join(p.thinking or "" for p in parts) == "The message is: Hello"
    assert not client(rbee).chat(**ask, think=False).message.thinking
    generated = client(rbee).generate(model="mock:answer=think", prompt="Hello")
    assert (generated.response, generated.thinking) == ("Hello", "The message is: Hello")
    error = raised(ollama.ResponseError, lambda: client(rbee).chat(**(ask | {"model": "mock:answer=echo"}), think=True))
    assert error.status_code == 400 and error.error == '"mock:answer=echo" does not support thinking'


def check_logprobs(rbee):
    case = CASES[0]
    answer = client(rbee).chat(
        model=MODEL, messages=case["messages"], options=GREEDY | {"num_predict": 3}, logprobs=True, top_logprobs=5
    )
    for position, expected in zip(answer.logprobs, case["top5_first3"], strict=True):
        assert abs(position.logprob - expected[0]["logprob"]) < 1e-3
        assert [t.token for t in position.top_logprobs] == [t["token"] for t in expected]


def check_embeddings(rbee):
    texts = ["rain on the roof", "the cloud and the rain"]
    vectors = client(rbee).embed(model=MODEL, input=texts).embeddings
    assert len(vectors) == 2 and all(abs(sum(n * n for n in v) - 1) < 1e-3 for v in vectors)
    older = client(rbee).embeddings(model=MODEL, prompt=texts[1]).embedding
    assert all(abs(a - b) < 1e-6 for a, b in zip(older, vectors[1], strict=True))
    assert len(client(rbee).embed(model=MODEL, input="x", dimensions=8).embeddings[0]) == 8


def check_errors(rbee):
    messages = [{"role": "user", "content": "x"}]
    for stream in (False, True):
        error = raised(
            ollama.ResponseError, lambda: list(client(rbee).chat(model="nothing", messages=messages, stream=stream))
        )
        assert error.status_code == 404 and "nothing" in error.error, error
    for wrong, text in (
        ({"options": {"temperature": -1}}, "`options.temperature` must be between 0 and 100, not -1"),
        ({"think": True}, '"builtin:haiku" does not support thinking'),
    ):
        error = raised(ollama.ResponseError, lambda: client(rbee).chat(model=MODEL, messages=messages, **wrong))
        assert (error.status_code, error.error) == (400, text), error
    long = [{"role": "user", "content": "rain " * 600}]
    error = raised(ollama.ResponseError, lambda: client(rbee).chat(model=MODEL, messages=long))
    assert error.status_code == 400 and "512" in error.error, error
    assert error.error.startswith("the input length exceeds the context length"), error


def check_the_last_message_is_continued(rbee):
    case = CASES[0]
    begin, rest = case["output_text"].split("\n", 1)
    messages = [*case["messages"], {"role": "assistant", "content": begin}]
    answer = client(rbee).chat(model=MODEL, messages=messages, options=GREEDY)
    assert answer.message.content == "\n" + rest, answer


def check_closing_a_stream_frees_the_slot(rbee):
    for _ in range(2):
        parts = client(rbee).chat(model=SLOW, messages=[{"role": "user", "content": "x"}], stream=True)
        for _ in range(3):
            next(parts)
        parts.close()
        eventually(lambda: idle(rbee))


if __name__ == "__main__":
    main(globals())
