"""A worker of rbee: the worker contract with the standard library only. See workers.md.

Its "model" is a loop over the words of the prompt; a token is a byte, and 256 ends the output.
"""
import argparse, json, os, queue, random, re, select, signal, sys, threading, time, urllib.request
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CONTEXT, VERSION, END = 2048, "1.0", 256
parser = argparse.ArgumentParser()
for name in "worker-id model device port queen-url hive-id generation slots alias context-length kv-cache-bytes threads".split():
    parser.add_argument(f"--{name}")
parser.add_argument("--version", action="version", version=f"worker-in-python {VERSION}")
parser.add_argument("--self-test", action="store_true")
args = parser.parse_args()
lock, changed, stop = threading.Condition(), queue.Queue(), threading.Event()
running, cancelled, state, counts = {}, set(), {"draining": False, "stopped": False, "code": 0}, {"tokens": 0}


class Refusal(Exception):
    def __init__(self, status, code, message, **more):
        self.status, self.error = status, {"message": message, "type": "invalid_request_error", "param": None, "code": code, **more}


def require(condition, message, status=400, code="INVALID_REQUEST"):
    if not condition:
        raise Refusal(status, code, message)


def status():
    if state["stopped"] or state["draining"]:
        return "stopped" if state["stopped"] else "draining"
    return "busy" if len(running) >= slots else "ready"


def info():
    free = 0 if state["draining"] else slots - len(running)
    return {"id": args.worker_id, "generation": int(args.generation), "hive_id": args.hive_id, "device": args.device,
            "model_id": args.alias or f"mock:{args.model}", "port": int(args.port), "pid": os.getpid(), "status": status(),
            "implementation": "worker-in-python", "version": VERSION, "capabilities": ["stream", "continue", "tokenize"],
            "slots_total": slots, "slots_free": free, "queue_depth": 0, "context_length": CONTEXT, "memory_bytes": 0}


def token(variable):
    with open(os.environ[variable]) as file:  # A worker does not start without its tokens.
        return file.read().strip()


def heartbeats():
    sequence, authorization = 0, {"authorization": f"Bearer {token('RBEE_QUEEN_TOKEN_FILE')}", "content-type": "application/json"}
    while True:
        worker = info()
        body = json.dumps({"worker": worker, "timestamp": datetime.now(timezone.utc).isoformat(), "sequence": sequence})
        request = urllib.request.Request(f"{args.queen_url}/v1/worker-heartbeats", body.encode(), authorization)
        try:
            opener.open(request, timeout=5).close()
        except urllib.error.HTTPError as error:
            if error.code == 409:  # A newer process has replaced this one.
                state["code"] = 1
                stop.set()
        except OSError:
            pass  # The queen is away; the next heartbeat tries again.
        if worker["status"] == "stopped":  # As sent: it may have stopped during the request.
            return
        sequence += 1
        try:
            changed.get(timeout=5)
        except queue.Empty:
            pass


def encode(source):
    require(isinstance(source, dict) and len(source) == 1, "input: one of prompt, messages, tokens")
    kind, value = next(iter(source.items()))
    if kind == "messages":
        require(isinstance(value, list) and value and all(isinstance(m, dict) for m in value), "messages: a list of messages")
        require(not any(m.get("images") for m in value), "this worker cannot see images", code="UNSUPPORTED_PARAMETER")
        value = "\n".join(str(m.get("content")) for m in value)
    tokens = list(value.encode()) if isinstance(value, str) else value
    require(kind in ("prompt", "messages", "tokens") and isinstance(tokens, list) and tokens, "input: it must not be empty")
    require(all(type(t) is int and 0 <= t <= END for t in tokens), "tokens: 0 to 256")
    return tokens


def number(values, name, low, high, kinds=(int, float)):
    value = values.get(name)
    valid = value is None or (isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high)
    require(valid, f"{name}: a number from {low} to {high}")
    return value


class Request:
    """A request that was checked. `tokens` generates its output."""

    def __init__(self, body):
        self.id, sampling = body.get("request_id"), body.get("sampling") or {}
        require(isinstance(self.id, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", self.id), "request_id: letters, digits, - and _")
        self.prompt, self.given, self.stop = encode(body.get("input")), body.get("continue_from") or [], body.get("stop") or []
        require(all(isinstance(s, str) and s for s in self.stop), "stop: texts that are not empty")
        number(sampling, "temperature", 0, 100), number(sampling, "top_p", 0, 1), number(body, "logprobs", 0, 20, int)
        for name in ("logprobs", "constraint", "tools"):
            require(not body.get(name), f"this worker does not support {name}", code="UNSUPPORTED_PARAMETER")
        require(not (body.get("reasoning") or {}).get("required"), "this worker cannot reason", code="UNSUPPORTED_PARAMETER")
        room = CONTEXT - len(self.prompt)
        self.max = number(body, "max_tokens", 1, 1 << 32, int) or room
        require(0 < self.max <= room, f"{len(self.prompt)} tokens and {self.max} of output exceed {CONTEXT}", code="CONTEXT_LENGTH_EXCEEDED")
        self.seed = number(sampling, "seed", 0, (1 << 64) - 1, int)
        self.seed = random.getrandbits(53) if self.seed is None else self.seed
        self.draw = 0 if sampling.get("temperature") == 0 else self.seed  # Greedy outputs do not depend on the seed.
        self.deadline = None
        if body.get("deadline"):
            try:
                self.deadline = datetime.fromisoformat(body["deadline"].replace("Z", "+00:00")).timestamp()
            except (ValueError, AttributeError, TypeError):
                raise Refusal(400, "INVALID_REQUEST", "deadline: a time as in RFC 3339")
            require(time.time() < self.deadline, "the deadline has passed", 408, "DEADLINE_EXCEEDED")
        self.stream = body.get("stream", True)

    def check(self, client):
        require(self.id not in cancelled, "the request was cancelled", 499, "CANCELLED")
        require(not self.deadline or time.time() < self.deadline, "the deadline has passed", 408, "DEADLINE_EXCEEDED")
        require(state["code"] == 0, "a newer process has replaced this worker", 409, "FENCED")
        if select.select([client], [], [], 0)[0]:  # Nothing but an end arrives from a client that waits.
            raise ConnectionError

    def events(self, client):
        """Yields the events after `started`, as pairs of type and data."""
        begin, text, reason, stopped = time.time(), "", "length", None
        words = bytes(t for t in self.prompt if t < 128).split() or [b"nothing"]
        output = list(b" ".join(words[random.Random(f"{self.draw} {i}").randrange(len(words))] for i in range(CONTEXT))[: self.max])
        for i in range(len(self.given), len(output)):
            self.check(client)
            time.sleep(0.003)
            piece = chr(output[i])
            text += piece
            stopped = next((n for n, s in enumerate(self.stop) if text.endswith(s)), None)
            if self.stop:  # Text that may be the beginning of a stop sequence would be held back; this sends it at the end.
                piece = ""
            yield "token", {"i": i, "t": piece, "id": output[i]}
            if stopped is not None:
                text, reason = text[: -len(self.stop[stopped])], "stop"
                break
        count = i + 1 if len(self.given) < len(output) else len(output)
        if self.stop and count < CONTEXT:
            yield "token", {"i": count, "t": text, "id": END}
            count += 1
        counts["tokens"] += count
        usage = {"prompt_tokens": len(self.prompt), "completion_tokens": count, "cached_tokens": 0}
        elapsed = time.time() - begin
        yield "metrics", {"time_to_first_token_ms": 3.0, "tokens_per_second": count / elapsed}
        end = {"reason": reason, "usage": usage, "timings": {"queue_ms": 0.0, "prefill_ms": 0.0, "decode_ms": elapsed * 1e3, "tokens_per_second": count / elapsed}}
        yield "end", end if stopped is None else end | {"stop": stopped}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", kind="application/json"):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("content-type", kind)
        if code != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_call(self):
        try:
            length = int(self.headers.get("content-length") or 0)
            raw = self.rfile.read(length)  # Before any refusal: the client may still be sending.
            if self.path != "/health" or self.command != "GET":
                require(self.headers.get("authorization") == f"Bearer {TOKEN}", "the token is missing or wrong", 401, "INVALID_API_KEY")
            require(length <= 4 << 20, "the body is larger than 4 MiB", 413, "BODY_TOO_LARGE")
            self.route(f"{self.command} {self.path}", raw)
        except Refusal as refusal:
            self.answer(refusal.status, {"error": refusal.error})
        except ConnectionError:
            self.close_connection = True

    do_GET = do_POST = do_DELETE = handle_call

    def route(self, call, raw):
        if call == "GET /health":
            self.answer(200, {"status": "ok", "worker_id": args.worker_id, "generation": int(args.generation), "version": VERSION, "api_version": 1})
        elif call == "GET /ready":
            ready = status() in ("ready", "busy")
            self.answer(200 if ready else 503, {"ready": ready, "status": status(), "loading": {"done": 1, "total": 1}})
        elif call == "GET /info":
            self.answer(200, info())
        elif call == "GET /metrics":
            self.answer(200, f"worker_tokens_generated_total {counts['tokens']}\n".encode(), "text/plain; version=0.0.4")
        elif call.startswith("DELETE /v1/infer/"):
            with lock:
                cancelled.update({self.path.rpartition("/")[2]} & set(running))
            self.answer(204)
        elif call == "POST /v1/drain" or call == "POST /v1/shutdown":
            state["draining"] = True
            changed.put(None)
            self.answer(204 if call == "POST /v1/drain" else 202)
            if call == "POST /v1/shutdown":
                stop.set()
        elif call in ("POST /v1/infer", "POST /v1/tokenize", "POST /v1/detokenize"):
            require((self.headers.get("content-type") or "").startswith("application/json"), "the body is not JSON", 415, "UNSUPPORTED_MEDIA_TYPE")
            try:
                body = json.loads(raw)
            except ValueError as error:
                raise Refusal(400, "INVALID_REQUEST", f"the body is not JSON: {error}")
            require(isinstance(body, dict), "the body is not an object")
            if call == "POST /v1/infer":
                return self.infer(Request(body))
            tokens = encode({"tokens": body.get("tokens")} if "tokens" in body else body.get("input"))
            text = bytes(t for t in tokens if t < END).decode(errors="replace")
            self.answer(200, {"tokens": tokens, "count": len(tokens)} if call == "POST /v1/tokenize" else {"text": text})
        else:
            raise Refusal(404, "NOT_FOUND", f"there is no {call[:80]}")

    def infer(self, request):
        with lock:
            require(not state["draining"], "this worker is draining", 503, "DRAINING")
            require(request.id not in running, "a request with this id is running", 409, "DUPLICATE_REQUEST")
            require(len(running) < slots, f"all {slots} slots are busy", 503, "ALL_SLOTS_BUSY")
            running[request.id] = request
        changed.put(None)
        try:
            self.run(request)
        finally:  # However it ends: the slot is free.
            with lock:
                del running[request.id]
                cancelled.discard(request.id)
                lock.notify_all()
            changed.put(None)

    def run(self, request):
        started = {"request_id": request.id, "model": info()["model_id"], "seed": request.seed, "prompt_tokens": len(request.prompt), "cached_tokens": 0}
        if not request.stream:
            tokens, text = [], ""
            for kind, data in request.events(self.connection):
                if kind == "token":
                    tokens.append(data["id"])
                    text += data["t"]
            return self.answer(200, started | {"text": text, "tokens": tokens} | {k: v for k, v in data.items() if k != "stop"})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        self.event("started", started)
        try:
            for kind, data in request.events(self.connection):
                self.event(kind, data)
        except Refusal as refusal:
            self.event("error", refusal.error)

    def event(self, kind, data):
        self.wfile.write(f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode())


if args.self_test:
    sys.exit(0 if encode({"prompt": "x"}) == [120] else 1)
slots, TOKEN = int(args.slots or 4), token("RBEE_WORKER_TOKEN_FILE")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
signal.signal(signal.SIGTERM, lambda *_: stop.set())
try:
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", int(args.port)), Handler)
except OSError as error:
    sys.exit(98 if error.errno == 98 else 1)
threading.Thread(target=server.serve_forever, daemon=True).start()
beating = threading.Thread(target=heartbeats, daemon=True)
beating.start()
while not stop.wait(0.5):
    pass
state["draining"] = True
with lock:  # Running requests finish.
    lock.wait_for(lambda: not running, timeout=30)
state["stopped"] = True
changed.put(None)
beating.join(timeout=2)
sys.exit(state["code"])
