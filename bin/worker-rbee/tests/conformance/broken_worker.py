"""A worker that breaks one promise of the worker contract.

It starts the mock worker and forwards every request to it, and every heartbeat from it. With
`--break CASE`, it changes what the case is about, and nothing else.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--break", dest="case", required=True)
parser.add_argument("--inner", required=True)
parser.add_argument("--port", type=int)
parser.add_argument("--queen-url")
parser.add_argument("--version", action="store_true")
parser.add_argument("--self-test", action="store_true")
options, rest = parser.parse_known_args()
CASE = options.case
inner_port = 0
open_ids = set()
tasks = set()
last_status = None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def read_message(reader):
    """Reads a request or response with a length: first line, headers, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
    length = int(headers.get("content-length", 0))
    return first, headers, await reader.readexactly(length)


def response(status, body=b"", kind="application/json"):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-type: {kind}\r\n"
    return (head + f"content-length: {len(body)}\r\n\r\n").encode() + body


def error(status, code):
    return response(status, {"error": {"message": "broken", "type": "x", "param": None, "code": code}})


# Changes of requests: each returns the new body, or a response that is sent instead.


def without(field):
    return lambda body: {name: value for name, value in body.items() if name != field}


def random_sampling(body):
    return body | {"sampling": {"temperature": 100.0, "seed": random.getrandbits(32)}}


def refuse_unknown(body):
    return error(400, "INVALID_REQUEST") if "field_of_a_newer_version" in body else body


def refuse_second(body):
    return error(503, "ALL_SLOTS_BUSY") if open_ids else body


def accept_images(body):
    for message in body["input"]["messages"]:
        message.pop("images", None)
    return body


def other_id(body):
    return body | {"request_id": body["request_id"] + "x"} if body["request_id"] in open_ids else body


REQUESTS = {
    "seed-reproducible": random_sampling,
    "max-tokens": without("max_tokens"),
    "stop-sequences": without("stop"),
    "unknown-fields": refuse_unknown,
    "deadline": without("deadline"),
    "concurrent": refuse_second,
    "constraints": without("constraint"),
    "vision": accept_images,
    "duplicate-id": other_id,
    "messages": lambda body: error(500, "INTERNAL"),
    "reasoning": lambda body: body | {"reasoning": {}},
}


# Changes of events and documents by the case: each receives the type of an event, or `None` for
# another response, its JSON, and the path.


def usage(name, body):
    if "usage" in body:
        body["usage"]["completion_tokens"] += 1


def call_another(name, body):
    for call in body.get("tool_calls", []):
        call["name"] = "another"


def lengthen(name, body):
    if "vectors" in body:
        body["vectors"] = [[2 * x for x in vector] for vector in body["vectors"]]


def lose_prompt(name, body):
    if "text" in body and "seed" not in body:
        body["text"] += "x"


def index_twice(name, body):
    if name == "token" and body["i"] == 3:
        body["i"] = 2


def count_from_zero(name, body):
    if name == "token" and "continuation" in open_case:
        body["i"] = max(0, body["i"] - 5)


def set_field(field, value):
    def change(name, body):
        if field in body:
            body[field] = value

    return change


open_case = set()
EVENTS = {
    "health": set_field("api_version", 0),
    "info": set_field("device", "GPU-7"),
    "stream": index_twice,
    "usage": usage,
    "document": set_field("text", "another text"),
    "seed-reported": set_field("seed", 7),
    "tokenize": lose_prompt,
    "embed": lengthen,
    "logprobs": lambda name, body: body.pop("logprob", None),
    "tools": call_another,
    "continuation": count_from_zero,
}
# Cases whose damage is limited to their own requests, because it would affect others as well.
SCOPED = {
    "seed-reproducible", "max-tokens", "deadline", "concurrent", "vision", "messages", "reasoning",
    "stream", "usage", "document", "seed-reported", "constraints", "stop-sequences", "duplicate-id",
}
STATUS = {
    "invalid-json": ("invalid-json", 400, error(500, "INTERNAL")),
    "invalid-values": ("invalid-values", 400, response(400, {"detail": "the form of another API"})),
    "media-type": ("", 415, error(400, "INVALID_REQUEST")),
    "body-limit": ("", 413, error(400, "INVALID_REQUEST")),
    "unknown-route": ("", 404, error(500, "INTERNAL")),
    "context-length": ("context-length", 400, error(400, "INVALID_REQUEST")),
    "full": ("full", 503, error(429, "QUEUE_FULL")),
}


def is_own(request_id):
    return request_id.startswith(CASE)


async def serve(reader, writer):
    request_id = None
    # The event loop refers to tasks weakly.
    tasks.add(asyncio.current_task())
    try:
        first, headers, body = await read_message(reader)
        method, path, _ = first.split(" ")
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        request_id = parsed.get("request_id") if isinstance(parsed, dict) else None
        request_id = request_id if isinstance(request_id, str) else ""
        in_scope = CASE not in SCOPED or is_own(request_id)
        instead = replace(method, path, headers)
        if instead is None and path == "/v1/infer" and parsed and in_scope and CASE in REQUESTS:
            changed = REQUESTS[CASE](parsed)
            if isinstance(changed, bytes):
                instead = changed
            else:
                body = json.dumps(changed).encode()
        if instead is not None:
            writer.write(instead)
            await writer.drain()
            return
        if path == "/v1/infer":
            open_ids.add(request_id)
        await forward(reader, writer, method, path, headers, body, request_id, in_scope)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        open_ids.discard(request_id)
        writer.close()


def replace(method, path, headers):
    """Returns the response that a broken worker gives by itself."""
    if CASE == "token-required" and path == "/metrics":
        headers["authorization"] = f"Bearer {TOKEN}"
    if CASE == "cancel" and method == "DELETE" and "/cancel" in path and TOKEN in headers.get("authorization", ""):
        return response(204)
    if CASE == "metrics" and path == "/metrics" and TOKEN in headers.get("authorization", ""):
        return response(200, b"all is well\n", "text/plain")
    if CASE == "drain" and path == "/v1/drain" and TOKEN in headers.get("authorization", ""):
        return response(204)
    if CASE == "shutdown" and path == "/v1/shutdown" and TOKEN in headers.get("authorization", ""):
        return response(202)
    return None


async def forward(reader, writer, method, path, headers, body, request_id, in_scope):
    inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", inner_port)
    # With HTTP/1.0, a stream is not divided into chunks.
    kept = {k: v for k, v in headers.items() if k in ("authorization", "content-type")}
    head = f"{method} {path} HTTP/1.0\r\nhost: inner\r\ncontent-length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in kept.items())
    inner_writer.write(head.encode() + b"\r\n" + body)
    answer = asyncio.create_task(pass_on(inner_reader, writer, path, request_id, in_scope))
    client_gone = asyncio.create_task(reader.read(1))
    waited = {answer} if CASE == "disconnect" and is_own(request_id) else {answer, client_gone}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    answer.cancel()
    client_gone.cancel()
    inner_writer.close()


async def pass_on(inner, writer, path, request_id, in_scope):
    head = (await inner.readuntil(b"\r\n\r\n")).decode()
    status = int(head.split(" ")[1])
    kind = next((line.split(":", 1)[1].strip() for line in head.split("\r\n") if line.lower().startswith("content-type:")), "")
    if kind.startswith("text/event-stream"):
        writer.write(f"HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-type: {kind}\r\n\r\n".encode())
        while True:
            try:
                event = await inner.readuntil(b"\n\n")
            except asyncio.IncompleteReadError:
                return
            try:
                writer.write(change_event(event, request_id, in_scope))
                await writer.drain()
            except ConnectionError:
                # A broken worker goes on for a client that has gone.
                if CASE != "disconnect":
                    raise
    body = await inner.read()
    if CASE in STATUS:
        prefix, expected, instead = STATUS[CASE]
        is_json_case = CASE == "invalid-json" and not request_id
        if status == expected and (request_id.startswith(prefix) or is_json_case) and path != "/v1/embed":
            writer.write(instead)
            await writer.drain()
            return
    if kind.startswith("application/json") and status in (200, 503):
        parsed = json.loads(body)
        if CASE == "ready" and parsed.get("status") == "starting":
            status = 200
        if path == "/info":
            parsed |= {"port": options.port, "pid": os.getpid()}
        if CASE in EVENTS and in_scope:
            EVENTS[CASE](None, parsed)
        body = json.dumps(parsed).encode()
    writer.write(response(status, body, kind))
    await writer.drain()


def change_event(event, request_id, in_scope):
    name, data = event.decode().rstrip("\n").split("\n", 1)
    name = name.removeprefix("event: ")
    if CASE not in EVENTS or not in_scope:
        return event
    parsed = json.loads(data.removeprefix("data: "))
    open_case.clear()
    open_case.add("continuation" if request_id.startswith("continuation") else "")
    EVENTS[CASE](name, parsed)
    return f"event: {name}\ndata: {json.dumps(parsed)}\n\n".encode()


async def forward_heartbeat(reader, writer):
    global last_status
    try:
        while True:
            _, headers, body = await read_message(reader)
            beat = json.loads(body)
            status, same = beat["worker"]["status"], beat["worker"]["status"] == last_status
            last_status = status
            drop = (CASE == "heartbeat-on-change" and status == "busy") or (
                CASE == "heartbeat-interval" and same
            )
            answer = response(204)
            beat["worker"]["port"] = options.port
            beat["worker"]["pid"] = os.getpid()
            if CASE == "heartbeats":
                headers["authorization"] = "Bearer another"
            if not drop:
                answer = await ask_queen(headers, json.dumps(beat).encode())
            if CASE == "fenced":
                answer = response(204)
            writer.write(answer)
            await writer.drain()
            return
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def ask_queen(headers, body):
    host, port = options.queen_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/worker-heartbeats HTTP/1.0\r\nhost: queen\r\ncontent-type: application/json\r\n"
    head += f"authorization: {headers.get('authorization', '')}\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    status, _, body = answer.partition(b"\r\n\r\n")
    return response(int(status.split(b" ")[1]), body)


async def main():
    global inner_port
    host = "0.0.0.0" if CASE == "local-only" else "127.0.0.1"
    try:
        server = await asyncio.start_server(serve, host, options.port, limit=16 << 20)
    except OSError:
        return 1 if CASE == "port-taken" else 98
    heartbeats = await asyncio.start_server(forward_heartbeat, "127.0.0.1", 0, limit=16 << 20)
    queen_port = heartbeats.sockets[0].getsockname()[1]
    inner_port = free_port()
    command = [options.inner, "--port", str(inner_port), "--queen-url", f"http://127.0.0.1:{queen_port}"]
    if CASE == "no-process-left":
        subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    worker = await asyncio.create_subprocess_exec(*command, *rest)
    loop = asyncio.get_running_loop()
    if CASE != "sigterm":
        loop.add_signal_handler(signal.SIGTERM, worker.terminate)
    else:
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
    async with server, heartbeats:
        code = await worker.wait()
        # Streams end with the last events that arrived.
        await asyncio.sleep(0.1)
    return code


if options.version or options.self_test:
    failing = "version" if options.version else "self-test"
    print("broken-worker 1.0")
    sys.exit(1 if CASE == failing else 0)
token_file = os.environ.get("RBEE_WORKER_TOKEN_FILE")
if token_file is None:
    if CASE == "no-token":
        signal.pause()
    sys.exit(1)
with open(token_file) as file:
    TOKEN = file.read().strip()
sys.exit(asyncio.run(main()))
