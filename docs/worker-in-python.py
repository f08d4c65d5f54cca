"""A worker of rbee with the standard library of Python 3.11 only. The contract is in workers.md.

Its "model" repeats the prompt, from a place that depends on the seed. A token is a code point.
"""
import argparse, http.client, json, os, random, re, select, signal, sys, threading, time
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
running, cancelled = set(), set()  # Ids of requests.
lock, orders, generated = threading.Lock(), set(), 0  # The orders are to drain and to shut down.


class Refusal(Exception):
    pass


def refuse_if(condition, status, code, message):
    if condition:
        raise Refusal(status, {"message": message, "type": "invalid_request_error", "param": None, "code": code})


def info():
    with lock:
        status = "draining" if orders else "busy" if len(running) == slots else "ready"
        status = "stopped" if "/v1/shutdown" in orders and not running else status
        free = 0 if orders else slots - len(running)
    return {"id": args.worker_id, "generation": int(args.generation), "hive_id": args.hive_id, "device": args.device,
            "model_id": args.alias or f"mock:{args.model}", "port": int(args.port), "pid": os.getpid(), "status": status,
            "implementation": "worker-in-python", "version": "1.0", "capabilities": ["stream", "continue"],
            "slots_total": slots, "slots_free": free, "queue_depth": 0, "context_length": CONTEXT, "memory_bytes": 0}


class Request:
    def __init__(self, body):
        values = body.get("sampling", {}) | {name: body.get(name) for name in ("max_tokens", "logprobs")}
        source, stops = body["input"], body.get("stop", [])
        messages = source.get("messages", [])
        text = source.get("prompt") or "\n".join(message["content"] for message in messages)
        self.id, self.streams = body["request_id"], body.get("stream", True)
        self.prompt = text or "".join(map(chr, source.get("tokens", [])))
        valid = re.fullmatch("[A-Za-z0-9_-]{1,128}", self.id) and self.prompt.encode() and all(stops)
        refuse_if(not valid, 400, "INVALID_REQUEST", "request_id, the input or a stop sequence is not valid")
        for name, (low, high) in RANGES.items():
            valid = values.get(name) is None or low <= values[name] <= high
            refuse_if(not valid, 400, "INVALID_REQUEST", f"{name} is from {low} to {high}")
        lacks = [name for name in UNSUPPORTED if body.get(name)]
        lacks += ["images"] if any(message.get("images") for message in messages) else []
        lacks += ["reasoning"] if body.get("reasoning", {}).get("required") else []
        refuse_if(lacks, 400, "UNSUPPORTED_PARAMETER", f"this worker does not support {lacks}")
        room = CONTEXT - len(self.prompt)
        length = min(values.get("max_tokens") or room, room if body.get("end_with_context") else CONTEXT)
        refuse_if(not 0 < length <= room, 400, "CONTEXT_LENGTH_EXCEEDED", f"the context has {CONTEXT} tokens")
        self.deadline = datetime.fromisoformat(body["deadline"]).timestamp() if "deadline" in body else float("inf")
        refuse_if(time.time() > self.deadline, 408, "DEADLINE_EXCEEDED", "the deadline has passed")
        self.seed = random.getrandbits(53) if values.get("seed") is None else values["seed"]
        begin = 0 if values.get("temperature") == 0 else self.seed
        # This model knows its whole output. Others hold back text that may begin a stop sequence.
        self.output = "".join(self.prompt[(begin + i) % len(self.prompt)] for i in range(length))
        found = [(self.output.index(stop) + len(stop), n) for n, stop in enumerate(stops) if stop in self.output]
        self.given, (self.count, self.stop) = len(body.get("continue_from", [])), min(found, default=(length, None))
        self.visible = self.count if self.stop is None else self.count - len(stops[self.stop])

    def events(self, client):
        global generated
        counts = {"prompt_tokens": len(self.prompt), "cached_tokens": 0}
        yield "started", counts | {"request_id": self.id, "model": info()["model_id"], "seed": self.seed}
        for i in range(self.given, self.count):
            refuse_if(self.id in cancelled, 499, "CANCELLED", "the request was cancelled")
            refuse_if(time.time() > self.deadline, 408, "DEADLINE_EXCEEDED", "the deadline has passed")
            if select.select([client], [], [], 0)[0]:  # A client that waits sends nothing but its end.
                raise ConnectionError
            time.sleep(TOKEN_MS / 1e3)
            generated += 1
            yield "token", {"i": i, "t": self.output[i] if i < self.visible else "", "id": ord(self.output[i])}
        speed = {"tokens_per_second": 1e3 / TOKEN_MS}
        yield "metrics", speed | {"time_to_first_token_ms": TOKEN_MS}
        end = {"reason": "length"} if self.stop is None else {"reason": "stop", "stop": self.stop}
        timings = speed | {"queue_ms": 0, "prefill_ms": 0, "decode_ms": TOKEN_MS * self.count}
        yield "end", end | {"usage": counts | {"completion_tokens": self.count}, "timings": timings}


class Handler(BaseHTTPRequestHandler):  # With HTTP/1.0, a response ends with its connection.
    streams = False

    def answer(self, status, body="", kind="application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write((body if isinstance(body, str) else json.dumps(body)).encode())

    def event(self, kind, data):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())

    def handle_call(self):
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(min(length, MAX_BODY + 1))  # Before any refusal: the client may still be sending.
        try:
            known = self.path == "/health" or self.headers.get("authorization") == f"Bearer {worker_token}"
            refuse_if(not known, 401, "INVALID_API_KEY", "the token is missing or wrong")
            refuse_if(length > MAX_BODY, 413, "BODY_TOO_LARGE", "the body is larger than 4 MiB")
            self.route(f"{self.command} {self.path}", raw)
        except Refusal as refusal:
            status, error = refusal.args
            self.event("error", error) if self.streams else self.answer(status, {"error": error})
        except ConnectionError:
            pass  # The client has left.

    do_GET = do_POST = do_DELETE = handle_call

    def route(self, call, raw):
        worker = info()
        if call == "POST /v1/infer":
            refuse_if(self.headers.get_content_type() != "application/json", 415, "UNSUPPORTED_MEDIA_TYPE", "no JSON")
            try:
                request = Request(json.loads(raw))
            except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
                refuse_if(True, 400, "INVALID_REQUEST", f"the body is not a request: {error!r}")
            self.infer(request)
        elif call.startswith("DELETE /v1/infer/"):
            with lock:
                cancelled.update(running & {self.path.removeprefix("/v1/infer/")})
            self.answer(204)
        elif call in ("POST /v1/drain", "POST /v1/shutdown"):
            orders.add("/v1/drain")
            self.answer(204 if self.path == "/v1/drain" else 202)
            orders.add(self.path)  # After the response: the process may exit now.
        elif call == "GET /health":
            self.answer(200, worker | {"status": "ok", "worker_id": args.worker_id, "api_version": 1})
        elif call == "GET /ready":
            ready, loading = worker["status"] in ("ready", "busy"), {"done": 1, "total": 1}
            self.answer(200 if ready else 503, {"ready": ready, "status": worker["status"], "loading": loading})
        elif call == "GET /metrics":
            self.answer(200, f"worker_tokens_generated_total {generated}\n", "text/plain; version=0.0.4")
        else:
            refuse_if(call != "GET /info", 404, "NOT_FOUND", "there is no such call")
            self.answer(200, worker)

    def infer(self, request):
        with lock:
            refuse_if(orders, 503, "DRAINING", "this worker is draining")
            refuse_if(request.id in running, 409, "DUPLICATE_REQUEST", "a request with this id is running")
            refuse_if(len(running) == slots, 503, "ALL_SLOTS_BUSY", "all slots are busy")
            running.add(request.id)
        try:
            if request.streams:
                self.answer(200, "", "text/event-stream")
                self.streams = True
                for kind, data in request.events(self.connection):
                    self.event(kind, data)
            else:
                (_, started), *tokens, _, (_, end) = request.events(self.connection)
                texts, ids = [token["t"] for _, token in tokens], [token["id"] for _, token in tokens]
                self.answer(200, started | end | {"text": "".join(texts), "tokens": ids})
        finally:  # However it ends, its slot is free.
            with lock:
                running.remove(request.id)
                cancelled.discard(request.id)


def beat(token, worker, sequence):
    body = {"worker": worker, "timestamp": datetime.now(timezone.utc).isoformat(), "sequence": sequence}
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    try:
        queen = http.client.HTTPConnection(args.queen_url.removeprefix("http://"), timeout=5)
        queen.request("POST", "/v1/worker-heartbeats", json.dumps(body), headers)
        if queen.getresponse().status == 409:
            sys.exit("a newer process has replaced this worker")
    except (OSError, http.client.HTTPException):
        pass  # The queen is away. The next heartbeat tries again.


if args.self_test:
    sys.exit(0 if Request({"request_id": "a", "input": {"prompt": "x"}, "max_tokens": 2}).output == "xx" else 1)
tokens = [open(os.environ[f"RBEE_{of}_TOKEN_FILE"]).read().strip() for of in ("WORKER", "QUEEN")]
worker_token, slots = tokens[0], int(args.slots or 4)
signal.signal(signal.SIGTERM, lambda *_: orders.add("/v1/shutdown"))
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
        beat(tokens[1], worker, sequence)
        sequence += 1
    time.sleep(0.02)
