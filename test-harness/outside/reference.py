"""Renders chat templates by jinja2, configured as transformers configures it."""

import copy
import functools
import json
from datetime import datetime

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the model wrote; it renders its body."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("render_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def render_body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def strftime_now(pattern):
    return datetime.now().strftime(pattern)


@functools.cache
def compiled(source):
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(source)


def message(value):
    """A message as transformers' users write it."""
    out = {"role": value["role"], "content": value["content"]}
    if value.get("tool_calls"):
        out["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": json.loads(call["arguments"])},
            }
            for call in value["tool_calls"]
        ]
    for key in ("tool_call_id", "name"):
        if key in value:
            out[key] = value[key]
    if "reasoning" in value:
        out["reasoning_content"] = value["reasoning"]
    return out


def render(case):
    """Returns the text, or the error."""
    tools = [{"type": "function", "function": tool} for tool in case.get("tools", [])]
    try:
        text = compiled(case["template"]).render(
            **copy.deepcopy(case.get("variables", {})),
            messages=[message(m) for m in case["messages"]],
            tools=tools or None,
            documents=None,
            add_generation_prompt=True,
            bos_token="<s>",
            eos_token="</s>",
        )
        return {"text": text}
    except Exception as error:  # Whatever jinja2 or Python raises is a refusal.
        return {"error": f"{type(error).__name__}: {error}"}
