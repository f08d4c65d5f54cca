"""LiteLLM as a client of each API: what it does depends on the words of errors."""

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

import litellm
from rbee import CASES, MODEL, main, raised

litellm.suppress_debug_info = True


def routes(rbee):
    """The arguments for each route of LiteLLM."""
    yield "openai", {"model": f"openai/{MODEL}", "api_base": f"{rbee.url}/v1"}
    yield "text-completion-openai", {"model": f"text-completion-openai/{MODEL}", "api_base": f"{rbee.url}/v1"}
    yield "hosted_vllm", {"model": f"hosted_vllm/{MODEL}", "api_base": f"{rbee.url}/v1"}
    yield "anthropic", {"model": f"anthropic/{MODEL}", "api_base": rbee.url}
    yield "ollama_chat", {"model": f"ollama_chat/{MODEL}", "api_base": rbee.url}
    yield "ollama", {"model": f"ollama/{MODEL}", "api_base": rbee.url}


def completion(arguments, **more):
    return litellm.completion(**arguments, api_key="unused", num_retries=0, timeout=60, **more)


def check_every_route_answers(rbee):
    for name, arguments in routes(rbee):
        answer = completion(arguments, messages=CASES[0]["messages"], max_tokens=9)
        assert answer.choices and answer.usage.completion_tokens > 0, (name, answer)


def check_an_overflow_is_recognised(rbee):
    """LiteLLM has no rule for Ollama: there it reports a bad request, whatever the text is. An error
    of a streamed text completion it passes on as it is."""
    long = [{"role": "user", "content": "rain " * 600}]
    for stream in (False, True):
        for name, arguments in routes(rbee):
            if stream and name == "text-completion-openai":
                continue
            kind = litellm.BadRequestError if "ollama" in name else litellm.ContextWindowExceededError
            error = raised(kind, lambda: list(completion(arguments, messages=long, stream=stream)))
            assert "512" in str(error), (name, error)


def check_an_unknown_model_is_not_found(rbee):
    for name, arguments in routes(rbee):
        wrong = arguments | {"model": arguments["model"].replace(MODEL, "builtin:nothing")}
        kinds = (litellm.NotFoundError, litellm.APIConnectionError) if "ollama" in name else litellm.NotFoundError
        raised(kinds, lambda: completion(wrong, messages=[{"role": "user", "content": "x"}], max_tokens=9))


if __name__ == "__main__":
    main(globals())
