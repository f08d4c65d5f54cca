"""Shared by the tests with official clients: real processes in a temporary home on free ports."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

BIN = Path(os.environ["RBEE_BIN_DIR"])
REFERENCE = Path(__file__).resolve().parents[2] / "models/haiku/golden.json"
CASES = json.loads(REFERENCE.read_text())["cases"]
MODEL = "builtin:haiku"
# Path of llama.cpp's server, which serves MODEL in place of rbee's own engine.
LLAMA_SERVER = os.environ.get("RBEE_LLAMA_SERVER")
SLOW = "mock:slots=1,tokens_per_second=20,length=100000,context=1000000"


class Rbee:
    """A queen and its hive with a home of their own."""

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
            [BIN / "rbee-keeper", *args], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=120, check=True
        ).stdout

    def __enter__(self):
        if LLAMA_SERVER:
            self.describe_engine()
        self.keeper("queen", "start")
        self.url = json.loads((self.home / "run/queen.json").read_text())["url"]
        if LLAMA_SERVER:
            self.keeper("worker", "spawn", MODEL, "--engine", "llama")
        return self

    def describe_engine(self):
        """Describes llama.cpp's server as an engine of the node."""
        engines = self.home / "engines"
        engines.mkdir()
        options = ["-m", "{model}", "--port", "{port}", "-c", "4096", "-np", "{slots}", "-t", "{threads}"]
        options += ["--embeddings", "--pooling", "mean"]
        command = json.dumps([LLAMA_SERVER, *options])
        (engines / "llama.toml").write_text(f'kind = "llama-cpp"\ncommand = {command}\n')

    def __exit__(self, *_):
        self.keeper("queen", "stop")

    def status(self):
        return json.loads(self.keeper("--json", "status"))


def eventually(condition, seconds=15):
    """Waits until `condition()` returns `(True, state)`. Fails with the last state."""
    end = time.monotonic() + seconds
    while True:
        holds, state = condition()
        if holds:
            return
        assert time.monotonic() < end, state
        time.sleep(0.05)


def raised(kind, call):
    """Returns the exception of type `kind` that `call()` raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def idle(rbee):
    requests = rbee.status()["requests"]
    return requests["running"] == 0 and requests["waiting"] == 0, requests


def run(check, rbee, lack):
    """Runs a check. One that needs what the engine lacks must fail with the text `lack`."""
    if not lack:
        return check(rbee)
    error = raised(Exception, lambda: check(rbee))
    assert lack in str(error), error


def main(namespace, lacks={}):
    """Runs all functions `check_*` of a script, prints `client: N passed, N failed`, and exits.

    `lacks` has the errors of checks that need what the engine lacks.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="rbee-client-") as home, Rbee(home) as rbee:
        for name, check in list(namespace.items()):
            if not name.startswith("check_"):
                continue
            try:
                run(check, rbee, lacks.get(name))
                passed += 1
                print(f"client {name} ... ok", flush=True)
            except Exception:
                failed += 1
                print(f"client {name} ... FAILED")
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
    print(f"client: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
