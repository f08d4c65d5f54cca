"""A worker of rbee with the standard library of Python 3.11 only. The contract is in workers.md.

Its "model" repeats the prompt, from a place that depends on the seed. A token is a code point.
"""
import contextlib, http.client, json, os, random, re, select, signal, socketserver, sys, threading, time
from datetime import datetime, timezone
from wsgiref.simple_server import WSGIServer, make_server

VERSION, CONTEXT, MAX_BODY, PORT_TAKEN, TOKEN_MS, JSON = "1.0", 2048, 4 << 20, 98, 3.0, "application/json"
RANGES = {"max_tokens": (1, 2**32), "logprobs": (0, 20), "seed": (0, 2**64 - 1), "top_p": (0, 1), "temperature": (0, 100)}
UNSUPPORTED = ["logprobs", "constraint", "tools", "preceding_tokens", "continue_final_message", "report_prompt"]
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
running, orders, lock = {}, set(), threading.Lock()  # Requests and their cancels; "drain" and "shutdown".


class Refusal(Exception):
    pass


def refuse_if(condition, status, code, message):
    if condition:
        raise Refusal(status, {"code": code, "message": message, "type": "invalid_request_error", "param": None})


def info():
    total, used = int(options.get("--slots", 4)), len(running)
    status = "draining" if orders else "busy" if used == total else "ready"
    status = "stopped" if "shutdown" in orders and not used else status
    return {"id": options["--worker-id"], "generation": int(options["--generation"]), "hive_id": options["--hive-id"],
            "device": options["--device"], "model_id": options.get("--alias", f"mock:{options['--model']}"),
            "port": int(options["--port"]), "pid": os.getpid(), "status": status, "memory_bytes": 0,
            "slots_total": total, "slots_free": 0 if orders else total - used, "queue_depth": 0,
            "context_length": CONTEXT, "implementation": "worker-in-python", "version": VERSION,
            "capabilities": ["stream", "continue"]}


def generate(body, slots, model, client):
    """Checks a request and takes a slot until the first `yield`, then yields its events: names and data."""
    values = body.get("sampling", {}) | {name: body.get(name) for name in ("max_tokens", "logprobs")}
    name, source, stops = body["request_id"], body["input"], body.get("stop", [])
    messages = source.get("messages", [])
    prompt = source.get("prompt") or "".join(map(chr, source.get("tokens", [])))
    prompt = prompt or "\n".join(message["content"] for message in messages)
    deadline = datetime.fromisoformat(body["deadline"]).timestamp() if "deadline" in body else float("inf")
    valid = re.fullmatch("[A-Za-z0-9_-]{1,128}", name) and prompt.encode() and all(stops) and all(
        values.get(key) is None or low <= values[key] <= high for key, (low, high) in RANGES.items())
    refuse_if(not valid, 400, "INVALID_REQUEST", f"the request_id, the input, a stop sequence, or one of {RANGES}")
    lacks = [body.get("reasoning", {}).get("required"), *map(body.get, UNSUPPORTED)]
    lacks += [message.get("images") for message in messages]
    refuse_if(any(lacks), 400, "UNSUPPORTED_PARAMETER", f"this worker supports no images, reasoning, {UNSUPPORTED}")
    room = CONTEXT - len(prompt)
    length = min(values["max_tokens"] or room, room if body.get("end_with_context") else CONTEXT)
    refuse_if(not 0 < length <= room, 400, "CONTEXT_LENGTH_EXCEEDED", f"the context has {CONTEXT} tokens")
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
        running[name] = cancel = threading.Event()
    try:
        yield
        counts, speed = {"prompt_tokens": len(prompt), "cached_tokens": 0}, {"tokens_per_second": 1e3 / TOKEN_MS}
        yield "started", counts | {"request_id": name, "model": model, "seed": seed}
        for i in range(len(body.get("continue_from", [])), count):
            refuse_if(cancel.is_set(), 499, "CANCELLED", "the request was cancelled")
            refuse_if(time.time() > deadline, 408, "DEADLINE_EXCEEDED", "the deadline has passed")
            if select.select([client], [], [], TOKEN_MS / 1e3)[0]:  # A client that waits sends nothing but its end.
                raise ConnectionResetError
            yield "token", {"i": i, "t": output[i] if i < visible else "", "id": ord(output[i])}
        yield "metrics", speed | {"time_to_first_token_ms": TOKEN_MS}
        end = {"reason": "length"} if stop is None else {"reason": "stop", "stop": stop}
        timings = speed | {"queue_ms": 0, "prefill_ms": 0, "decode_ms": TOKEN_MS * count}
        yield "end", end | {"usage": counts | {"completion_tokens": count}, "timings": timings}
    finally:  # However it ends, its slot is free.
        del running[name]


def stream(events):  # If the client leaves, the server closes this generator, and with it that of the events.
    with contextlib.closing(events):
        try:
            yield from (f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode() for kind, data in events)
        except Refusal as refusal:
            yield f"event: error\ndata: {json.dumps(refusal.args[1])}\n\n".encode()


def infer(environ, raw, worker):
    refuse_if(environ["CONTENT_TYPE"] != JSON, 415, "UNSUPPORTED_MEDIA_TYPE", "the body is not JSON")
    try:
        body = json.loads(raw)
        events = generate(body, worker["slots_total"], worker["model_id"], environ["wsgi.input"])
        next(events)
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as problem:
        refuse_if(True, 400, "INVALID_REQUEST", f"the body is not a request: {problem!r}")
    if body.get("stream", True):
        return 200, stream(events)
    (_, started), *tokens, _, (_, end) = events
    whole = {"text": "".join(token["t"] for _, token in tokens), "tokens": [token["id"] for _, token in tokens]}
    return 200, started | end | whole


def answer(call, environ, raw):
    """Returns the status and the body: a document, a text, or the events of a stream."""
    worker = info()
    ready = worker["status"] in ("ready", "busy")
    match call.split("/"):
        case "POST ", "v1", "infer":
            return infer(environ, raw, worker)
        case "DELETE ", "v1", "infer", name:
            running.get(name, threading.Event()).set()
            return 204, ""
        case "POST ", "v1", "drain" | "shutdown" as order:
            orders.add(order)
            return 204 if order == "drain" else 202, ""
    documents = {
        "GET /health": worker | {"status": "ok", "worker_id": worker["id"], "api_version": 1},
        "GET /ready": {"ready": ready, "status": worker["status"], "loading": {"done": 1, "total": 1}},
        "GET /info": worker, "GET /metrics": f"worker_requests_running {len(running)}\n"}
    refuse_if(call not in documents, 404, "NOT_FOUND", "there is no such call")
    return 503 if call == "GET /ready" and not ready else 200, documents[call]


def application(environ, start_response):
    call, length = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", int(environ["CONTENT_LENGTH"] or 0)
    raw = environ["wsgi.input"].read(min(length, MAX_BODY + 1))  # Before any refusal: the client may still be sending.
    try:
        known = call == "GET /health" or environ.get("HTTP_AUTHORIZATION") == f"Bearer {worker_token}"
        refuse_if(not known, 401, "INVALID_API_KEY", "the token is missing or wrong")
        refuse_if(length > MAX_BODY, 413, "BODY_TOO_LARGE", "the body is larger than 4 MiB")
        status, body = answer(call, environ, raw)
    except Refusal as refusal:
        status, body = refusal.args[0], {"error": refusal.args[1]}
    kind = {dict: JSON, str: "text/plain; version=0.0.4"}.get(type(body), "text/event-stream")
    start_response(f"{status} ", [("content-type", kind)])
    return [(json.dumps(body) if kind == JSON else body).encode()] if isinstance(body, (dict, str)) else body


class Server(socketserver.ThreadingMixIn, WSGIServer):  # Its threads finish their responses before the process exits.
    request_queue_size = 128


if "--version" in sys.argv:
    sys.exit(print("worker-in-python", VERSION))
if "--self-test" in sys.argv:
    _, _, token, *_ = generate({"request_id": "a", "input": {"prompt": "x"}, "max_tokens": 1}, 1, "", os.pipe()[0])
    sys.exit(token[1]["t"] != "x")
worker_token, queen_token = [open(os.environ[f"RBEE_{of}_TOKEN_FILE"]).read().strip() for of in ("WORKER", "QUEEN")]
headers = {"authorization": f"Bearer {queen_token}", "content-type": JSON}
signal.signal(signal.SIGTERM, lambda *_: orders.add("shutdown"))
try:
    server = make_server("127.0.0.1", int(options["--port"]), application, Server)
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
            queen = http.client.HTTPConnection(options["--queen-url"].removeprefix("http://"), timeout=5)
            queen.request("POST", "/v1/worker-heartbeats", json.dumps(beat), headers)
            if queen.getresponse().status == 409:
                os._exit(1)  # A newer process has replaced this worker. Its requests run there.
        sequence += 1
    time.sleep(0.02)
