"""Compares the worker for GPUs with the one for the CPU, and with outputs of another implementation.

    python3 gpu_check.py --gpu-worker PATH --cpu-worker PATH --models models/haiku [--device GPU-0]

Needs the standard library only, and nothing from a network: it can run on a machine that is lent for
minutes. `cargo xtask cuda-check` builds the workers and runs it.
"""

import argparse
import json
import math
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

# Texts that must be the same, of 20, for each file of the model. Quantized weights are multiplied
# with activations of 8 bits, which the devices round by different rules.
FILES = {"rbee-haiku-tiny-f16.gguf": 20, ".": 20, "rbee-haiku-tiny-q8_0.gguf": 18}
MAX_TOKENS = 64
# Requests that a worker runs at once.
SLOTS = 16


class Worker:
    """A worker process with a model, until the end of the `with` block."""

    def __init__(self, program, device, model):
        self.dir = tempfile.TemporaryDirectory()
        self.token = secrets.token_hex(32)
        path = os.path.join(self.dir.name, "token")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(self.token)
        environment = dict(os.environ, RBEE_WORKER_TOKEN_FILE=path, RBEE_QUEEN_TOKEN_FILE=path)
        self.log = open(os.path.join(self.dir.name, "log"), "w+")
        options = ["--worker-id", "w", "--hive-id", "local", "--generation", "1", "--port", "0"]
        options += ["--queen-url", "http://127.0.0.1:1", "--device", device, "--model", model]
        self.process = subprocess.Popen(
            [program, *options], env=environment, stderr=self.log, stdin=subprocess.DEVNULL
        )

    def __enter__(self):
        port = self.wait_for(self.port, "listens")
        self.url = f"http://127.0.0.1:{port}"
        self.wait_for(self.is_ready, "is ready")
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def text(self):
        with open(self.log.name) as file:
            return file.read()

    def wait_for(self, condition, what):
        while not (value := condition()):
            if self.process.poll() is not None:
                raise SystemExit(f"the worker ended before it {what}:\n{self.text()}")
            time.sleep(0.05)
        return value

    def port(self):
        found = re.search(r" port=(\d+)", self.text())
        return found and found[1]

    def is_ready(self):
        try:
            return self.call("/ready").status == 200
        except OSError:
            return False

    def call(self, path, body=None):
        headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        try:
            return urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers))
        except urllib.error.HTTPError as error:
            if error.code == 503:
                raise
            raise SystemExit(f"{path}: {error.code}: {error.read().decode()}") from error

    def tokens(self, case):
        """The ids of the tokens of a greedy completion."""
        body = {"request_id": "r" + secrets.token_hex(8), "max_tokens": MAX_TOKENS}
        body |= {"sampling": {"temperature": 0}, "input": {"messages": case["messages"]}}
        ids, event = [], None
        with self.call("/v1/infer", body) as response:
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data" and event == "token":
                    ids.append(json.loads(value)["id"])
                elif name == "data" and event == "error":
                    raise SystemExit(f"a request failed: {value}")
        return ids

    def embedding(self, text):
        body = {"request_id": "e" + secrets.token_hex(8), "inputs": [{"prompt": text}]}
        with self.call("/v1/embed", body) as response:
            return json.load(response)["vectors"][0]


def outputs(worker, cases):
    """The outputs one after the other, then in batches."""
    alone = [worker.tokens(case) for case in cases]
    with ThreadPoolExecutor(SLOTS) as pool:
        return alone, list(pool.map(worker.tokens, cases))


def same(outputs, cases):
    # The last token of the reference may be the one that ends an output, which is not sent.
    pairs = zip(outputs, cases)
    return sum(bool(out) and case["output_ids"][: len(out)] == out
               and len(case["output_ids"]) - len(out) <= 1 for out, case in pairs)


def cosine(a, b):
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpu-worker", required=True)
    parser.add_argument("--cpu-worker", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--device", default="GPU-0")
    args = parser.parse_args()
    faults = 0

    def report(ok, text):
        nonlocal faults
        faults += not ok
        print("ok  " if ok else "FAIL", text, flush=True)

    test = subprocess.run([args.gpu_worker, "--self-test"], capture_output=True, text=True)
    report(test.returncode == 0, "the self-test" + (test.stderr and f": {test.stderr.strip()}"))
    if faults:
        return 1
    with open(os.path.join(args.models, "golden.json")) as file:
        cases = json.load(file)["cases"]
    for name, least in FILES.items():
        model = os.path.normpath(os.path.join(args.models, name))
        with Worker(args.cpu_worker, "CPU-0", model) as worker:
            expected = [worker.tokens(case) for case in cases]
            cpu_embedding = worker.embedding("a haiku about spring")
        with Worker(args.gpu_worker, args.device, model) as worker:
            start = time.monotonic()
            alone, together = outputs(worker, cases)
            count = sum(map(len, alone)) + sum(map(len, together))
            rate = count / (time.monotonic() - start)
            embedding = worker.embedding("a haiku about spring")
        shown = os.path.basename(model)
        for how, found in [("alone", alone), ("together", together)]:
            golden = same(found, cases)
            report(golden >= least, f"{shown}, {how}: {golden} of {len(cases)} as the reference")
            as_cpu = sum(a == b for a, b in zip(found, expected))
            report(as_cpu >= least, f"{shown}, {how}: {as_cpu} of {len(cases)} as the CPU")
        near = cosine(embedding, cpu_embedding)
        report(near > 0.999, f"{shown}: embeddings have a cosine of {near:.6f}")
        print(f"     {rate:.0f} tokens per second")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
