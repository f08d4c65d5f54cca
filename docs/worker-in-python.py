"""A worker of rbee with the standard library of Python 3.11 only. The contract is in workers.md.

Its "model" repeats the prompt, from a place that depends on the seed. A token is a code point.
"""
import argparse, contextlib, http.client, itertools, json, os, random, re, select, signal, sys, threading, time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTEXT, MAX_BODY, PORT_TAKEN, TOKEN_MS = 2048, 4 << 20, 98, 3.0
RANGES = {"max_tokens": (1, 2**32), "logprobs": (0, 20), "seed": (0, 2**64 - 1), "temperature": (0, 100), "top_p": (0, 1)}
UNSUPPORTED = ["logprobs", "constraint", "tools", "preceding_tokens", "continue_final_message", "report_prompt"]
parser = argparse.ArgumentParser()
parser.add_argument("--version", action="version", version="worker-in-python 1.0")
parser.add_argument("--self-test", action="store_true")
for option in ["worker-id", "model", "device", "port", "queen-url", "hive-id", "generation", "slots", "alias"]:
    parser.add_argument(f"--{option}")
args, _ = parser.parse_known_args()
slots, model, lock = int(args.slots or 4), args.alias or f"mock:{args.model}", threading.Lock()
running, orders = {}, set()  # Ids of requests, and whether they are cancelled. Orders: drain, shutdown.


class Refusal(Exception):
    pass


def refuse_if(condition, status, code, message):
    if condition:
        raise Refusal(status, {"message": message, "type": "invalid_request_error", "param": None, "code": code})


def info():
    with lock:
        status = "draining" if orders else "busy" if len(running) == slots else "ready"
        status = "stopped" if "shutdown" in orders and not running else status
        free = 0 if orders else slots - len(running)
    return {"id": args.worker_id, "generation": int(args.generation), "hive_id": args.hive_id, "device": args.device,
            "model_id": model, "port": int(args.port), "pid": os.getpid(), "status": status, "slots_total": slots,
            "implementation": "worker-in-python", "version": "1.0", "capabilities": ["stream", "continue"],
            "slots_free": free, "queue_depth": 0, "context_length": CONTEXT, "memory_bytes": 0}


def generate(body, client):
    """Checks a request and yields its events: their names and data."""
    values = body.get("sampling", {}) | {name: body.get(name) for name in ("max_tokens", "logprobs")}
    source, stops, name = body["input"], body.get("stop", []), body["request_id"]
    messages = source.get("messages", [])
    prompt = source.get("prompt") or "\n".join(message["content"] for message in messages)
    prompt = prompt or "".join(map(chr, source.get("tokens", [])))
    valid = re.fullmatch("[A-Za-z0-9_-]{1,128}", name) and prompt.encode() and all(stops)
    refuse_if(not valid, 400, "INVALID_REQUEST", "request_id, the input or a stop sequence is not valid")
    for key, (low, high) in RANGES.items():
        valid = values.get(key) is None or low <= values[key] <= high
        refuse_if(not valid, 400, "INVALID_REQUEST", f"{key} is from {low} to {high}")
    lacks = [key for key in UNSUPPORTED if body.get(key)] + [1 for message in messages if message.get("images")]
    lacks = lacks or body.get("reasoning", {}).get("required")
    refuse_if(lacks, 400, "UNSUPPORTED_PARAMETER", f"this worker supports no images, reasoning, {UNSUPPORTED}")
    room = CONTEXT - len(prompt)
    length = min(values["max_tokens"] or room, room if body.get("end_with_context") else CONTEXT)
    refuse_if(not 0 < length <= room, 400, "CONTEXT_LENGTH_EXCEEDED", f"the context has {CONTEXT} tokens")
    deadline = datetime.fromisoformat(body["deadline"]).timestamp() if "deadline" in body else float("inf")
    seed = random.getrandbits(53) if values.get("seed") is None else values["seed"]
    begin = 0 if values.get("temperature") == 0 else seed
    # This model knows its whole output. Others hold back text that may begin a stop sequence.
    output = "".join(prompt[(begin + i) % len(prompt)] for i in range(length))
    found = [(output.index(stop) + len(stop), n) for n, stop in enumerate(stops) if stop in output]
    count, stop = min(found, default=(length, None))
    visible = count if stop is None else count - len(stops[stop])
    refuse_if(time.time() > deadline, 408, "DEADLINE_EXCEEDED", "the deadline has passed")
    with lock:
        refuse_if(orders, 503, "DRAINING", "this worker is draining")
        refuse_if(name in running, 409, "DUPLICATE_REQUEST", "a request with this id is running")
        refuse_if(len(running) == slots, 503, "ALL_SLOTS_BUSY", "all slots are busy")
        running[name] = False
    try:
        counts = {"prompt_tokens": len(prompt), "cached_tokens": 0}
        yield "started", counts | {"request_id": name, "model": model, "seed": seed}
        for i in range(len(body.get("continue_from", [])), count):
            refuse_if(running[name], 499, "CANCELLED", "the request was cancelled")
            refuse_if(time.time() > deadline, 408, "DEADLINE_EXCEEDED", "the deadline has passed")
            if select.select([client], [], [], TOKEN_MS / 1e3)[0]:  # A client that waits sends nothing but its end.
                raise ConnectionError
            yield "token", {"i": i, "t": output[i] if i < visible else "", "id": ord(output[i])}
        speed = {"tokens_per_second": 1e3 / TOKEN_MS}
        yield "metrics", speed | {"time_to_first_token_ms": TOKEN_MS}
        end = {"reason": "length"} if stop is None else {"reason": "stop", "stop": stop}
        timings = speed | {"queue_ms": 0, "prefill_ms": 0, "decode_ms": TOKEN_MS * count}
        yield "end", end | {"usage": counts | {"completion_tokens": count}, "timings": timings}
    finally:  # However it ends, its slot is free.
        with lock:
            del running[name]


class Handler(BaseHTTPRequestHandler):  # With HTTP/1.0, a response ends with its connection.
    streams = False

    def answer(self, status, body="", kind="application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def event(self, kind, data):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())

    def call(self):
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(min(length, MAX_BODY + 1))  # Before any refusal: the client may still be sending.
        try:
            known = self.path == "/health" or self.headers.get("authorization") == f"Bearer {worker_token}"
            refuse_if(not known, 401, "INVALID_API_KEY", "the token is missing or wrong")
            refuse_if(length > MAX_BODY, 413, "BODY_TOO_LARGE", "the body is larger than 4 MiB")
            self.route(f"{self.command} {self.path}", info(), raw)
        except Refusal as refusal:
            status, error = refusal.args
            self.event("error", error) if self.streams else self.answer(status, {"error": error})
        except ConnectionError:
            pass  # The client has left.

    do_GET = do_POST = do_DELETE = call

    def route(self, call, worker, raw):
        if call == "POST /v1/infer":
            refuse_if(self.headers.get_content_type() != "application/json", 415, "UNSUPPORTED_MEDIA_TYPE", "no JSON")
            try:
                body = json.loads(raw)
                events = generate(body, self.connection)
                started = next(events)
            except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
                refuse_if(True, 400, "INVALID_REQUEST", f"the body is not a request: {error!r}")
            self.streams = body.get("stream", True)
            with contextlib.closing(events):
                if not self.streams:
                    rest = [data for _, data in events]
                    texts, ids = [token["t"] for token in rest[:-2]], [token["id"] for token in rest[:-2]]
                    return self.answer(200, started[1] | rest[-1] | {"text": "".join(texts), "tokens": ids})
                self.answer(200, "", "text/event-stream")
                for kind, data in itertools.chain([started], events):
                    self.event(kind, data)
        elif call.startswith("DELETE /v1/infer/"):
            with lock:
                running.update({name: True for name in running if call.endswith(f"/{name}")})
            self.answer(204)
        elif call in ("POST /v1/drain", "POST /v1/shutdown"):
            orders.add("drain")
            self.answer(204 if call == "POST /v1/drain" else 202)
            orders.add(self.path.removeprefix("/v1/"))  # After the response: the process may exit now.
        elif call == "GET /health":
            self.answer(200, worker | {"status": "ok", "worker_id": args.worker_id, "api_version": 1})
        elif call == "GET /ready":
            ready, loading = worker["status"] in ("ready", "busy"), {"done": 1, "total": 1}
            self.answer(200 if ready else 503, {"ready": ready, "status": worker["status"], "loading": loading})
        elif call == "GET /metrics":
            self.answer(200, f"worker_requests_running {len(running)}\n", "text/plain; version=0.0.4")
        else:
            refuse_if(call != "GET /info", 404, "NOT_FOUND", "there is no such call")
            self.answer(200, worker)


if args.self_test:
    events = generate({"request_id": "a", "input": {"prompt": "x"}, "max_tokens": 2}, os.pipe()[0])
    sys.exit(0 if [data["t"] for kind, data in events if kind == "token"] == ["x", "x"] else 1)
worker_token, queen_token = [open(os.environ[f"RBEE_{of}_TOKEN_FILE"]).read().strip() for of in ("WORKER", "QUEEN")]
queen_headers = {"authorization": f"Bearer {queen_token}", "content-type": "application/json"}
signal.signal(signal.SIGTERM, lambda *_: orders.add("shutdown"))
ThreadingHTTPServer.request_queue_size = 128
try:
    server = ThreadingHTTPServer(("127.0.0.1", int(args.port)), Handler)
except OSError:
    sys.exit(PORT_TAKEN)
threading.Thread(target=server.serve_forever, daemon=True).start()
sent, sequence, due = None, 0, 0.0
while sent != "stopped":  # Until the last heartbeat is sent.
    worker = info()
    if worker["status"] != sent or time.monotonic() > due:
        sent, due = worker["status"], time.monotonic() + 5
        beat = {"worker": worker, "timestamp": datetime.now(timezone.utc).isoformat(), "sequence": sequence}
        with contextlib.suppress(OSError, http.client.HTTPException):  # The queen may be away.
            queen = http.client.HTTPConnection(args.queen_url.removeprefix("http://"), timeout=5)
            queen.request("POST", "/v1/worker-heartbeats", json.dumps(beat), queen_headers)
            if queen.getresponse().status == 409:
                sys.exit("a newer process has replaced this worker")
        sequence += 1
    time.sleep(0.02)
