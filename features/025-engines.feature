Feature: Another engine serves behind the worker contract
  The real adapter with servers that speak the protocols of llama.cpp, vLLM, Ollama and OpenAI. With
  the tag `@llama_cpp`, the server is llama.cpp's own (`cargo xtask outside engines`).

  # Outputs

  Scenario Outline: An output is streamed with its usage, <engine>
    Given a worker with the engine <engine>
    When I ask `say good day`
    Then the output is `good day`
    And the output ends with the reason stop
    And the usage has <prompt> prompt tokens and 9 generated ones
    When I ask `say good day` in at most 4 tokens
    Then the output is `good`
    And the output ends with the reason length
    When I continue the text `say good day`
    Then the output is `good day`
    And the metrics of the worker contain `rbee_worker_requests_total{outcome="completed"} 3`

    Examples:
      | engine    | prompt |
      | llama-cpp | 16     |
      | vllm      | 9      |
      | ollama    | 9      |
      | openai    | 9      |

  Scenario Outline: Reasoning, tool calls and stop sequences, <engine>
    Given a worker with the engine <engine>
    When I ask with the tool f `think yes`
    Then the reasoning is `hm`
    And the output is `yes`
    When I ask with the tool f `call`
    Then the output is a call of f with `{"a": 1}`
    And the output ends with the reason tool_calls
    When I ask `say one END two` with the stop sequences `#` and `END`
    Then the output is `one `
    And the output was ended by the stop sequence 1

    Examples:
      | engine    |
      | llama-cpp |
      | vllm      |
      | ollama    |
      | openai    |

  Scenario Outline: A tool that must be called is named as the engine understands it, <engine>
    Given a worker with the engine <engine>
    When I ask with the tools f and g, of which f must be called, `call`
    Then the output is a call of f with `{"a": 1}`
    And the engine received `tool_choice` = `<choice>`
    And the engine received the tools <tools>

    Examples:
      | engine    | tools | choice                                        |
      | llama-cpp | f     | "required"                                    |
      | vllm      | f, g  | {"type": "function", "function": {"name": "f"}} |
      | openai    | f, g  | {"type": "function", "function": {"name": "f"}} |

  Scenario Outline: Texts are embedded, <engine>
    Given a worker with the engine <engine>
    When I embed `a red apple` and `steel`
    Then there are 2 different vectors of length 1

    Examples:
      | engine    |
      | llama-cpp |
      | vllm      |
      | ollama    |
      | openai    |

  Scenario: Every token has its id, also those within a character
    Given a worker with the engine llama-cpp
    When I ask `say é€😀`
    Then the output is `é€😀`
    And the ids of the tokens are 195 169 226 130 172 240 159 152 128 260

  Scenario: A text that spells a control token reaches the model as text
    Given a worker with the engine llama-cpp
    When I ask `say a<|user|>crash`
    Then the output is `a<|user|>crash`

  Scenario: Tokens are counted in advance, and the oldest turns are dropped where they do not fit
    Given a worker with the engine llama-cpp
    When I tokenize `é`
    Then there are 3 tokens, and they are the text `é` again
    When I ask `say a` in at most 600 tokens
    Then the request is refused with CONTEXT_LENGTH_EXCEEDED and `the context length is 512`
    When I ask `say b` after a turn of 600 characters, which may be dropped
    Then the output is `b`
    And a note says `the oldest 2 of 3 messages were dropped`

  Scenario Outline: A prompt that fits is sent as text, without a call that converts it, <tokens>
    Given a worker with the engine llama-cpp
    When I ask `say good day` in at most <tokens> tokens
    Then the output is `good day`
    And the output started with 16 prompt tokens
    And the usage has 16 prompt tokens and 9 generated ones
    And the engine <converted> the prompt for the worker first

    Examples:
      | tokens | converted       |
      | 64     | did not convert |
      | 496    | converted       |

  # Continuation

  Scenario: An output is continued from its tokens by llama.cpp
    Given a worker with the engine llama-cpp
    When I ask `say good day`
    And I repeat the request, continuing after 4 of its tokens
    Then the output is ` day`
    And the first token has the number 4
    And the engine received its prompt and 4 tokens more than before

  Scenario Outline: An output whose state matters is generated once more, and compared, <engine>
    Given a worker with the engine <engine>
    When I sample `say good day`
    And I repeat the request, continuing after 4 of its tokens
    Then the output is ` day`
    And the first token has the number 4
    When I repeat the request, continuing after other tokens
    Then the stream ends with WORKER_CRASHED and `cannot be continued`

    Examples:
      | engine    |
      | llama-cpp |
      | vllm      |

  Scenario: An answer that was complete is not continued
    Given a worker with the engine llama-cpp
    When I ask `say good`
    And I repeat the request, continuing after 5 of its tokens
    Then the output is ``
    And the output ends with the reason stop

  # Cancelling

  Scenario Outline: A cancel reaches the engine, <engine>
    Given a worker with the engine <engine>
    When I ask `slow`, and cancel after 2 tokens
    Then the stream ends with CANCELLED
    And the engine notices that its client left
    And all slots are free
    When I ask `slow`, and leave after 2 tokens
    Then the engine notices that its client left again
    And all slots are free

    Examples:
      | engine    |
      | llama-cpp |
      | vllm      |
      | ollama    |
      | openai    |

  # Losing the engine

  Scenario Outline: An engine that crashes is an error, and is started again, <engine>
    Given a worker with the engine <engine>
    When I ask `crash`
    Then the stream ends with WORKER_CRASHED and `signal 6`
    And the worker becomes ready
    When I ask `say again`
    Then the output is `again`
    And the engine was started 2 times

    Examples:
      | engine    |
      | llama-cpp |
      | vllm      |
      | ollama    |
      | openai    |

  Scenario: A worker whose engine has just crashed refuses requests until it runs again
    Given a worker with the engine llama-cpp that loads for 700 ms
    When I ask `crash`
    Then the stream ends with WORKER_CRASHED and `signal 6`
    When I ask `say again`
    Then the request is refused with NOT_READY and `the engine is starting again`
    And the worker becomes ready

  Scenario Outline: A worker whose engine loads is not ready, and waits for it, <engine>
    Given a worker with the engine <engine> that loads for 700 ms
    Then the worker was starting before it was ready
    When I ask `say hi`
    Then the output is `hi`

    Examples:
      | engine    |
      | llama-cpp |
      | vllm      |

  Scenario: An engine that cannot start is explained by its last lines
    When I start a worker with the command `sh -c "echo 'no such model' >&2; exit 3"`
    Then worker exits
    And the worker failed with WORKER_CRASHED and `exit code 3; its last lines: no such model`

  Scenario: A program that does not exist is named
    When I start a worker with the command `/no/such/engine --port {port}`
    Then worker exits
    And the worker failed with WORKER_CRASHED and `/no/such/engine`

  Scenario: An unknown placeholder is refused before anything starts
    When I start a worker with the command `engine {prot}`
    Then worker exits
    And the worker failed with CONFIG_INVALID and `{prot}`

  Scenario Outline: Nothing is left of an engine when its adapter gets <signal>
    Given a worker with the engine llama-cpp and a helper in another session
    When worker gets <signal>
    Then no process is left

    Examples:
      | signal  |
      | SIGTERM |
      | SIGKILL |

  # Errors of the engine

  Scenario Outline: The errors of the engine have stable codes, <engine>
    Given a worker with the engine <engine>
    When I ask `refuse`
    Then the request is refused with INVALID_REQUEST and `refused by the engine`
    When I ask `busy`
    Then the request is refused with ALL_SLOTS_BUSY and `the engine is busy`
    When I ask `long`
    Then the request is refused with CONTEXT_LENGTH_EXCEEDED and `context`
    When I ask `fail`
    Then the stream ends with WORKER_CRASHED and `decode failed`
    And all slots are free

    Examples:
      | engine    |
      | llama-cpp |
      | vllm      |
      | ollama    |
      | openai    |

  # What an engine lacks

  Scenario Outline: What an engine lacks is refused by name: <engine>, <field>
    Given a worker with the engine <engine>
    When I ask with `<field>` = `<value>`
    Then the request is refused with UNSUPPORTED_PARAMETER and `<engine>`

    Examples:
      | engine    | field            | value                  |
      | llama-cpp | constraint       | {"grammar": "start: A"} |
      | ollama    | constraint       | {"regex": "[0-9]"}     |
      | ollama    | continue_from    | [104]                  |
      | ollama    | preceding_tokens | [104]                  |
      | ollama    | sampling         | {"logit_bias": [[1, 2]]} |
      | openai    | constraint       | {"regex": "[0-9]"}     |
      | openai    | continue_from    | [104]                  |
      | openai    | input            | {"tokens": [104]}      |
      | openai    | sampling         | {"top_k": 5}           |
      | openai    | report_prompt    | true                   |

  Scenario Outline: Constraints are passed on as the engine names them, <engine>
    Given a worker with the engine <engine>
    When I ask with `constraint` = `{"json_schema": {"type": "object"}}`
    Then the engine received `<field>` = `<value>`

    Examples:
      | engine    | field           | value                                                                                                       |
      | llama-cpp | json_schema     | {"type": "object"}                                                                                          |
      | ollama    | format          | {"type": "object"}                                                                                          |
      | vllm      | response_format | {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": false}} |
      | openai    | response_format | {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": false}} |

  # Engines of other owners

  Scenario: A worker attaches to an engine, and waits for it when it is gone
    Given an engine openai with the key `sk-secret`
    And a worker attached to it, with the key in a file
    When I ask `say hi`
    Then the output is `hi`
    When engine gets SIGKILL
    Then the worker becomes starting
    When the engine is started again
    Then the worker becomes ready
    When I ask `say hi`
    Then the output is `hi`
    And `sk-secret` is in no argument and no log of the worker

  Scenario: A worker whose engine was just lost refuses requests, before the loss is certain
    Given an engine openai with the key `sk-secret`
    And a worker attached to it, with the key in a file
    When I ask `crash`
    Then the stream ends with WORKER_CRASHED and `the engine at`
    When I ask `say again`
    Then the request is refused with NOT_READY and `the engine is starting again`
    When the engine is started again
    Then the worker becomes ready
    When I ask `say again`
    Then the output is `again`

  Scenario: A wrong key is not the client's fault
    Given an engine openai with the key `sk-secret`
    When I attach a worker to it without the key
    Then worker exits
    And the worker failed with WORKER_CRASHED and `refused the API key`

  Scenario: The engine's metrics are those of the worker
    Given a worker with the engine llama-cpp
    Then the metrics of the worker contain `llamacpp:tokens_predicted_total 7`
    And the metrics of the worker contain `rbee_worker_slots 2`

  # The real llama.cpp

  @llama_cpp
  Scenario Outline: llama.cpp's own server serves <model>
    Given a worker with llama.cpp's server and the model <model>
    When I ask `Count from one to five.`
    And I repeat the request, continuing after 4 of its tokens
    Then both outputs are the same from token 4 on
    When I sample `Write a line about rain.`
    And I repeat the request, continuing after 4 of its tokens
    Then both outputs are the same from token 4 on
    When I ask with `constraint` = `{"regex": "[0-9]{3}"}`
    Then the output has the form of 3 digits
    When I ask for a long output, and leave after 2 tokens
    Then all slots of llama.cpp are free within 2 s
    When llama.cpp's server is killed during an output
    Then the stream ends with WORKER_CRASHED and `signal 9`
    And the worker becomes ready
    And the metrics of the worker contain `llamacpp:tokens_predicted_total`

    Examples:
      | model    |
      | embedded |
      | SmolLM2  |

  @llama_cpp
  Scenario: llama.cpp's own server limits reasoning, and constrains the answer after it
    Given a worker with llama.cpp's server, the model SmolLM2 and the template Qwen-QwQ-32B
    When I ask with `reasoning` = `{"max_tokens": 8}`
    Then the reasoning has ended after at most 12 tokens
    When I ask for JSON with at most 8 tokens of reasoning
    Then the reasoning has ended after at most 12 tokens
    And the output is JSON with a number
    When I ask with `constraint` = `{"regex": "[0-9]{3}"}`
    Then the request is refused with UNSUPPORTED_PARAMETER and `regular expressions for an answer after reasoning`

  @llama_cpp
  Scenario: llama.cpp's own server calls tools, and reports log probabilities
    Given a worker with llama.cpp's server, the model SmolLM2 and the template NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use
    When I ask for a call like those before, which may be made
    Then the output is a call of get_time with `{"zone": "local"}`
    And the output ends with the reason tool_calls
    When I ask for a call like those before, which must be made
    Then the output is a call of get_time with `{"zone": "local"}`
    When I ask with `logprobs` = `3`
    Then every token has 3 alternatives, the likeliest first
