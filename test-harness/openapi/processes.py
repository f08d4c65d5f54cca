"""Starts the queen with its hive, and a worker, for the conformance tests."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HARNESS = Path(__file__).resolve().parents[1]
DOCUMENTS = HARNESS.parent / "openapi"
sys.path.insert(0, str(HARNESS / "end-to-end"))

from rbee import BIN, Rbee  # noqa: E402

HAIKU = "builtin:haiku"
# Fast, short outputs. A worker of its own, so that slow requests of one model do not delay another.
MOCK = "mock:slots=4,length=8,context=4096"


def call(url, token, method="GET", body=None, headers=None):
    """Calls an endpoint and returns the parsed JSON of its response."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    request.add_header("Authorization", f"Bearer {token}")
    if data is not None:
        request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read() or "null")


class Installation(Rbee):
    """A queen and its hive, with the addresses and tokens of both, and sources of models without
    any model."""

    def __enter__(self):
        nothing = self.home / "nothing"
        nothing.mkdir()
        no_machine = self.home / "ssh_config"
        no_machine.write_text("Host *\n  ProxyCommand /bin/false\n")
        self.environment["RBEE_SSH_CONFIG"] = str(no_machine)
        # This machine stays awake.
        self.environment["RBEE_SUSPEND_COMMAND"] = "true"
        self.sources = []
        for service, variable in [("hub", "HF_ENDPOINT"), ("ollama", "RBEE_OLLAMA_REGISTRY")]:
            source = subprocess.Popen([BIN / "sim", service, "--dir", nothing], stdout=subprocess.PIPE, text=True)
            self.sources.append(source)
            self.environment[variable] = source.stdout.readline().strip()
        super().__enter__()
        self.queen_token = (self.home / "keys/queen.token").read_text().strip()
        self.node_token = (self.home / "keys/node-local.token").read_text().strip()
        deadline = time.monotonic() + 30
        while not (self.home / "run/hive.json").exists():
            assert time.monotonic() < deadline, "the hive did not start"
            time.sleep(0.05)
        self.hive_url = json.loads((self.home / "run/hive.json").read_text())["url"]
        return self

    def __exit__(self, *_):
        # The queen may have been shut down by a test.
        self.keeper("queen", "stop", "--drain", "0")
        for source in self.sources:
            source.terminate()
            source.wait()
            source.stdout.close()


class Worker:
    """A worker with the mock engine, without a queen."""

    def __init__(self, home):
        self.home = Path(home)

    def __enter__(self):
        self.token = "conformance-test-token"
        token_file = self.home / "worker.token"
        token_file.write_text(self.token)
        token_file.chmod(0o600)
        self.log = open(self.home / "worker.log", "wb")
        port = free_port()
        self.process = subprocess.Popen(
            [
                BIN / "mock-worker-rbee",
                *("--worker-id", "w-1", "--model", MOCK.removeprefix("mock:"), "--device", "CPU-0"),
                *("--port", str(port), "--queen-url", "http://127.0.0.1:9", "--hive-id", "local"),
                *("--generation", "1"),
            ],
            env=os.environ
            | {"RBEE_WORKER_TOKEN_FILE": str(token_file), "RBEE_QUEEN_TOKEN_FILE": str(token_file)},
            stdout=self.log,
            stderr=self.log,
        )
        self.url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 30
        while True:
            try:
                if call(f"{self.url}/ready", self.token)["ready"]:
                    return self
            except OSError:
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, "the worker did not start"
            time.sleep(0.05)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()


def free_port():
    """Returns a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
