Feature: Inference execution
  A request goes in, tokens come out as they are made, and every request ends exactly once.

  Rule: A stream is told in events

    @real
    Scenario: Started, tokens, metrics, end
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "max_tokens": 30,
         "input": {"messages": [{"role": "user", "content": "hello"}]}}
        """
      Then the worker's events are started, tokens, metrics, end
      And exactly one event is terminal, and it is the last
      And the event `started` has a seed
      And the event `end` counts the tokens that were streamed
      And the event `metrics` tells the time to the first token

    @real
    Scenario: The whole answer in one document is the text of the stream
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "temperature": 0, "messages": [{"role": "user",
         "content": "Write a haiku about GPU computing that includes the word \"forty-two\" (nonce: 7Kq9xZ2b)"}]}
        """
      Then the answer is 200
      And the answer's `/choices/0/message/content` is the golden text of case 0
      And the answer's `/choices/0/finish_reason` is `stop`
      And the answer's `/usage/prompt_tokens` is `38`
      And the answer's `/usage/completion_tokens` is `26`

    @real
    Scenario Outline: Greedy answers equal the golden ones, from <model>
      Given a running queen
      When I ask `<model>` every golden question greedily
      Then every answer is the golden text

      Examples:
        | model                     |
        | builtin:haiku             |
        | builtin:haiku@safetensors |

    @real
    Scenario: Characters are never split
      Given a running queen
      When I infer
        """
        {"model": "mock:length=40", "request_id": "r-1",
         "input": {"prompt": "héllo wörld 🐝🐝 日本語"}}
        """
      Then every piece of text is valid UTF-8 without replacement characters

  Rule: An answer ends where it is told to

    @real
    Scenario: max_tokens
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "max_tokens": 5, "sampling": {"temperature": 0},
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]}}
        """
      Then 5 tokens were streamed
      And the reason is length

    @real
    Scenario: A stop text ends the answer and is not part of it
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "stop": ["multiplies"], "sampling": {"temperature": 0},
         "input": {"messages": [{"role": "user",
          "content": "Write a haiku about GPU computing that includes the word \"forty-two\" (nonce: 7Kq9xZ2b)"}]}}
        """
      Then the text is
        """
        forty-two warm cores
        the warm chip 
        """
      And the reason is stop

    @real
    Scenario: An end token ends the answer
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"temperature": 0},
         "input": {"messages": [{"role": "user", "content": "hello"}]}}
        """
      Then the reason is stop
      And the last token is 2

  Rule: Sampling is decided by the seed

    @real
    Scenario: The same seed gives the same text, another seed another
      Given a running queen
      When I sample `builtin:haiku` with seed 7 and note the text as first
      And I sample `builtin:haiku` with seed 7 and note the text as second
      And I sample `builtin:haiku` with seed 8 and note the text as third
      Then the texts first and second are equal
      And the texts first and third differ

    @real
    Scenario: A request without a seed reports the seed it was given
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1",
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]}}
        """
      And I infer the same again with the reported seed
      Then both texts are equal

    @real
    Scenario: Continuing from tokens made elsewhere is exact
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"seed": 11, "temperature": 0.9},
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]}}
        """
      And I infer the same again, continuing after 4 tokens
      Then the tokens of both together are those of the undisturbed answer

  Rule: What requests have in common is computed once

    @real
    Scenario: A shared system prompt is computed once
      Given a running queen
      And a worker that serves `mock:slots=20,length=5,context=2000`
      When 20 requests for `mock:slots=20,length=5,context=2000` with the same system prompt of 1000 tokens reach the queen at once
      Then all of them are answered
      And the tokens that were not cached are those of 1 system prompt and 20 questions

    @real
    Scenario: A prompt that was computed before is cached, and the answer is the same
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"temperature": 0.8},
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain on a warm roof in the middle of the night"}]}}
        """
      Then 0 tokens of the prompt were cached
      When I infer the same again with the reported seed
      Then both texts are equal
      And all but the last block of the prompt was cached

  Rule: A model may ask to have tools called

    @real
    Scenario: Calls come apart from the text
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "tools": [{"type": "function", "function": {"name": "weather"}}],
         "messages": [{"role": "user", "content":
          "I look.<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\"}}\n</tool_call>\n<tool_call>{\"name\": \"weather\"}</tool_call>"}]}
        """
      Then the answer is 200
      And the answer's `/choices/0/message/content` is `I look.`
      And the answer's `/choices/0/message/tool_calls/0/id` is not empty
      And the answer's `/choices/0/message/tool_calls/0/type` is `function`
      And the answer's `/choices/0/message/tool_calls/0/function/name` is `weather`
      And the answer's `/choices/0/message/tool_calls/0/function/arguments` is `{"city": "Zürich"}`
      And the answer's `/choices/0/message/tool_calls/1/function/arguments` is `{}`
      And the answer's `/choices/0/finish_reason` is `tool_calls`

    @real
    Scenario: Calls are streamed as deltas
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "stream": true, "stop": ["Paris"],
         "tools": [{"type": "function", "function": {"name": "weather"}}],
         "messages": [{"role": "user", "content":
          "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}</tool_call>"}]}
        """
      Then the answer is 200
      And the answer contains `"type":"function","function":{"name":"weather","arguments":"{"}}]}`
      And the answer contains `"delta":{"tool_calls":[{"index":0,"function":{"arguments":"P"}}]}`
      And the answer contains `"finish_reason":"tool_calls"`

    @real
    Scenario: The results of tools come before the model
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "messages": [
         {"role": "user", "content": "How is it?"},
         {"role": "assistant", "content": null, "tool_calls": [
          {"id": "a1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
         {"role": "tool", "tool_call_id": "a1", "content": "21 degrees"}]}
        """
      Then the answer is 200
      And the answer's `/choices/0/message/content` is `21 degrees`
      And the answer's `/choices/0/finish_reason` is `stop`

    @real
    Scenario: A model that knows no tools says so
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "messages": [{"role": "user", "content": "x"}],
         "tools": [{"type": "function", "function": {"name": "weather"}}]}
        """
      Then the answer is 400
      And the answer's error code is UNSUPPORTED_PARAMETER
      And the answer's error message contains `builtin:haiku`

    @real
    Scenario Outline: A call that is asked for is the whole answer, from <model>
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "<model>", "seed": 5, "tool_choice": "required",
         "messages": [{"role": "user", "content": "How is the weather in Bern?"}],
         "tools": [{"type": "function", "function": {"name": "weather", "strict": true, "parameters": {
           "type": "object", "additionalProperties": false, "required": ["town", "days"],
           "properties": {"town": {"$ref": "#/$defs/town"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
           "$defs": {"town": {"enum": ["Bern", "Basel"]}}}}}]}
        """
      Then the answer is 200
      And the answer's `/choices/0/message/content` is `null`
      And the answer's `/choices/0/message/tool_calls/0/id` is not empty
      And the answer's `/choices/0/message/tool_calls/0/function/name` is `weather`
      And the arguments of the answer's call are JSON with exactly
        | town | Bern, Basel |
        | days | 1 to 7      |
      And the answer's `/choices/0/finish_reason` is `tool_calls`
      When I POST to `/v1/messages` of the queen
        """
        {"model": "<model>", "max_tokens": 200, "tool_choice": {"type": "tool", "name": "now"},
         "messages": [{"role": "user", "content": "How is the weather in Bern?"}],
         "tools": [{"name": "weather"}, {"name": "now"}]}
        """
      Then the answer is 200
      And the answer's `/content/0/type` is `tool_use`
      And the answer's `/content/0/name` is `now`
      And the answer's `/stop_reason` is `tool_use`

      Examples:
        | model            |
        | builtin:haiku    |
        | mock:answer=echo |

    @real
    Scenario: A function that is named is called, and the answer ends as OpenAI's does
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "stream": true,
         "tool_choice": {"type": "function", "function": {"name": "now"}},
         "messages": [{"role": "user", "content": "How is the weather in Bern?"}],
         "tools": [{"type": "function", "function": {"name": "weather"}}, {"type": "function", "function": {"name": "now"}}]}
        """
      Then the answer is 200
      And the answer contains `"type":"function","function":{"name":"now","arguments":"{`
      And the answer contains `"finish_reason":"stop"`

    @real
    Scenario: An answer with a form may call instead
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "tools": [{"type": "function", "function": {"name": "now"}}],
         "guided_choice": ["clear", "grey"], "messages": [{"role": "user", "content":
          "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"}]}
        """
      Then the answer is 200
      And the answer's `/choices/0/message/tool_calls/0/function/name` is `now`
      And the answer's `/choices/0/finish_reason` is `tool_calls`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "tools": [{"type": "function", "function": {"name": "now"}}],
         "guided_choice": ["clear", "grey"], "messages": [{"role": "user", "content": "grey and more"}]}
        """
      Then the answer's text is one of grey
      And the answer's `/choices/0/finish_reason` is `stop`

    @real
    Scenario Outline: Parameters that a call cannot keep to: <what>
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:length=3", "tool_choice": "required", "messages": [{"role": "user", "content": "x"}],
         "tools": [{"type": "function", "function": {"name": "now"}},
                   {"type": "function", "function": {"name": "weather", "parameters": <parameters>}}]}
        """
      Then the answer is 400
      And the answer's error code is <code>
      And the answer's `/error/param` is `tools`
      And the answer's error message contains `"weather"`
      And the answer's error message contains `<told>`

      Examples:
        | what                   | parameters                                                                               | code                  | told          |
        | an unsupported keyword | {"properties": {"a": {"not": {}}}}                                                       | UNSUPPORTED_PARAMETER | /properties/a |
        | no number fits         | {"required": ["a"], "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}} | INVALID_REQUEST       | minimum (5)   |

  Rule: One request may have several answers

    @real
    Scenario: They share the prompt, which counts once
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "temperature": 0, "n": 3, "messages": [{"role": "user",
         "content": "Write a haiku about GPU computing that includes the word \"forty-two\" (nonce: 7Kq9xZ2b)"}]}
        """
      Then the answer is 200
      And the answer's `/choices/0/message/content` is the golden text of case 0
      And the answer's `/choices/1/message/content` is the golden text of case 0
      And the answer's `/choices/2/message/content` is the golden text of case 0
      And the answer's `/choices/2/index` is `2`
      And the answer's `/choices/2/finish_reason` is `stop`
      And the answer's `/usage/prompt_tokens` is `38`
      And the answer's `/usage/completion_tokens` is `78`

    @real
    Scenario: More answers than slots wait for one another
      Given a running queen
      And a worker that serves `mock:slots=1,length=12`
      When I POST to `/v1/completions` of the queen
        """
        {"model": "mock:slots=1,length=12", "prompt": "x", "n": 5, "stream": true, "stream_options": {"include_usage": true}}
        """
      Then the answer is 200
      And the answer contains `{"index":4,"text":"","logprobs":null,"finish_reason":"stop"}`
      And the answer contains `"usage":{"prompt_tokens":1,"completion_tokens":65,`
      And no request is running or waiting at the queen

  Rule: An answer keeps to its constraint

    @real
    Scenario Outline: A JSON schema, from <model>
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "<model>", "temperature": <temperature>, "seed": 3, "max_tokens": 200,
         "messages": [{"role": "user", "content": "Which town, and how warm is it?"}],
         "response_format": {"type": "json_schema", "json_schema": {"name": "weather", "strict": true, "schema": {
           "type": "object", "additionalProperties": false, "required": ["town", "degrees", "sky"],
           "properties": {
             "town": {"type": "string", "maxLength": 12},
             "degrees": {"type": "integer", "minimum": -40, "maximum": 50},
             "sky": {"enum": ["clear", "grey", "rain"]}}}}}}
        """
      Then the answer is 200
      And the answer's text is JSON with exactly
        | town    | text of 12        |
        | degrees | -40 to 50         |
        | sky     | clear, grey, rain |
      And the answer's `/choices/0/finish_reason` is `stop`

      Examples:
        | model           | temperature |
        | builtin:haiku   | 0           |
        | builtin:haiku   | 1           |
        | mock:length=10  | 1           |

    @real
    Scenario: A regular expression, a choice and a grammar
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "messages": [{"role": "user", "content": "What time is it?"}],
         "guided_regex": "([01][0-9]|2[0-3]):[0-5][0-9]"}
        """
      Then the answer's text has the form `99:99`
      And the answer's `/choices/0/finish_reason` is `stop`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "messages": [{"role": "user", "content": "Is it raining?"}],
         "guided_choice": ["yes", "no", "it is \"pouring\""]}
        """
      Then the answer's text is one of yes, no, it is "pouring"
      When I POST to `/v1/completions` of the queen
        """
        {"model": "builtin:haiku", "prompt": "Roses are", "max_tokens": 100,
         "guided_grammar": "start: COLOUR (\" and \" COLOUR)? \"!\"\nCOLOUR: \"red\" | \"blue\""}
        """
      Then the answer's text is one of red!, blue!, red and red!, red and blue!, blue and red!, blue and blue!

    @real
    Scenario: What is cut off by max_tokens ends with length
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}],
         "guided_regex": "[a-z]{90}"}
        """
      Then the answer's `/choices/0/finish_reason` is `length`
      And the answer's `/usage/completion_tokens` is `3`

    @real
    Scenario: Continuing a constrained answer is exact
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"seed": 11, "temperature": 0.9},
         "constraint": {"json_schema": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9},
                                        "minItems": 5, "maxItems": 5}},
         "input": {"messages": [{"role": "user", "content": "Count"}]}}
        """
      And I infer the same again, continuing after 4 tokens
      Then the tokens of both together are those of the undisturbed answer
      And the reason is stop

    @real
    Scenario: A schema in a file, from the command line
      Given a running queen
      And the file `{dir}/coin.json` holds
        """
        {"enum": ["heads", "tails"]}
        """
      When I run `rbee-keeper infer "Throw a coin" --quiet --json-schema {dir}/coin.json --seed 1`
      Then the exit code is 0
      And stdout is one of `"heads"`, `"tails"`
      When I run `rbee-keeper infer "Throw a coin" --json-schema {dir}/none.json`
      Then the exit code is 2
      And stderr contains `none.json`

    @real
    Scenario Outline: A constraint that cannot be kept to: <what>
      Given a running queen
      And a worker that serves `mock:length=3`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:length=3", "max_tokens": 50, "temperature": 2, "seed": 1,
         "messages": [{"role": "user", "content": "x"}], <asks>}
        """
      Then the answer is 400
      And the answer's error code is <code>
      And the answer's `/error/param` is `<param>`
      And the answer's error message contains `<told>`
      And the queen still answers a good request
      And 1 `mock-worker-rbee` process runs

      Examples:
        | what                   | asks                                                                                                                                     | code                  | param                | told              |
        | no number fits         | "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer", "minimum": 5, "maximum": 3}}}      | INVALID_REQUEST       | response_format      | minimum (5)       |
        | no text fits           | "guided_regex": "[a&&b]"                                                                                                                 | INVALID_REQUEST       | guided_regex         | no text satisfies |
        | an unsupported keyword | "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {"a": {"not": {}}}}}} | UNSUPPORTED_PARAMETER | response_format      | /properties/a     |
        | an unknown type        | "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "objec"}}}                                    | INVALID_REQUEST       | response_format      | objec             |
        | an unknown format      | "response_format": {"type": "yaml"}                                                                                                      | INVALID_REQUEST       | response_format.type | yaml              |
        | alternatives           | "guided_json": {"oneOf": [{"type": "integer"}, {"type": "number"}]}                                                                      | UNSUPPORTED_PARAMETER | guided_json          | oneOf             |
        | a wrong expression     | "guided_regex": "ab(c"                                                                                                                   | INVALID_REQUEST       | guided_regex         | byte 2            |
        | a wrong grammar        | "guided_grammar": "start: thing"                                                                                                         | INVALID_REQUEST       | guided_grammar       | line 1, column 8  |
        | a huge multiple        | "guided_json": {"type": "integer", "multipleOf": 99999989}                                                                               | INVALID_REQUEST       | guided_json          | multipleOf        |

    @real
    Scenario: A grammar bomb ends its own request only
      Given a running queen
      And a worker that serves `mock:length=3`
      When I POST to `/v1/completions` of the queen
        """
        {"model": "mock:length=3", "prompt": "x",
         "guided_grammar": "start: A\nA: B B B B\nB: C C C C\nC: D D D D\nD: E E E E\nE: F F F F\nF: G G G G\nG: H H H H\nH: I I I I\nI: J J J J\nJ: K K K K\nK: L L L L\nL: M M M M\nM: N N N N\nN: O O O O\nO: P P P P\nP: Q Q Q Q\nQ: R R R R\nR: S S S S\nS: T T T T\nT: U U U U\nU: \"x\""}
        """
      Then the answer is 400
      And the answer's error code is INVALID_REQUEST
      And the answer's error message contains `too complex`
      When I POST to `/v1/completions` of the queen
        """
        {"model": "mock:length=3", "prompt": "x",
         "guided_grammar": "start: sum\nsum: sum \"+\" sum"}
        """
      Then the answer is 400
      And the answer's error message contains `no text satisfies`
      And the queen still answers a good request
      And 1 `mock-worker-rbee` process runs

  Rule: A request can be cancelled, and its slot is free afterwards

    @real
    Scenario: DELETE ends it, and may be sent again
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      When I start a request r-1 to `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      And the request r-1 has streamed 3 tokens
      And I cancel the request r-1
      Then the request r-1 ends with the error CANCELLED
      When I cancel the request r-1
      Then the answer is 204
      And the queen knows 1 ready worker
      And no request is running or waiting at the queen

    @real
    Scenario Outline: A client that goes away ends its request, <kind>
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      When a client asks `mock:slots=1,tokens_per_second=20,length=100000,context=1000000` <kind> and goes away
      Then the queen knows 1 ready worker
      And no request is running or waiting at the queen

      Examples:
        | kind              |
        | with a stream     |
        | without a stream  |

    @real
    Scenario: Ctrl+C cancels and exits with 130
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      And I started `rbee-keeper infer hello --model mock:slots=1,tokens_per_second=20,length=100000,context=1000000` as client
      When client has printed something to stdout
      And client gets SIGINT
      Then client ends within 2 s
      And the exit code is 130
      And the queen knows 1 ready worker

  Rule: A busy worker refuses, the queen waits

    @real
    Scenario: A worker computes sixteen requests at once unless told otherwise
      Given a running queen
      And a worker that serves `builtin:haiku`
      When I run `rbee-keeper status`
      Then stdout contains `16/16`

    @real @EH-018a
    Scenario: A worker asked past its slots answers 503, and exactly one wins the last slot
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=50,length=20`
      When 4 requests reach the worker itself at once
      Then 1 of them is answered and 3 are refused with ALL_SLOTS_BUSY

    @real
    Scenario: The queen queues what does not fit
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=100,length=10`
      When 4 requests for `mock:slots=1,tokens_per_second=100,length=10` reach the queen at once
      Then all of them are answered

  Rule: A worker that fails is hidden as far as possible

    @real @EH-013a
    Scenario: Crash before the first token: tried again, unseen by the client
      Given a running queen
      And a worker that serves `builtin:haiku`
      When every `llm-cpu-worker-rbee` process is killed
      And I ask `builtin:haiku` the golden question 0 greedily
      Then the answer is the golden text of case 0

    @real @EH-013a
    Scenario: Crash in the middle: the rest comes from another worker
      Given a running queen
      When I start a request r-1 to `mock:tokens_per_second=40,length=60`
      And the request r-1 has streamed 5 tokens
      And every `mock-worker-rbee` process is killed
      Then the request r-1 ends well
      And its text is that of an undisturbed run

  Rule: What cannot be done is refused with its reason

    @real
    Scenario: A prompt that does not fit
      Given a running queen
      When I ask `builtin:haiku` for a chat of 600 words
      Then the answer is 400
      And the answer's error code is CONTEXT_LENGTH_EXCEEDED
      And the answer's `/error/param` is `messages`
      And the answer's error message contains `512`

    @real
    Scenario Outline: Wrong requests: <what>
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        <body>
        """
      Then the answer is <status>
      And the answer's error code is <code>
      And the queen still answers a good request

      Examples:
        | what               | body                                                                                                   | status | code                  |
        | malformed JSON     | {"model": "builtin:haiku", "messages": [                                                               | 400    | INVALID_REQUEST       |
        | a missing field    | {"model": "builtin:haiku"}                                                                             | 400    | INVALID_REQUEST       |
        | a wrong type       | {"model": "builtin:haiku", "messages": "hello"}                                                        | 400    | INVALID_REQUEST       |
        | no messages        | {"model": "builtin:haiku", "messages": []}                                                             | 400    | INVALID_REQUEST       |
        | an unknown model   | {"model": "builtin:nothing", "messages": [{"role": "user", "content": "x"}]}                           | 404    | MODEL_NOT_FOUND       |
        | zero tokens        | {"model": "builtin:haiku", "max_tokens": 0, "messages": [{"role": "user", "content": "x"}]}            | 400    | INVALID_REQUEST       |
        | negative tokens    | {"model": "builtin:haiku", "max_tokens": -1, "messages": [{"role": "user", "content": "x"}]}           | 400    | INVALID_REQUEST       |
        | a hot temperature  | {"model": "builtin:haiku", "temperature": 99, "messages": [{"role": "user", "content": "x"}]}          | 400    | INVALID_REQUEST       |
        | too many answers   | {"model": "builtin:haiku", "n": 17, "messages": [{"role": "user", "content": "x"}]}                    | 400    | INVALID_REQUEST       |
        | what is not there  | {"model": "builtin:haiku", "functions": [{}], "messages": [{"role": "user", "content": "x"}]}          | 400    | UNSUPPORTED_PARAMETER |

    @real
    Scenario: Bytes that are no text, and too many of them
      Given a running queen
      When I POST the bytes `7b 22 ff fe 22 7d` to `/v1/chat/completions` of the queen
      Then the answer is 400
      And the answer's error code is INVALID_REQUEST
      When I POST 10000000 bytes to `/v1/chat/completions` of the queen
      Then the answer is 413
      And the answer's error code is BODY_TOO_LARGE
      And the queen still answers a good request

    @real
    Scenario: A model file that is damaged
      Given a running queen
      And a copy of the embedded model cut to 3000 bytes as `cut.gguf`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "file:{dir}/cut.gguf", "messages": [{"role": "user", "content": "x"}]}
        """
      Then the answer is 400
      And the answer's error code is INVALID_MODEL_FILE
      And the queen still answers a good request

  Rule: Clients of other APIs are served alike

    @real
    Scenario Outline: A golden answer in one document, by <path>
      Given a running queen
      When I POST to `<path>` of the queen
        """
        <body>
        """
      Then the answer is 200
      And the answer's `<text>` is the golden text of case 0
      And the answer's `<reason>` is `<said>`

      Examples:
        | path          | text             | reason       | said     | body |
        | /api/chat     | /message/content | /done_reason | stop     | {"model": "haiku", "stream": false, "options": {"temperature": 0}, "messages": [{"role": "user", "content": "Write a haiku about GPU computing that includes the word \\"forty-two\\" (nonce: 7Kq9xZ2b)"}]} |
        | /api/generate | /response        | /done_reason | stop     | {"model": "builtin:haiku", "stream": false, "options": {"temperature": 0}, "prompt": "Write a haiku about GPU computing that includes the word \\"forty-two\\" (nonce: 7Kq9xZ2b)"} |
        | /v1/messages  | /content/0/text  | /stop_reason | end_turn | {"model": "builtin:haiku", "max_tokens": 96, "temperature": 0, "messages": [{"role": "user", "content": "Write a haiku about GPU computing that includes the word \\"forty-two\\" (nonce: 7Kq9xZ2b)"}]} |

    @real
    Scenario: Tokens of a text, counted at the queen
      Given a running queen
      When I POST to `/v1/tokenize` of the queen
        """
        {"model": "builtin:haiku", "input": {"messages": [{"role": "user",
         "content": "Write a haiku about GPU computing that includes the word \"forty-two\" (nonce: 7Kq9xZ2b)"}]}}
        """
      Then the answer is 200
      And the answer's `/count` is `38`

    @real
    Scenario: A text that is too long has no vector
      Given a running queen
      When I POST to `/v1/embeddings` of the queen
        """
        {"model": "mock:context=16", "input": ["short", "a text of more than sixteen bytes"]}
        """
      Then the answer is 400
      And the answer's error code is CONTEXT_LENGTH_EXCEEDED
      And the queen still answers a good request

    @real
    Scenario Outline: Errors have the shape of the API, by <path>
      Given a running queen
      When I POST to `<path>` of the queen
        """
        {"model": "nothing", "max_tokens": 9, "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
        """
      Then the answer is 404
      And the answer's `<field>` is `<value>`

      Examples:
        | path          | field       | value           |
        | /api/chat     | /code       | MODEL_NOT_FOUND |
        | /api/generate | /code       | MODEL_NOT_FOUND |
        | /v1/messages  | /error/type | not_found_error |

  Rule: Batching and the haiku

    @real
    Scenario: Answers in a batch are those alone
      Given a running queen
      When I ask `builtin:haiku` every golden question greedily, all at once
      Then every answer is the golden text

    @real @slow
    Scenario: The haiku acceptance test passes on the embedded model
      When the haiku acceptance test runs on `builtin:haiku`
      Then it passes

    @real
    Scenario: The haiku acceptance test fails on a mock
      When the haiku acceptance test runs on `mock:length=30`
      Then it fails because of the text
