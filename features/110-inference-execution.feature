Feature: Inference execution
  The queen streams the tokens of a request while a worker generates them. Every request ends
  exactly once.

  Rule: A stream consists of events

    @real
    Scenario: The events are started, tokens, metrics, end
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
      And the event `metrics` has the time to the first token and the speed

    @real
    Scenario: A non-streaming response has the complete text and the token counts
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "temperature": 0, "messages": [{"role": "user",
         "content": "Write a haiku about GPU computing that includes the word \"forty-two\" (nonce: 7Kq9xZ2b)"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is the reference output of case 0
      And the response's `/choices/0/finish_reason` is `stop`
      And the response's `/usage/prompt_tokens` is `38`
      And the response's `/usage/completion_tokens` is `26`

    @real
    Scenario Outline: Greedy decoding of <model> produces the reference outputs
      Given a running queen
      When I send every reference prompt to `<model>`
      Then every output equals the reference

      Examples:
        | model                     |
        | builtin:haiku             |
        | builtin:haiku@safetensors |

    @real
    Scenario: A multi-byte character is never split
      Given a running queen
      When I infer
        """
        {"model": "mock:length=40", "request_id": "r-1",
         "input": {"prompt": "héllo wörld 🐝🐝 日本語"}}
        """
      Then the text has multi-byte characters and no replacement characters

  Rule: A completion ends at max_tokens, a stop sequence or an end token

    @real
    Scenario: max_tokens limits a completion
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "max_tokens": 5, "sampling": {"temperature": 0},
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]}}
        """
      Then 5 tokens were streamed
      And the finish reason is length

    @real
    Scenario: A stop sequence ends a completion and is not part of it
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
      And the finish reason is stop

    @real
    Scenario: An end token ends a completion
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"temperature": 0},
         "input": {"messages": [{"role": "user", "content": "hello"}]}}
        """
      Then the finish reason is stop
      And the last token is 2

  Rule: Sampling depends on the seed

    @real
    Scenario: The same seed produces the same text, another seed another text
      Given a running queen
      When I sample `builtin:haiku` with seed 7 and note the text as first
      And I sample `builtin:haiku` with seed 7 and note the text as second
      And I sample `builtin:haiku` with seed 8 and note the text as third
      Then the texts first and second are equal
      And the texts first and third differ

    @real
    Scenario: A request without a seed reports the seed that was chosen
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1",
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]}}
        """
      And I repeat the request with the reported seed
      Then both texts are equal

    @real
    Scenario: A continued request produces the remaining tokens exactly
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"seed": 11, "temperature": 0.9},
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain"}]}}
        """
      And I repeat the request, continuing after 4 tokens
      Then the remaining tokens are those of the uninterrupted request

  Rule: A shared prefix is computed once

    @real
    Scenario: A shared system prompt is computed once
      Given a running queen
      And a worker that serves `mock:slots=20,length=5,context=2000`
      When 20 requests for `mock:slots=20,length=5,context=2000` with the same system prompt of 1000 tokens are sent at the same time
      Then all of them succeed
      And the system prompt of 1000 tokens was computed once

    @real
    Scenario: A repeated prompt is cached and produces the same text
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"temperature": 0.8},
         "input": {"messages": [{"role": "user", "content": "Write a haiku about rain on a warm roof in the middle of the night"}]}}
        """
      Then no token of the prompt was cached
      When I repeat the request with the reported seed
      Then both texts are equal
      And all tokens of the prompt but the last were cached

  Rule: Reasoning is separated from the answer

    @real
    Scenario Outline: Reasoning has fields of its own, with <model>
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "<model>", "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `Hello`
      And the response's `/choices/0/message/reasoning_content` is `The message is: Hello`
      And the response's `/choices/0/message/reasoning` is `The message is: Hello`
      And the response's `/choices/0/finish_reason` is `stop`
      When I POST to `/api/chat` of the queen
        """
        {"model": "<model>", "stream": false, "think": true, "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response's `/message/content` is `Hello`
      And the response's `/message/thinking` is `The message is: Hello`
      When I POST to `/v1/messages` of the queen
        """
        {"model": "<model>", "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024},
         "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response's `/content/0/type` is `thinking`
      And the response's `/content/0/thinking` is `The message is: Hello`
      And the response's `/content/1/text` is `Hello`

      Examples:
        | model                    |
        | mock:answer=think        |
        | mock:answer=think_opened |

    @real
    Scenario: Reasoning is streamed as deltas
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=think", "stream": true, "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response contains `"delta":{"reasoning_content":"T","reasoning":"T"}`
      And the response contains `"delta":{"content":"H"}`
      When I POST to `/v1/messages` of the queen
        """
        {"model": "mock:answer=think", "stream": true, "max_tokens": 200, "thinking": {"type": "adaptive"},
         "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response contains `{"type":"thinking_delta","thinking":"T"}`
      And the response contains `{"type":"signature_delta","signature":`

    @real
    Scenario: Reasoning is turned off, ended at a limit, or hidden
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=think_opened", "chat_template_kwargs": {"enable_thinking": false},
         "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `Hello`
      And the response's `/usage/completion_tokens_details/reasoning_tokens` is `0`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=think_opened", "max_reasoning_tokens": 3,
         "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/reasoning_content` is `The`
      And the response's `/choices/0/message/content` is `Hello`
      When I POST to `/v1/messages` of the queen
        """
        {"model": "mock:answer=think", "max_tokens": 200, "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 200
      And the response's `/content/0/text` is `Hello`

    @real
    Scenario: A tool call in the reasoning is not a call
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=think", "tools": [{"type": "function", "function": {"name": "weather"}}],
         "messages": [{"role": "user", "content": "<tool_call>{\"name\": \"weather\"}</tool_call>"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/tool_calls/0/function/name` is `weather`
      And the response's `/choices/0/message/reasoning_content` is `The message is: <tool_call>{"name": "weather"}</tool_call>`
      And the response's `/choices/0/finish_reason` is `tool_calls`

    @real
    Scenario: A constraint applies after the reasoning
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=think", "response_format": {"type": "json_object"},
         "messages": [{"role": "user", "content": "{\"a\": 1}"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `{"a": 1}`
      And the response's `/choices/0/message/reasoning_content` is `The message is: {"a": 1}`

    @real
    Scenario: A model that cannot think says so in Ollama's words
      Given a running queen
      When I POST to `/api/chat` of the queen
        """
        {"model": "mock:answer=echo", "think": true, "messages": [{"role": "user", "content": "Hello"}]}
        """
      Then the response status is 400
      And the response contains `"error":"\"mock:answer=echo\" does not support thinking"`

    @real
    Scenario: A continued request produces the remaining reasoning and answer exactly
      Given a running queen
      When I infer
        """
        {"model": "mock:answer=think", "request_id": "r-1", "reasoning": {"max_tokens": 12},
         "input": {"messages": [{"role": "user", "content": "Hello"}]}}
        """
      And I repeat the request, continuing after 15 tokens
      Then the remaining tokens are those of the uninterrupted request

  Rule: A model may call tools

    @real
    Scenario: Tool calls are separated from the text
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "tools": [{"type": "function", "function": {"name": "weather"}}],
         "messages": [{"role": "user", "content":
          "I look.<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Zürich\"}}\n</tool_call>\n<tool_call>{\"name\": \"weather\"}</tool_call>"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `I look.`
      And the response's `/choices/0/message/tool_calls/0/id` is not empty
      And the response's `/choices/0/message/tool_calls/0/type` is `function`
      And the response's `/choices/0/message/tool_calls/0/function/name` is `weather`
      And the response's `/choices/0/message/tool_calls/0/function/arguments` is `{"city": "Zürich"}`
      And the response's `/choices/0/message/tool_calls/1/function/arguments` is `{}`
      And the response's `/choices/0/finish_reason` is `tool_calls`

    @real
    Scenario: Tool calls are streamed as deltas
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "stream": true, "stop": ["Paris"],
         "tools": [{"type": "function", "function": {"name": "weather"}}],
         "messages": [{"role": "user", "content":
          "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}</tool_call>"}]}
        """
      Then the response status is 200
      And the response contains `"type":"function","function":{"name":"weather","arguments":"{"}}]}`
      And the response contains `"delta":{"tool_calls":[{"index":0,"function":{"arguments":"P"}}]}`
      And the response contains `"finish_reason":"tool_calls"`

    @real
    Scenario: The model receives the results of tools
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "messages": [
         {"role": "user", "content": "How is it?"},
         {"role": "assistant", "content": null, "tool_calls": [
          {"id": "a1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
         {"role": "tool", "tool_call_id": "a1", "content": "21 degrees"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `21 degrees`
      And the response's `/choices/0/finish_reason` is `stop`

    @real
    Scenario: Tools are rejected for a model without tool calls
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "messages": [{"role": "user", "content": "x"}],
         "tools": [{"type": "function", "function": {"name": "weather"}}]}
        """
      Then the response status is 400
      And the response's error code is UNSUPPORTED_PARAMETER
      And the response's error message contains `builtin:haiku`

    @real
    Scenario Outline: A required tool call is the complete output, with <model>
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
      Then the response status is 200
      And the response's `/choices/0/message/content` is `null`
      And the response's `/choices/0/message/tool_calls/0/id` is not empty
      And the response's `/choices/0/message/tool_calls/0/function/name` is `weather`
      And the arguments of the response's tool call are JSON with exactly
        | town | Bern, Basel |
        | days | 1 to 7      |
      And the response's `/choices/0/finish_reason` is `tool_calls`
      When I POST to `/v1/messages` of the queen
        """
        {"model": "<model>", "max_tokens": 200, "tool_choice": {"type": "tool", "name": "now"},
         "messages": [{"role": "user", "content": "How is the weather in Bern?"}],
         "tools": [{"name": "weather", "input_schema": {}},
                   {"name": "now", "input_schema": {"additionalProperties": false}}]}
        """
      Then the response status is 200
      And the response's `/content/0/type` is `tool_use`
      And the response's `/content/0/name` is `now`
      And the response's `/stop_reason` is `tool_use`

      Examples:
        | model            |
        | builtin:haiku    |
        | mock:answer=echo |

    @real
    Scenario: A named function is called, and the finish reason is stop as in OpenAI's API
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "stream": true,
         "tool_choice": {"type": "function", "function": {"name": "now"}},
         "messages": [{"role": "user", "content": "How is the weather in Bern?"}],
         "tools": [{"type": "function", "function": {"name": "weather"}}, {"type": "function", "function": {"name": "now"}}]}
        """
      Then the response status is 200
      And the response contains `"type":"function","function":{"name":"now","arguments":"{`
      And the response contains `"finish_reason":"stop"`

    @real
    Scenario: Calls of a strict tool match its parameters although the model may write text
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "temperature": 0,
         "tools": [{"type": "function", "function": {"name": "weather", "strict": true, "parameters": {
           "type": "object", "additionalProperties": false, "required": ["town"],
           "properties": {"town": {"enum": ["Basel"]}}}}}],
         "messages": [{"role": "user", "content":
          "I look.<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"town\": \"Paris\"}}\n</tool_call>"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `I look.`
      And the response's `/choices/0/message/tool_calls/0/function/name` is `weather`
      And the arguments of the response's tool call are JSON with exactly
        | town | Basel |
      And the response's `/choices/0/finish_reason` is `tool_calls`

    @real
    Scenario: A function that was not offered is text
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "tools": [{"type": "function", "function": {"name": "weather"}}],
         "messages": [{"role": "user", "content": "<tool_call>{\"name\": \"other\", \"arguments\": {}}</tool_call>"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `<tool_call>{"name": "other", "arguments": {}}</tool_call>`
      And the response's `/choices/0/finish_reason` is `stop`

    @real
    Scenario: A constrained completion may call a tool instead
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "tools": [{"type": "function", "function": {"name": "now"}}],
         "guided_choice": ["clear", "grey"], "messages": [{"role": "user", "content":
          "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/tool_calls/0/function/name` is `now`
      And the response's `/choices/0/finish_reason` is `tool_calls`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:answer=echo", "tools": [{"type": "function", "function": {"name": "now"}}],
         "guided_choice": ["clear", "grey"], "messages": [{"role": "user", "content": "grey and more"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is `grey`
      And the response's `/choices/0/finish_reason` is `stop`

    @real
    Scenario Outline: Parameters of strict tools that cannot be enforced are rejected: <what>
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:length=3", "tool_choice": "required", "messages": [{"role": "user", "content": "x"}],
         "tools": [{"type": "function", "function": {"name": "now"}},
                   {"type": "function", "function": {"name": "weather", "strict": true, "parameters": <parameters>}}]}
        """
      Then the response status is 400
      And the response's error code is <code>
      And the response's `/error/param` is `tools`
      And the response's error message contains `"weather"`
      And the response's error message contains `<message>`

      Examples:
        | what                   | parameters                                                                               | code                  | message       |
        | an unsupported keyword | {"properties": {"a": {"not": {}}}}                                                       | UNSUPPORTED_PARAMETER | /properties/a |
        | no number fits         | {"required": ["a"], "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}}} | INVALID_REQUEST       | minimum (5)   |

  Rule: A request may have several choices

    @real
    Scenario: Choices share the prompt, which counts once
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "temperature": 0, "n": 3, "messages": [{"role": "user",
         "content": "Write a haiku about GPU computing that includes the word \"forty-two\" (nonce: 7Kq9xZ2b)"}]}
        """
      Then the response status is 200
      And the response's `/choices/0/message/content` is the reference output of case 0
      And the response's `/choices/1/message/content` is the reference output of case 0
      And the response's `/choices/2/message/content` is the reference output of case 0
      And the response's `/choices/2/index` is `2`
      And the response's `/choices/2/finish_reason` is `stop`
      And the response's `/usage/prompt_tokens` is `38`
      And the response's `/usage/completion_tokens` is `78`

    @real
    Scenario: A request may have more choices than the worker has slots
      Given a running queen
      And a worker that serves `mock:slots=1,length=12`
      When I POST to `/v1/completions` of the queen
        """
        {"model": "mock:slots=1,length=12", "prompt": "x", "n": 5, "stream": true, "stream_options": {"include_usage": true}}
        """
      Then the response status is 200
      And the response contains `{"index":4,"text":"","logprobs":null,"finish_reason":"stop"}`
      And the response contains `"usage":{"prompt_tokens":1,"completion_tokens":65,`
      And no request is running or waiting at the queen

  Rule: The output satisfies the constraint

    @real
    Scenario Outline: A JSON schema, with <model> at temperature <temperature>
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
      Then the response status is 200
      And the response's text is JSON with exactly
        | town    | text of 12        |
        | degrees | -40 to 50         |
        | sky     | clear, grey, rain |
      And the response's `/choices/0/finish_reason` is `stop`

      Examples:
        | model           | temperature |
        | builtin:haiku   | 0           |
        | builtin:haiku   | 1           |
        | mock:length=10  | 1           |

    @real
    Scenario: A regular expression, a list of texts and a grammar
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "messages": [{"role": "user", "content": "What time is it?"}],
         "guided_regex": "([01][0-9]|2[0-3]):[0-5][0-9]"}
        """
      Then the response's text has the form `99:99`
      And the response's `/choices/0/finish_reason` is `stop`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "messages": [{"role": "user", "content": "Is it raining?"}],
         "guided_choice": ["yes", "no", "it is \"pouring\""]}
        """
      Then the response's text is one of yes, no, it is "pouring"
      When I POST to `/v1/completions` of the queen
        """
        {"model": "builtin:haiku", "prompt": "Roses are", "max_tokens": 100,
         "guided_grammar": "start: COLOUR (\" and \" COLOUR)? \"!\"\nCOLOUR: \"red\" | \"blue\""}
        """
      Then the response's text is one of red!, blue!, red and red!, red and blue!, blue and red!, blue and blue!

    @real
    Scenario: Constrained output that max_tokens cuts off finishes with length
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "builtin:haiku", "max_tokens": 3, "messages": [{"role": "user", "content": "hello"}],
         "guided_regex": "[a-z]{90}"}
        """
      Then the response's `/choices/0/finish_reason` is `length`
      And the response's `/usage/completion_tokens` is `3`

    @real
    Scenario: A continued constrained request produces the remaining tokens exactly
      Given a running queen
      When I infer
        """
        {"model": "builtin:haiku", "request_id": "r-1", "sampling": {"seed": 11, "temperature": 0.9},
         "constraint": {"json_schema": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9},
                                        "minItems": 5, "maxItems": 5}},
         "input": {"messages": [{"role": "user", "content": "Count"}]}}
        """
      And I repeat the request, continuing after 4 tokens
      Then the remaining tokens are those of the uninterrupted request
      And the finish reason is stop

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
      And the error contains `{dir}/none.json`

    @real
    Scenario Outline: A constraint that cannot be enforced is rejected: <what>
      Given a running queen
      And a worker that serves `mock:length=3`
      When I note the `mock-worker-rbee` processes
      And I POST to `/v1/chat/completions` of the queen
        """
        {"model": "mock:length=3", "max_tokens": 50, "temperature": 2, "seed": 1,
         "messages": [{"role": "user", "content": "x"}], <fields>}
        """
      Then the response status is 400
      And the response's error code is <code>
      And the response's `/error/param` is `<param>`
      And the response's error message contains `<message>`
      And the queen still serves valid requests
      And the same `mock-worker-rbee` processes run

      Examples:
        | what                   | fields                                                                                                                                                   | code                  | param                | message           |
        | no number fits         | "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer", "minimum": 5, "maximum": 3}}}                      | INVALID_REQUEST       | response_format      | minimum (5)       |
        | no text fits           | "guided_regex": "[a&&b]"                                                                                                                                 | INVALID_REQUEST       | guided_regex         | no text satisfies |
        | an unsupported keyword | "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "object", "properties": {"a": {"not": {}}}}}} | UNSUPPORTED_PARAMETER | response_format      | /properties/a     |
        | an unknown type        | "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "objec"}}}                                                    | INVALID_REQUEST       | response_format      | objec             |
        | an unknown format      | "response_format": {"type": "yaml"}                                                                                                                      | INVALID_REQUEST       | response_format.type | yaml              |
        | alternatives           | "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}} | UNSUPPORTED_PARAMETER | response_format      | oneOf             |
        | a malformed expression | "guided_regex": "ab(c"                                                                                                                                   | INVALID_REQUEST       | guided_regex         | byte 2            |
        | an undefined rule      | "guided_grammar": "start: thing"                                                                                                                         | INVALID_REQUEST       | guided_grammar       | line 1, column 8  |
        | a huge multiple        | "guided_json": {"type": "integer", "multipleOf": 99999989}                                                                                               | INVALID_REQUEST       | guided_json          | multipleOf        |

    @real
    Scenario: A grammar of exponential size fails only its own request
      Given a running queen
      And a worker that serves `mock:length=3`
      When I note the `mock-worker-rbee` processes
      And I POST to `/v1/completions` of the queen
        """
        {"model": "mock:length=3", "prompt": "x",
         "guided_grammar": "start: A\nA: B B B B\nB: C C C C\nC: D D D D\nD: E E E E\nE: F F F F\nF: G G G G\nG: H H H H\nH: I I I I\nI: J J J J\nJ: K K K K\nK: L L L L\nL: M M M M\nM: N N N N\nN: O O O O\nO: P P P P\nP: Q Q Q Q\nQ: R R R R\nR: S S S S\nS: T T T T\nT: U U U U\nU: \"x\""}
        """
      Then the response status is 400
      And the response's error code is INVALID_REQUEST
      And the response's error message contains `too complex`
      When I POST to `/v1/completions` of the queen
        """
        {"model": "mock:length=3", "prompt": "x",
         "guided_grammar": "start: sum\nsum: sum \"+\" sum"}
        """
      Then the response status is 400
      And the response's error message contains `no text satisfies`
      And the queen still serves valid requests
      And the same `mock-worker-rbee` processes run

  Rule: A request can be cancelled, and its slot is free afterwards

    @real
    Scenario: DELETE cancels a request and may be repeated
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      When I start the request r-1 for `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      And the request r-1 has streamed 3 tokens
      And I cancel the request r-1
      Then the response status is 204
      And the request r-1 fails with CANCELLED
      When I cancel the request r-1
      Then the response status is 204
      And the queen knows 1 ready worker
      And no request is running or waiting at the queen
      And 1 request was cancelled and 0 failed

    @real
    Scenario Outline: A request is cancelled when its client disconnects, <kind>
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      When a client sends a <kind> request for `mock:slots=1,tokens_per_second=20,length=100000,context=1000000` and disconnects while it runs
      Then the queen knows 1 ready worker
      And no request is running or waiting at the queen
      And 1 request was cancelled and 0 failed

      Examples:
        | kind          |
        | streaming     |
        | non-streaming |

    @real
    Scenario: Ctrl+C cancels a request and exits with 130
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      And I started `rbee-keeper infer hello --model mock:slots=1,tokens_per_second=20,length=100000,context=1000000` as client
      When client has printed something to stdout
      And client gets SIGINT
      Then client exits within 2 s
      And the exit code is 130
      And the queen knows 1 ready worker
      And no request is running or waiting at the queen
      And 1 request was cancelled and 0 failed

  Rule: A busy worker rejects requests, the queen queues them

    @real
    Scenario: A worker has sixteen slots by default
      Given a running queen
      And a worker that serves `builtin:haiku`
      When I run `rbee-keeper status`
      Then stdout contains `16/16`

    @real @EH-018a
    Scenario: A worker without free slots responds with 503, and exactly one request gets the last slot
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=60`
      When 4 requests are sent to the worker itself at the same time
      Then 1 of them succeeds and 3 are rejected with ALL_SLOTS_BUSY

    @real
    Scenario: The queen queues requests until a slot is free
      Given a running queen
      And a worker that serves `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      When I start the request r-1 for `mock:slots=1,tokens_per_second=20,length=100000,context=1000000`
      And the request r-1 has streamed 1 token
      And I start the request r-2 for `mock:slots=1,tokens_per_second=20,length=100000,context=1000000` with max_tokens 5
      And I start the request r-3 for `mock:slots=1,tokens_per_second=20,length=100000,context=1000000` with max_tokens 5
      Then 1 request is running and 2 are waiting at the queen
      When I cancel the request r-1
      Then the request r-1 fails with CANCELLED
      And the request r-2 finishes with length
      And the request r-3 finishes with length
      And no request is running or waiting at the queen

  Rule: Clients do not notice the failure of a worker

    @real @EH-013a
    Scenario: A killed worker is replaced for the next request
      Given a running queen
      And a worker that serves `builtin:haiku`
      When every `llm-cpu-worker-rbee` process is killed
      And I send the reference prompt of case 0 to `builtin:haiku`
      Then the response is the reference output of case 0

    @real @EH-013a
    Scenario: Crash before the first token: another worker runs the request
      Given a running queen
      When I start the request r-1 for `mock:tokens_per_second=1,length=1`
      And the worker has started the request r-1
      And every `mock-worker-rbee` process is killed
      Then the request r-1 finishes with stop
      And the first of its 2 workers produced no token
      And its text equals that of an undisturbed request

    @real @EH-013a
    Scenario: Crash during the completion: another worker continues it
      Given a running queen
      When I start the request r-1 for `mock:tokens_per_second=40,length=60`
      And the request r-1 has streamed 5 tokens
      And every `mock-worker-rbee` process is killed
      Then the request r-1 finishes with stop
      And the first of its 2 workers produced at least 5 tokens, but not all
      And its text equals that of an undisturbed request

  Rule: Invalid requests are rejected with the reason

    @real
    Scenario: A prompt that exceeds the context
      Given a running queen
      When I send a prompt of 600 words to `builtin:haiku`
      Then the response status is 400
      And the response's error code is CONTEXT_LENGTH_EXCEEDED
      And the response's `/error/code` is `context_length_exceeded`
      And the response's error message contains `This model's maximum context length is 512 tokens.`
      And the response's `/error/param` is `messages`
      And the response's error message contains `512`

    @real
    Scenario Outline: Invalid requests: <what>
      Given a running queen
      When I POST to `/v1/chat/completions` of the queen
        """
        <body>
        """
      Then the response status is <status>
      And the response's error code is <code>
      And the queen still serves valid requests

      Examples:
        | what               | body                                                                                                   | status | code                  |
        | malformed JSON     | {"model": "builtin:haiku", "messages": [                                                               | 400    | INVALID_REQUEST       |
        | a missing field    | {"model": "builtin:haiku"}                                                                             | 400    | INVALID_REQUEST       |
        | a wrong type       | {"model": "builtin:haiku", "messages": "hello"}                                                        | 400    | INVALID_REQUEST       |
        | no messages        | {"model": "builtin:haiku", "messages": []}                                                             | 400    | INVALID_REQUEST       |
        | an unknown model   | {"model": "builtin:nothing", "messages": [{"role": "user", "content": "x"}]}                           | 404    | MODEL_NOT_FOUND       |
        | negative tokens    | {"model": "builtin:haiku", "max_tokens": -2, "messages": [{"role": "user", "content": "x"}]}           | 400    | INVALID_REQUEST       |
        | half a token       | {"model": "builtin:haiku", "max_tokens": 1.5, "messages": [{"role": "user", "content": "x"}]}          | 400    | INVALID_REQUEST       |
        | a number as text   | {"model": "builtin:haiku", "max_tokens": "9", "messages": [{"role": "user", "content": "x"}]}          | 400    | INVALID_REQUEST       |
        | half a character   | {"model": "builtin:haiku", "messages": [{"role": "user", "content": "\\ud83d"}]}                        | 400    | INVALID_REQUEST       |
        | a hot temperature  | {"model": "builtin:haiku", "temperature": 99, "messages": [{"role": "user", "content": "x"}]}          | 400    | INVALID_REQUEST       |
        | too many choices   | {"model": "builtin:haiku", "n": 17, "messages": [{"role": "user", "content": "x"}]}                    | 400    | INVALID_REQUEST       |
        | an unknown field   | {"model": "builtin:haiku", "functions": [{}], "messages": [{"role": "user", "content": "x"}]}          | 400    | UNSUPPORTED_PARAMETER |

    @real
    Scenario Outline: A limit of <max_tokens> tokens at <path> is what the context leaves
      Given a running queen
      When I POST to `<path>` of the queen
        """
        {"model": "mock:context=64,length=1000", "stream": false, "max_tokens": <max_tokens>, "options": {"num_predict": <max_tokens>},
         "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
        """
      Then the response status is 200
      And the response's `<reason>` is `<length>`

      Examples:
        | path                 | max_tokens | reason                   | length     |
        | /v1/chat/completions | -1         | /choices/0/finish_reason | length     |
        | /v1/chat/completions | 0          | /choices/0/finish_reason | length     |
        | /v1/chat/completions | 1000000    | /choices/0/finish_reason | length     |
        | /v1/completions      | -1         | /choices/0/finish_reason | length     |
        | /v1/completions      | 1000000    | /choices/0/finish_reason | length     |
        | /v1/messages         | 1000000    | /stop_reason             | max_tokens |
        | /api/chat            | -1         | /done_reason             | length     |

    @real
    Scenario: A body that is not UTF-8, and one that is too large
      Given a running queen
      When I POST the bytes `7b 22 ff fe 22 7d` to `/v1/chat/completions` of the queen
      Then the response status is 400
      And the response's error code is INVALID_REQUEST
      When I POST 10000000 bytes to `/v1/chat/completions` of the queen
      Then the response status is 413
      And the response's error code is BODY_TOO_LARGE
      And the queen still serves valid requests

    @real
    Scenario: A damaged model file
      Given a running queen
      And a copy of the embedded model cut to 3000 bytes as `cut.gguf`
      When I POST to `/v1/chat/completions` of the queen
        """
        {"model": "file:{dir}/cut.gguf", "messages": [{"role": "user", "content": "x"}]}
        """
      Then the response status is 400
      And the response's error code is INVALID_MODEL_FILE
      And the queen still serves valid requests

  Rule: Other APIs have the same results

    @real
    Scenario Outline: A reference output in a non-streaming response of <path>
      Given a running queen
      When I POST to `<path>` of the queen
        """
        <body>
        """
      Then the response status is 200
      And the response's `<text>` is the reference output of case 0
      And the response's `<reason>` is `<value>`

      Examples:
        | path          | text             | reason       | value    | body |
        | /api/chat     | /message/content | /done_reason | stop     | {"model": "haiku", "stream": false, "options": {"temperature": 0, "repeat_penalty": 1}, "messages": [{"role": "user", "content": "Write a haiku about GPU computing that includes the word \\"forty-two\\" (nonce: 7Kq9xZ2b)"}]} |
        | /api/generate | /response        | /done_reason | stop     | {"model": "builtin:haiku", "stream": false, "options": {"temperature": 0, "repeat_penalty": 1}, "prompt": "Write a haiku about GPU computing that includes the word \\"forty-two\\" (nonce: 7Kq9xZ2b)"} |
        | /v1/messages  | /content/0/text  | /stop_reason | end_turn | {"model": "builtin:haiku", "max_tokens": 96, "temperature": 0, "messages": [{"role": "user", "content": "Write a haiku about GPU computing that includes the word \\"forty-two\\" (nonce: 7Kq9xZ2b)"}]} |

    @real
    Scenario Outline: The sampling at <path> is that of the request, the model, or the API
      Given a running queen
      When I POST to `<path>` of the queen
        """
        {"model": "mock:temperature=0.3,length=5", "stream": false, "max_tokens": 9, "prompt": "x",
         "messages": [{"role": "user", "content": "x"}], "temperature": null, <request>}
        """
      Then the response status is 200
      And the response's header `x-rbee-sampling` is `<sampling>`

      Examples:
        | path                 | request                       | sampling                                                                               |
        | /v1/chat/completions | "top_p": 0.5                  | temperature=0.3, top_p=0.5                                                             |
        | /v1/messages         | "top_k": 3                    | temperature=0.3, top_k=3                                                               |
        | /api/chat            | "options": {"top_p": 0.5}     | temperature=0.3, top_p=0.5, top_k=40, repetition_penalty=1.1, penalty_window=64        |
        | /api/chat            | "options": {"temperature": 0} | temperature=0, top_p=0.9, top_k=40, repetition_penalty=1.1, penalty_window=64          |

    @real
    Scenario: Ollama's chat drops the oldest turns that exceed the context
      Given a running queen
      When I POST to `/api/chat` of the queen
        """
        {"model": "mock:context=128,length=5", "stream": false,
         "messages": [{"role": "user", "content": "this turn is far longer than this turn is far longer than this turn is far longer than this turn is far longer than this turn is far longer than this turn is far longer than "},
          {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}
        """
      Then the response status is 200
      And the response's header `x-rbee-notes` is `the oldest 2 of 3 messages were dropped because the conversation exceeds the context of 128 tokens`
      When I POST to `/api/chat` of the queen
        """
        {"model": "mock:context=128,length=5", "stream": false, "truncate": false,
         "messages": [{"role": "user", "content": "this turn is far longer than this turn is far longer than this turn is far longer than this turn is far longer than this turn is far longer than this turn is far longer than "},
          {"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}
        """
      Then the response status is 400

    @real
    Scenario: Ollama's generate continues from the context of an earlier response
      Given a running queen
      When I POST to `/api/generate` of the queen
        """
        {"model": "mock:length=5", "stream": false, "prompt": "b", "context": [65, 66]}
        """
      Then the response status is 200
      And the response's `/context/0` is `65`
      And the response's `/context/1` is `66`

    @real
    Scenario: The queen counts the tokens of a prompt
      Given a running queen
      When I POST to `/v1/tokenize` of the queen
        """
        {"model": "builtin:haiku", "input": {"messages": [{"role": "user",
         "content": "Write a haiku about GPU computing that includes the word \"forty-two\" (nonce: 7Kq9xZ2b)"}]}}
        """
      Then the response status is 200
      And the response's `/count` is `38`

    @real
    Scenario: A text that exceeds the context has no embedding
      Given a running queen
      When I POST to `/v1/embeddings` of the queen
        """
        {"model": "mock:context=16", "input": ["short", "a text of more than sixteen bytes"]}
        """
      Then the response status is 400
      And the response's error code is CONTEXT_LENGTH_EXCEEDED
      And the queen still serves valid requests

    @real
    Scenario Outline: Errors have the format of the API at <path>
      Given a running queen
      When I POST to `<path>` of the queen
        """
        {"model": "nothing", "max_tokens": 9, "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
        """
      Then the response status is 404
      And the response's `<field>` is `<value>`

      Examples:
        | path          | field       | value           |
        | /api/chat     | /code       | MODEL_NOT_FOUND |
        | /api/generate | /code       | MODEL_NOT_FOUND |
        | /v1/messages  | /error/type | not_found_error |

  Rule: Batching and the haiku acceptance test

    @real
    Scenario: Concurrent requests produce the reference outputs
      Given a running queen
      When I send every reference prompt to `builtin:haiku` at the same time
      Then every output equals the reference

    @real @slow
    Scenario: The haiku acceptance test passes on the embedded model
      When the haiku acceptance test runs on `builtin:haiku`
      Then it passes

    @real
    Scenario: The haiku acceptance test fails on the mock engine
      When the haiku acceptance test runs on `mock:length=30`
      Then it fails only because of the text
