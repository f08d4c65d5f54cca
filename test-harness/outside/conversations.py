"""Generated conversations."""

import itertools

CALLS = [
    '{"city": "Zürich", "days": 3}',
    '{"b": 1e-7, "a": 1e16, "c": 123456789012345678901234567890, "d": 0.1, "e": -0.0}',
    '{"list": [1, 2.5, null, true, {"x": []}], "text": "a\\"b\\n<&>\\u00e9 \\ud83d\\ude00"}',
    "{}",
]

TOOLS = [
    {
        "name": "get_weather",
        "description": "Returns the weather.\nOf a city: 'Zürich' & \"Bern\".",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name <of> the city"},
                "days": {"type": "integer", "default": 1, "minimum": 0, "maximum": 1e16},
                "unit": {"type": "string", "enum": ["C", "F"]},
                "where": {
                    "type": "object",
                    "properties": {"lat": {"type": "number", "multipleOf": 1e-7}},
                    "required": ["lat"],
                },
                "tags": {"type": "array", "items": {"type": "string"}},
                "any": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["city"],
        },
    },
    {"name": "now", "description": "Time", "parameters": {"type": "object", "properties": {}}},
]


def say(role, content, **more):
    return {"role": role, "content": content, **more}


def call(*arguments, content="", first=0, **more):
    calls = [
        {"id": f"call{n:05}", "name": "get_weather", "arguments": a}
        for n, a in enumerate(arguments, first)
    ]
    return say("assistant", content, tool_calls=calls, **more)


def result(content, n=0):
    return say("tool", content, tool_call_id=f"call{n:05}", name="get_weather")


SYSTEM, USER, ANSWER = say("system", "Be kind."), say("user", "Hi!"), say("assistant", "Hello.")
THOUGHT = say("assistant", "Hello.", reasoning="The user greets.\nSo do I.")
INLINE = say("assistant", "<think>\nHm.\n</think>\n\nHello.")
ODD = say("user", "  <b>{{ 1 + 1 }}</b> {% raw %}\t‘é🐝’\r\n\n  ")
SPELLING = say("assistant", "a</think><tool_call>b</tool_call>\n<think>c</think>\n\nd<|im_end|>")
# Tokens of the vocabulary that texts must not become; renderings do not depend on them.
CONTROL = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_start|>", "<|im_end|>"]
CONTROL += ["<s>", "</s>", "[INST]", "[/INST]", "<|channel|>", "<|end|>"]

SHAPES = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ANSWER, USER],
    "system turns": [SYSTEM, USER, ANSWER, USER, ANSWER, USER],
    "odd text": [say("system", " \n x \n"), ODD, say("assistant", "\n a \n"), USER],
    "empty": [say("user", "")],
    "no messages": [],
    "only system": [SYSTEM],
    "ends with assistant": [USER, ANSWER],
    "two users": [USER, say("user", "And?")],
    "two assistants": [USER, ANSWER, say("assistant", "More."), USER],
    "assistant first": [ANSWER, USER],
    "late system": [USER, ANSWER, SYSTEM, USER],
    "two systems": [SYSTEM, say("system", "Be brief."), USER],
    "thought": [USER, THOUGHT, USER],
    "inline thought": [SYSTEM, USER, INLINE, USER, INLINE],
    "call": [USER, call(CALLS[0]), result("sunny")],
    "call, answer": [SYSTEM, USER, call(CALLS[0]), result("sunny"), ANSWER, USER],
    "numbers": [USER, call(CALLS[1]), result("{}"), ANSWER, USER],
    "nested": [USER, call(CALLS[2]), result('{"a": [1, 2]}')],
    "no arguments": [USER, call(CALLS[3]), result("")],
    "two calls": [USER, call(CALLS[0], CALLS[2]), result("a"), result("b", 1), ANSWER, USER],
    "text and call": [USER, call(CALLS[0], content="Let me see."), result("x")],
    "thought and call": [USER, call(CALLS[0], reasoning="I look."), result("x")],
    "two rounds": [
        USER,
        call(CALLS[0], reasoning="One."),
        result("x"),
        call(CALLS[3], first=1, content="Again.", reasoning="Two."),
        result("y", 1),
    ],
    "call at the end": [USER, call(CALLS[0])],
    "result without call": [USER, result("x")],
    "spelled": [say("system", "<|im_end|>[/INST]"), say("user", "</s><|im_start|>x<|im_"), SPELLING, USER],
    "names": [say("user", "Hi", name="ann"), say("assistant", "Ho", name="bob"), USER],
}

VARIABLES = [
    {},
    {"enable_thinking": False, "reasoning_effort": "low", "thinking": True},
]


def cases():
    for (name, messages), tools, variables in itertools.product(
        SHAPES.items(), ([], TOOLS), VARIABLES
    ):
        more = (" +tools" if tools else "") + (" +variables" if variables else "")
        yield name + more, {
            "messages": messages,
            "tools": tools,
            "variables": variables,
            "control": CONTROL,
        }
