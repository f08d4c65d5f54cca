@real
Feature: A model that is larger than one machine
  Its worker runs llama.cpp on the largest machine; RPC servers of llama.cpp on the others compute
  some of the layers for it. In scenarios without the tag `@llama_cpp`, both are simulated.

  Scenario: Several machines serve a model together, as one worker
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 0
    And stdout contains `1 of 1   ready  local CPU-0 + attic CPU-0`
    And the engine of the worker was started with `--n-gpu-layers 1 --tensor-split 1 --fit off`
    And a part runs on attic
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then the exit code is 0
    And stdout contains `one two`
    # The same machines in another order are the same deployment.
    When I note the `adapter-worker-rbee` processes
    And I run `rbee-keeper deploy {dir}/model.gguf --split local,attic --context 256`
    Then the exit code is 0
    And the same `adapter-worker-rbee` processes run
    When I run `rbee-keeper undeploy {dir}/model.gguf`
    Then the exit code is 0
    And 0 `adapter-worker-rbee` processes run
    And 0 `engine-sim` processes run

  Scenario: A file describes a split model
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And the file `{dir}/models.toml` describes `{dir}/model.gguf` with `split = ["attic", "local"]`
    When I run `rbee-keeper deploy --file {dir}/models.toml`
    Then the exit code is 0
    And stdout contains `ready  local CPU-0 + attic CPU-0`

  Scenario Outline: All parts or none: after the loss of <what>, all start again
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    And the worker is noted
    And the part on attic is noted
    When <loss>
    Then a new worker serves `file:{dir}/model.gguf`
    And a new part runs on attic
    And 2 `engine-sim` processes run
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then stdout contains `one two`

    Examples:
      | what       | loss                                            |
      | a part     | the part on attic is killed                     |
      | the worker | every `adapter-worker-rbee` process is killed   |

  Scenario: Whoever asks reads which part on which node ended, and why a node has no worker
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    When I run `rbee-keeper why file:{dir}/model.gguf`
    Then stdout contains `it computes a part of the model for the worker`
    And stdout does not contain `names other nodes`
    And stdout contains `uses the engine llama-cpp-rpc on node attic`
    When I run `rbee-keeper worker list`
    Then stdout contains `local  CPU-0 + attic CPU-0  ready`
    When I run `rbee-keeper worker show model-0`
    Then stdout contains `CPU-0 + attic CPU-0`
    Given the worker is noted
    And the part on attic is noted
    When the part on attic is killed
    Then a new worker serves `file:{dir}/model.gguf`
    And a new part runs on attic
    When I run `rbee-keeper why model-0`
    Then stdout contains `its part model-0-part1 on node attic has ended: signal 9; it is started again, with new parts`

  Scenario: A request whose part is lost says which one, and is tried on the next worker
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 512`
    When I start `rbee-keeper infer --raw --model {dir}/model.gguf slow` as client
    And client has printed something to stdout
    And the part on attic is killed
    Then client prints `worker model-0 on node local has failed: its part model-0-part1 on node attic has ended: signal 9`
    And client prints `trying another worker`
    When client gets SIGINT
    Then client exits

  Scenario: A node that has a part is removed with a warning, and requests say that it is missing
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    When I run `rbee-keeper node remove attic`
    Then the exit code is 1
    And stderr contains `the part model-0-part1 of worker model-0`
    And stderr contains `the deployment of file:{dir}/model.gguf`
    When I run `rbee-keeper node remove attic --force`
    Then the exit code is 0
    And 0 `engine-sim` processes run
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then the exit code is 1
    And stderr contains `names the node attic, which was removed`
    And stderr contains `rbee-keeper undeploy`

  Scenario: A model that is not split any more has no parts
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --split attic,local --engine llama-cpp --context 256`
    When I run `rbee-keeper deploy {dir}/model.gguf --node local --engine llama-cpp --context 256`
    Then 1 `engine-sim` process runs
    When I run `rbee-keeper undeploy {dir}/model.gguf`
    Then 0 `engine-sim` processes run

  Scenario: A killed queen changes nothing where no link is needed
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    And the worker is noted
    When the queen is killed
    And I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 0
    And the same worker serves `file:{dir}/model.gguf`
    And 2 `engine-sim` processes run

  Scenario: A part that does not start leaves nothing
    Given local has the engines of llama.cpp
    And attic has an engine for parts that exits
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 1
    And stderr contains `the part on node attic: worker model-0-part1 exited during startup`
    And 0 `adapter-worker-rbee` processes run

  Scenario: A worker that does not start leaves no part
    Given local has an engine of llama.cpp that exits
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 1
    And 0 `engine-sim` processes run

  Scenario: Too little memory is refused with the memory of each part
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And attic has 100 MiB of free memory left
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 1
    And stderr contains `the model needs`
    And stderr contains `100.0 MiB on CPU-0 of attic`
    And 0 `adapter-worker-rbee` processes run

  Scenario Outline: What cannot be split is refused, and nothing is deployed: <what>
    Given local has the engines of llama.cpp
    And attic has no engines
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    When I run `rbee-keeper deploy {dir}/model.gguf <options>`
    Then the exit code is 1
    And stderr contains `<error>`
    When I run `rbee-keeper deployments`
    Then stdout contains `no deployments`

    Examples:
      | what                | options                     | error                                                  |
      | one machine         | --split attic               | it names one machine only                              |
      | several workers     | --split attic,local --min 2 | more than one worker is wanted                         |
      | an unknown machine  | --split nowhere,local       | node nowhere does not exist                            |
      | no engine for parts | --split attic,local         | node attic has no engine that computes parts of models |

  Scenario Outline: A wrong engine is refused, and what serves keeps serving: <engine>
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --node local --context 256`
    And the worker is noted
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256 --engine <engine>`
    Then the exit code is 1
    And stderr contains `<error>`
    And stderr contains `llama-cpp`
    And the same worker serves `file:{dir}/model.gguf`

    Examples:
      | engine        | error                                                        |
      | nope          | node local: no engine "nope"                                 |
      | builtin       | the engine builtin of node local is not a server of llama.cpp|

  Scenario: Any server of llama.cpp runs the worker, whatever its name is
    Given local has a server of llama.cpp as engine my-server
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 0
    And stderr contains `its worker on local runs the engine my-server`
    And stdout contains `ready  local CPU-0 + attic CPU-0`

  Scenario: Without a server of llama.cpp, a model is not split
    Given attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 1 GiB of free memory
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 1
    And stderr contains `node local has no server of llama.cpp that computes on cpu`
    And stderr contains `it has: builtin`

  Scenario: A machine whose link does not lead to the others has no worker of a split model
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic with 4096 GiB of free memory
    When I run `rbee-keeper deploy {dir}/model.gguf --split attic,local`
    Then the exit code is 1
    And stderr contains `node attic has the most memory`

  Scenario: Machines that are reached by SSH reach each other through the queen
    Given a copy of the embedded model as `model.gguf`
    And a running queen
    And the node attic, reached by SSH
    And the node desk, reached by SSH
    And attic has the engines of llama.cpp
    And desk has the engines of llama.cpp
    When I run `rbee-keeper deploy {dir}/model.gguf --split desk,attic --context 256`
    Then the exit code is 0
    And stdout contains `ready  attic CPU-0 + desk CPU-0`
    And the engine of the worker is connected with a part
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 8 "say one two"`
    Then stdout contains `one two`
    # The ports are the queen's: another queen opens others, for new parts.
    Given the worker is noted
    When the queen is killed
    And I run `rbee-keeper deploy {dir}/model.gguf --split desk,attic --context 256`
    Then a new worker serves `file:{dir}/model.gguf`
    And the engine of the worker is connected with a part
    # Nothing that the machines have started is left on them.
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped worker model-0-part1`

  @llama_cpp
  Scenario: llama.cpp computes the same text alone and on several machines
    Given local has the engines of llama.cpp
    And attic has the engines of llama.cpp
    And a copy of SmolLM2 as `model.gguf`
    And a running queen
    And the node attic with 4 GiB of free memory
    And I ran `rbee-keeper deploy {dir}/model.gguf --engine llama-cpp --node local --context 256`
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --temperature 0 --max-tokens 24 "The three largest cities of France are"`
    Then the exit code is 0
    When I note the output as alone
    And I run `rbee-keeper deploy {dir}/model.gguf --split attic,local --context 256`
    Then the exit code is 0
    And stdout contains `ready  local CPU-0 + attic CPU-0`
    And the part on attic has computed something
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --temperature 0 --max-tokens 24 "The three largest cities of France are"`
    Then the exit code is 0
    And the output equals the output noted as alone
    Given the worker is noted
    And the part on attic is noted
    When the part on attic is killed
    Then a new worker serves `file:{dir}/model.gguf`
    And a new part runs on attic
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --temperature 0 --max-tokens 24 "The three largest cities of France are"`
    Then the exit code is 0
    And the output equals the output noted as alone
