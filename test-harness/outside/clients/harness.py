"""Shared by the checks with real clients: real processes, and a line for each check.

    RBEE_BIN_DIR=target/debug python litellm_client.py

Prints `client NAME: CHECK ... ok`, `... FAILED` or `... not applicable: REASON`, and a summary.
"""

import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "end-to-end"))

from rbee import CASES, MODEL, REFERENCE, Rbee  # noqa: E402

__all__ = ["CALLS", "CASES", "MODEL", "QUESTION", "REFERENCE", "WEATHER", "Report", "Rbee", "main", "not_applicable"]

# Calls the first tool, repeats its result; under a constraint, the shortest answer.
CALLS = "mock:answer=call,context=16384"
QUESTION = "How is the weather in 'Bern' for 3 days?"
WEATHER = {
    "type": "object",
    "properties": {"town": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["town", "days"],
}


class NotApplicable(Exception):
    """This version of rbee has no part for a check."""


def not_applicable(reason):
    raise NotApplicable(reason)


class Report:
    """The lines and the summary of the checks with one client."""

    def __init__(self, client):
        self.client = client
        self.passed = self.failed = self.skipped = 0

    def ok(self, check, note=""):
        self.passed += 1
        self.line(check, f"ok{note}")

    def not_applicable(self, check, reason):
        self.skipped += 1
        self.line(check, f"not applicable: {reason}")

    def fail(self, check, output):
        self.failed += 1
        self.line(check, f"FAILED\n{output.rstrip()}")

    def line(self, check, result):
        print(f"client {self.client}: {check} ... {result}", flush=True)

    def finish(self):
        print(f"client: {self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        sys.exit(1 if self.failed else 0)


def main(client, namespace):
    """Runs all functions `check_*` of a script on a new queen."""
    report = Report(client)
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home, Rbee(home) as rbee:
        for name, check in list(namespace.items()):
            if not name.startswith("check_"):
                continue
            name = name.removeprefix("check_").replace("_", " ")
            try:
                check(rbee)
                report.ok(name)
            except NotApplicable as reason:
                report.not_applicable(name, reason)
            except Exception:
                report.fail(name, traceback.format_exc())
    report.finish()
