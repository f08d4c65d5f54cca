"""Tests the queen, the hive and a worker against the documents in openapi/ with schemathesis.

    RBEE_BIN_DIR=target/debug python conformance.py [worker] [hive] [queen]

Schemathesis generates requests that are valid and requests that are invalid under the documents.
Valid ones must be accepted and invalid ones rejected; every response must have a documented
status, content type, headers and body; no status may be 5xx; and operations that require a token
must reject requests without one. The tables below list the exceptions.
"""

import json
import re
import sys
import tempfile
import zlib
from collections import Counter

import jsonschema_rs
import schemathesis
import yaml
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import ServerError
from schemathesis.engine import Status, events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData
from schemathesis.specs.openapi.checks import ignored_auth

from processes import DOCUMENTS, HAIKU, MOCK, Installation, Worker, call

# Requests that are generated at random for each operation, in addition to those with the boundary
# values of each parameter and field.
EXAMPLES = 40
SEED = 1

# Constraints of the output, by the names that the worker and the clients use.
CONSTRAINTS = r"^`(constraint|response_format|guided_\w+|format|output_config\.format|text\.format)`"

# Errors of requests that are valid under a document, for reasons that a schema cannot express: the
# code, a pattern of the message, and the reason. Every other error of such a request is a failure.
ACCEPTED_ERRORS = [
    # What exists here, and what the model supports.
    ("MODEL_NOT_FOUND", "", "which models exist depends on the node"),
    ("WORKER_NOT_FOUND", "", "which workers exist depends on the node"),
    ("JOB_NOT_FOUND", "", "which jobs exist depends on the hive"),
    ("BACKEND_UNAVAILABLE", "no device of this kind", "which devices exist depends on the node"),
    ("INVALID_DEVICE", "no such device", "which devices exist depends on the node"),
    ("WORKER_EXISTS", "", "which generations run depends on the hive"),
    ("NODE_NOT_FOUND", "", "which nodes exist depends on the queen"),
    ("INVALID_REQUEST", "^the body is not the expected JSON: expected four digit year", "the generator ignores the format of times"),
    ("INVALID_REQUEST", "^the node local is the machine of the queen", "the queen's own machine is not configurable"),
    ("INVALID_REQUEST", "^only the node local has the link", "one kind of link belongs to one node"),
    ("INVALID_REQUEST", "^the link of node", "which links reach files depends on the node"),
    ("INVALID_REQUEST", "requires the token of its hive", "required for one kind of link"),
    ("INVALID_REQUEST", "has the token of node", "which tokens are in use depends on the queen"),
    ("INVALID_REQUEST", "its workers must reach the queen", "required unless the hive is on the same machine"),
    ("INVALID_REQUEST", "it has no SSH link", "which links exist depends on the queen"),
    ("HIVE_UNREACHABLE", "^node [a-z0-9-]+ is not reachable", "which hives run depends on the machine"),
    ("SSH_UNREACHABLE", "", "which machines exist depends on the network"),
    ("SSH_KEY_NOT_FOUND", "", "which keys exist depends on the machine"),
    ("NODE_EXISTS", "", "which nodes exist depends on the queen"),
    ("NODE_IN_USE", "^node .* is in use", "what runs depends on the node"),
    ("WAKE_FAILED", "^cannot send a magic packet", "which networks exist depends on the machine"),
    ("INVALID_REQUEST", 'not a MAC address: "[0:]*"', "no card has the address of zeros"),
    ("INVALID_REQUEST", "not an address for magic packets", "the numbers of an address have limits"),
    ("INVALID_REQUEST", "is part of rbee and cannot be removed", "which models were fetched depends on the node"),
    ("INVALID_REQUEST", "was not fetched, so there is no newer", "which models were fetched depends on the node"),
    ("NOT_FOUND", "is not deployed$", "which deployments exist depends on the queen"),
    ("INVALID_REQUEST", "^the script is no policy", "scripts are in a language of their own"),
    ("NOT_FOUND", "^no decision about", "which decisions were made depends on the queen"),
    ("NOT_FOUND", "is not installed on this node", "which binaries are installed depends on the node"),
    ("NOT_FOUND", "^this node has no catalog of packages", "a hive is started with its catalog"),
    ("NOT_FOUND", 'no engine "', "which engines exist depends on the node"),
    ("NOT_FOUND", "^no engine on this node computes parts", "which engines exist depends on the node"),
    ("UNSUPPORTED_MODEL", "cannot split a model over machines$", "which engines run a model depends on both"),
    ("UNSUPPORTED_MODEL", "does not run models of the mock engine", "which engines run a model depends on both"),
    ("INTERNAL", "cannot start [0-9]+ threads", "how many threads may run depends on the system"),
    ("INSUFFICIENT_RAM", "", "how much memory is free depends on the machine"),
    ("NOT_FOUND", "has no version before the current one", "which binaries are installed depends on the node"),
    ("INVALID_REQUEST", "own release is not removed", "which binaries are installed depends on the node"),
    ("NOT_FOUND", "^there is no alias", "which aliases exist depends on the node"),
    ("NOT_FOUND", "^there is no invitation", "which invitations exist depends on the queen"),
    ("INVALID_REQUEST", "requires an invitation", "such a node is added by its own machine"),
    ("INVALID_MODEL_REF", "is the reference or the name of a built-in", "names of models are not aliases"),
    ("FENCED", "", "which generations existed depends on the hive and the queen"),
    ("CONTEXT_LENGTH_EXCEEDED", "", "the limit depends on the model and on the tokens of the input"),
    ("INVALID_REQUEST", "the vocabulary has", "which tokens exist depends on the model"),
    ("INVALID_REQUEST", "the model's vectors have length", "the length of vectors depends on the model"),
    ("INVALID_REQUEST", "the input is empty", "whether a short text has tokens depends on the model"),
    ("UNSUPPORTED_PARAMETER", "chat template does not support", "chat templates depend on the model"),
    ("UNSUPPORTED_PARAMETER", "cannot see images", "vision depends on the model"),
    ("UNSUPPORTED_PARAMETER", "no known format for tool calls", "tool calls depend on the model"),
    ("INVALID_REQUEST", "does not support thinking", "whether a model reasons depends on the model"),
    ("CONFIG_INVALID", "a context of .* is not supported", "the maximum depends on the model"),
    ("CONFIG_INVALID", "tokens are requested; required: a context", "the maximum depends on the model"),
    ("NOT_FOUND", "responses are not stored", "no response exists"),
    ("NOT_FOUND", "conversations are not compacted", "always refused"),
    # Relations between fields.
    ("INVALID_REQUEST", "the conversation has (no messages|only the start)", "an item may be no message of its own"),
    ("INVALID_REQUEST", "tool_choice`? (names|requires)", "the tool must be one of `tools`"),
    ("INVALID_REQUEST", "^`?tools`? .*messages", "tools require messages"),
    ("INVALID_REQUEST", "already the name of another tool", "the names of tools must differ"),
    ("INVALID_REQUEST", "must be less than `max_tokens`", "one field limits another"),
    ("INVALID_REQUEST", "choices in all", "the number of prompts and `n` are limited together"),
    ("INVALID_REQUEST", "` requires `", "one field requires another"),
    ("INVALID_REQUEST", "cannot be combined", "only one field can constrain the output"),
    ("INVALID_REQUEST", "have different values", "two names of one field"),
    ("UNSUPPORTED_PARAMETER", "^`options.repeat_last_n`", "a window is supported only without penalties"),
    ("INVALID_REQUEST", "trailing whitespace", "the last message must not end in a space"),
    ("INVALID_REQUEST", "the last message cannot be continued", "not with every other field"),
    ("INVALID_REQUEST", "only allowed in the last message", "one message of several"),
    ("UNSUPPORTED_PARAMETER", "^`add_generation_prompt`", "one field requires another"),
    # Strings in languages of their own, and limits in other units than characters.
    ("INVALID_REQUEST", CONSTRAINTS, "schemas, expressions and grammars must compile"),
    ("UNSUPPORTED_PARAMETER", CONSTRAINTS, "schemas, expressions and grammars must compile"),
    ("INVALID_REQUEST", "^`tools`: the parameters of", "they must compile if a call is forced"),
    ("INVALID_REQUEST", "stop sequence of", "the limit is in bytes"),
    ("INVALID_REQUEST", "nested more than", "the depth is limited"),
]

# Headers of responses that have something to report only.
OPTIONAL_HEADERS = {"x-rbee-notes"}

# Operations that are not tested, with the reason.
SKIPPED = {
    "hive": {
        "GET /v1/events": "the stream does not end",
        "GET /v1/link": "the connection changes its protocol",
        "POST /v1/worker-binaries/provision": "a valid request builds from, or fetches, any address",
    },
    "queen": {
        "GET /v1/link": "the connection changes its protocol",
        "POST /v1/join": "an invitation can be used once",
        "POST /v1/worker-binaries/provision": "a valid request builds from, or fetches, any address",
        "PUT /v1/deployments": "each valid request starts processes",
        "POST /v1/workers": "each valid request starts a process, as those of the hive do",
    },
}

# Operations that end a process, with a valid body. Only their invalid requests are generated; after
# all others, they are called once.
LAST = {
    "worker": {"POST /v1/drain": None, "POST /v1/shutdown": None},
    "hive": {"POST /v1/shutdown": {"stop_workers": True, "drain_seconds": 0}},
    "queen": {"POST /v1/shutdown": {"cascade": True, "drain_seconds": 0}},
}

# Values that exist here. They replace generated values in valid requests: fields of bodies, and
# parameters by operation. Filled by each test.
EXISTING = {}
FUTURE = "2099-01-01T00:00:00Z"

# Uses of each of `ACCEPTED_ERRORS`.
uses = Counter()


def error_of(response):
    """Returns the code and the message of an error response of any dialect."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return "", ""
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else body
    if not isinstance(error, dict):
        return "", ""
    # OpenAI's API has OpenAI's codes; rbee's own is in the details.
    code = (error.get("details") or {}).get("code", error.get("code", ""))
    message = error.get("message", "")
    # Ollama's responses have a message that is an object.
    return code, message if isinstance(message, str) else ""


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """Drops failures that `ACCEPTED_ERRORS` lists."""
    if not isinstance(failure, (RejectedPositiveData, ServerError)):
        return True
    code, message = error_of(response)
    for index, (accepted, pattern, _) in enumerate(ACCEPTED_ERRORS):
        if code == accepted and re.search(pattern, message):
            uses[index] += 1
            return False
    return True


@schemathesis.hook
def map_body(context, body):
    """Writes integers without a fraction: `1.0` is an integer in JSON Schema, but not in rbee."""
    return without_fractions(body)


def without_fractions(value):
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**64:
        return int(value)
    if isinstance(value, list):
        return [without_fractions(item) for item in value]
    if isinstance(value, dict):
        return {name: without_fractions(item) for name, item in value.items()}
    return value


@schemathesis.hook
def before_call(context, case, kwargs):
    """Makes most valid requests acceptable, so that more than their parsing is tested."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    for path, values in EXISTING.get("body", {}).items():
        *outer, name = path.split(".")
        body = case.body
        for key in outer:
            body = body.get(key) if isinstance(body, dict) else None
        if isinstance(body, dict) and isinstance(body.get(name), type(values[0])):
            body[name] = chosen(values, body[name])
    for name, values in EXISTING.get(case.operation.label, {}).items():
        for part in (case.path_parameters, case.body):
            if isinstance(part, dict) and isinstance(part.get(name), str):
                part[name] = chosen(values, part[name])
    if "x-request-deadline" in (case.headers or {}):
        case.headers["x-request-deadline"] = FUTURE
    if "x-rbee-node" in (case.headers or {}):
        case.headers["x-rbee-node"] = "local"
    if isinstance(case.body, dict):
        resolve_conflicts(case.body)


def chosen(values, generated):
    """Returns one of `values`, which depends on what was generated."""
    return values[zlib.crc32(str(generated).encode(errors="replace")) % len(values)]


def resolve_conflicts(body):
    """Removes most conflicts between fields, and empty inputs."""
    constraints = ["response_format", "guided_choice", "guided_regex", "guided_grammar", "guided_json"]
    for name in [name for name in constraints if body.get(name) is not None][1:]:
        del body[name]
    if body.get("tool_choice") is not None and not body.get("tools"):
        del body["tool_choice"]
    if body.get("stream_options") is not None:
        body["stream"] = True
    if body.get("top_logprobs") is not None:
        body["logprobs"] = True
    for name in ("input", "inputs", "prompt"):
        if name in body:
            body[name] = not_empty(body[name])


def not_empty(value):
    if isinstance(value, list):
        return [not_empty(item) for item in value]
    if isinstance(value, dict):
        return {name: not_empty(item) for name, item in value.items()}
    return "x" if value == "" else value


@schemathesis.deserializer("application/x-ndjson")
def lines_of_json(context, response):
    return [json.loads(line) for line in response.content.splitlines()]


@schemathesis.check
def lines_match_their_schema(context, response, case):
    """Checks the lines of a stream of JSON, which schemathesis itself does not."""
    content_type = response.headers.get("content-type", [""])[0]
    if content_type == "application/x-ndjson":
        document = case.operation.schema.raw_schema
        documented = document["paths"][case.operation.path][case.method.lower()]["responses"]["200"]
        schema = documented["content"][content_type]["itemSchema"] | {"components": document["components"]}
        validator = jsonschema_rs.validator_for(schema)
        for line in response.content.splitlines():
            validator.validate(json.loads(line))


@schemathesis.check
def successful_responses_have_all_headers(context, response, case):
    """Checks that the documented headers are present, which OpenAPI leaves optional."""
    document = case.operation.schema.raw_schema
    responses = document["paths"][case.operation.path][case.method.lower()]["responses"]
    # A request that only unloads a model has no worker.
    unloads = b'"done_reason":"unload"' in response.content
    if response.status_code < 300 and not unloads:
        for name in set(responses[str(response.status_code)].get("headers", {})) - OPTIONAL_HEADERS:
            assert name in response.headers, f"the header {name} is missing"


class Outcome:
    """What happened to the requests of one operation. Failures of one kind count once."""

    def __init__(self):
        self.requests = self.accepted = 0
        self.failures = {}

    def add(self, recorder):
        for interaction in recorder.interactions.values():
            self.requests += 1
            self.accepted += interaction.response is not None and interaction.response.status_code < 300
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.status == Status.FAILURE:
                    failure = check.failure_info.failure
                    self.add_failure(check.name, failure, recorder.interactions.get(failure.case_id or case_id))

    def add_failure(self, check, failure, interaction):
        response = interaction.response if interaction else None
        code, message = error_of(response) if response else ("", "")
        text = f"  {check}: {failure.title}: {failure.message}"
        if interaction:
            request = interaction.request
            text += f"\n    {request.method} {request.uri} {(request.body or b'')[:2000].decode(errors='replace')}"
        if response:
            text += f"\n    {response.status_code} {response.content[:2000].decode(errors='replace')}"
        self.failures.setdefault((check, code, re.sub("[^a-zA-Z ]+", "#", message)[:60]), text)

    def report(self, name, operation):
        """Prints the outcome and returns whether the operation passed."""
        passed = not self.failures
        verdict = "ok" if passed else "FAILED"
        print(f"{name} {operation} ... {verdict} ({self.requests} requests, {self.accepted} accepted)", flush=True)
        for text in self.failures.values():
            print(text, flush=True)
        return passed


def configuration(url, auth, mode):
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "base-url": url,
            "auth": {"openapi": {scheme: {"bearer": token} for scheme, token in auth.items()}},
            "continue-on-failure": True,
            "request-timeout": 30,
            "max-stream-events": 10000,
            "generation": {"mode": mode, "max-examples": EXAMPLES, "database": "none", "no-shrink": True, "deterministic": True},
            "phases": {
                "examples": {"enabled": False},
                "stateful": {"enabled": False},
                # Responses must not influence what is generated.
                "coverage": {"unexpected-methods": [], "extra-data-sources": {"responses": False}},
                "fuzzing": {"extra-data-sources": {"responses": False}, "error-feedback": {"enabled": False}},
            },
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ["2xx"]},
                "negative_data_rejection": {"expected-statuses": ["4xx"]},
                # Names of objects are replaced by existing ones.
                "use_after_free": {"enabled": False},
                "ensure_resource_availability": {"enabled": False},
            },
        }
    )


def generate(document, url, auth, mode, operations):
    """Runs schemathesis on these operations. Returns their outcomes, and other errors."""
    schema = schemathesis.openapi.from_dict(document, config=configuration(url, auth, mode))
    outcomes, errors = {}, []
    for event in from_schema(schema.include(name=operations)).execute():
        if isinstance(event, events.ScenarioFinished) and event.label:
            outcomes.setdefault(event.label, Outcome()).add(event.recorder)
        elif isinstance(event, events.NonFatalError):
            errors.append(f"{event.label}: {event.value}")
        elif isinstance(event, events.FatalError):
            errors.append(str(event.exception))
    return outcomes, errors


def call_last(document, url, auth, operation, body):
    """Calls an operation that ends a process, and checks the response. The first token is used."""
    schema = schemathesis.openapi.from_dict(document, config=configuration(url, auth, "positive"))
    method, path = operation.split(" ")
    case = schema[path][method].Case(**({} if body is None else {"body": body, "media_type": "application/json"}))
    token, *_ = auth.values()
    response = case.call(headers={"Authorization": f"Bearer {token}"})
    # This check would repeat the call without the token.
    case.validate_response(response, excluded_checks=[ignored_auth])


def run(name, url, auth):
    """Tests one document. Returns the numbers of operations that passed, failed and were skipped."""
    document = yaml.safe_load((DOCUMENTS / f"{name}-api.yaml").read_text())
    last, skipped = LAST[name], SKIPPED.get(name, {})
    operations = [f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item]
    others = [operation for operation in operations if operation not in last and operation not in skipped]
    outcomes, errors = generate(document, url, auth, "all", others)
    with_body = [operation for operation, body in last.items() if body is not None]
    if with_body:
        invalid, more = generate(document, url, auth, "negative", with_body)
        outcomes.update(invalid)
        errors += more
    for operation, body in last.items():
        outcome = outcomes.setdefault(operation, Outcome())
        try:
            call_last(document, url, auth, operation, body)
            outcome.requests, outcome.accepted = outcome.requests + 1, outcome.accepted + 1
        except Exception as error:
            outcome.failures[operation] = f"  {error}"
    results = Counter(outcome.report(name, operation) for operation, outcome in outcomes.items())
    for error in errors:
        print(f"{name}: {error}")
    for operation, reason in skipped.items():
        print(f"{name} {operation} ... skipped: {reason}")
    missing = set(operations) - {*outcomes, *skipped}
    for operation in missing:
        print(f"{name} {operation} ... FAILED: not tested")
    return results[True], results[False] + len(errors) + len(missing), len(skipped)


def test_worker(home):
    EXISTING["body"] = {"deadline": [FUTURE]}
    with Worker(home) as worker:
        return run("worker", worker.url, {"token": worker.token})


def test_hive(home):
    with Installation(home) as rbee:
        spawn = {"worker_id": "w-known", "generation": 1, "model": MOCK, "device": "CPU-0", "queen_url": rbee.url}
        asynchronous = {"Prefer": "respond-async"}
        job = call(f"{rbee.hive_url}/v1/workers/spawn", rbee.node_token, "POST", spawn, asynchronous)["job_id"]
        workers, jobs = {"id": ["w-known", "w-unknown"]}, {"id": [job, "job-unknown"]}
        copy = {"path": [f"{rbee.home}/copy.db"]}
        call(f"{rbee.hive_url}/v1/models/backup", rbee.node_token, "POST", {"path": copy["path"][0]})
        EXISTING.update(
            {
                # Most devices are the one that exists.
                "body": {"model": [MOCK, HAIKU], "worker_id": ["w-a", "w-b"], "device": ["CPU-0"] * 4 + ["GPU-1"]},
                # The packets stay on this machine.
                "POST /v1/wake": {"address": ["127.0.0.1:9"]},
                "GET /v1/workers/{id}": workers,
                "GET /v1/workers/{id}/logs": workers,
                "DELETE /v1/workers/{id}": {"id": ["w-a", "w-unknown"]},
                "GET /v1/jobs/{id}": jobs,
                "GET /v1/jobs/{id}/events": jobs,
                "DELETE /v1/jobs/{id}": jobs,
                "POST /v1/models/backup": copy,
                "POST /v1/models/restore": copy,
            }
        )
        return run("hive", rbee.hive_url, {"node_token": rbee.node_token})


def test_queen(home):
    with Installation(home) as rbee:
        for model in (MOCK, HAIKU):
            request = {"model": model, "messages": [{"role": "user", "content": "x"}], "max_tokens": 1}
            call(f"{rbee.url}/v1/chat/completions", rbee.queen_token, "POST", request)
        worker = call(f"{rbee.url}/v1/workers", rbee.queen_token)["workers"][0]["id"]
        workers = {"id": [worker, "w-unknown"]}
        copy = {"path": [f"{rbee.home}/copy.db"]}
        call(f"{rbee.url}/v1/catalog/backup", rbee.queen_token, "POST", {"path": copy["path"][0]})
        EXISTING.update(
            {
                "body": {
                    "model": [MOCK, HAIKU],
                    "deadline": [FUTURE],
                    "node": ["local"],
                    "backend": ["cpu"],
                    # A worker that no request is for, and a port that nothing listens on.
                    "worker.hive_id": ["local"],
                    "worker.model_id": ["mock:heartbeat"],
                    "worker.port": [9],
                    # No hive listens there.
                    "spec.url": ["http://127.0.0.1:9"],
                    # The SSH configuration reaches no machine.
                    "spec.host": ["nowhere"],
                    "spec.port": [22],
                },
                "GET /v1/nodes/{name}": {"name": ["local", "unknown"]},
                "GET /v1/nodes/{name}/hive/logs": {"name": ["local", "unknown"]},
                "GET /v1/workers/{id}": workers,
                "GET /v1/workers/{id}/logs": workers,
                "DELETE /v1/workers/{id}": {"id": ["w-unknown"]},
                "GET /v1/models/{id}": {"id": [HAIKU, MOCK, "unknown"]},
                "POST /v1/catalog/backup": copy,
                "POST /v1/catalog/restore": copy,
                # Nothing is fetched from the internet.
                "POST /api/pull": {"model": [HAIKU], "name": [HAIKU]},
                "POST /api/copy": {"source": [HAIKU, "unknown"]},
            }
        )
        return run("queen", rbee.url, {"control_token": rbee.queen_token, "node_token": rbee.node_token})


def main():
    tests = {"worker": test_worker, "hive": test_hive, "queen": test_queen}
    passed = failed = skipped = 0
    for name in sys.argv[1:] or tests:
        EXISTING.clear()
        with tempfile.TemporaryDirectory(prefix="rbee-conformance-") as home:
            results = tests[name](home)
        passed, failed, skipped = passed + results[0], failed + results[1], skipped + results[2]
    for index, (code, pattern, reason) in enumerate(ACCEPTED_ERRORS):
        print(f"{uses[index]:5} valid requests refused with {code} {pattern}: {reason}")
    print(f"client: {passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
