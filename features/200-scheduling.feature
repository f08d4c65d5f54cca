@real
Feature: Deployments keep workers of models running
  The keeper, the queen and hives, with mock workers.

  Scenario: A deployed model has a worker before the first request, until it is undeployed
    Given a running queen
    When I run `rbee-keeper deploy mock:fast`
    Then the exit code is 0
    And stdout contains `mock:fast   1 of 1   ready  local CPU-0`
    And 1 `mock-worker-rbee` process runs
    When I run `rbee-keeper deployments`
    Then stdout contains `mock:fast   1 of 1   ready  local CPU-0`
    When I run `rbee-keeper why mock:fast`
    Then stdout contains `its deployment has fewer workers than it wants now: 1`
    When I run `rbee-keeper undeploy mock:fast`
    Then the exit code is 0
    And stdout contains `undeployed mock:fast`
    And 0 `mock-worker-rbee` processes run
    When I run `rbee-keeper undeploy mock:fast`
    Then the exit code is 1
    And stderr contains `mock:fast is not deployed`

  Scenario: A worker that is killed is replaced although no request needs it
    Given a running queen
    And I ran `rbee-keeper deploy mock:fast`
    And the worker is noted
    When every `mock-worker-rbee` process is killed
    Then a new worker serves `mock:fast`
    When I run `rbee-keeper why mock-0`
    Then stdout contains `its process has exited`

  Scenario: Whoever stops a worker of a deployment reads that another one is started
    Given a running queen
    And I ran `rbee-keeper deploy mock:fast`
    When I run `rbee-keeper worker stop mock-0`
    Then the exit code is 0
    And stderr contains `rbee-keeper undeploy mock:fast`
    When I run `rbee-keeper deploy mock:fast --min 0`
    And I run `rbee-keeper infer --model mock:fast hello`
    And I run `rbee-keeper worker stop mock-0`
    Then the exit code is 0
    And stderr does not contain `undeploy`

  Scenario: Each GPU of a machine has a worker of its own
    Given a running queen
    And the node attic with GPUs of 24 and 24 GiB, whose worker runs
    When I run `rbee-keeper deploy mock:fast --min 2 --node attic --backend cuda`
    Then the exit code is 0
    And stdout contains `2 of 2   ready  attic GPU-0, attic GPU-1`
    When I run `rbee-keeper deploy mock:fast --min 3 --node attic --backend cuda`
    Then the exit code is 1
    And stderr contains `a further worker of mock:fast: attic cuda: its device has a worker of the model; local cuda`

  # GPUs that are left to other programs: docs/gpus.md

  Scenario: A game takes a GPU, the request on it continues, and the GPU is used again afterwards
    Given a running queen
    And the node attic with GPUs of 24 and 24 GiB, whose worker runs
    And I ran `rbee-keeper deploy mock:tokens_per_second=12,length=300 --node attic`
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=12,length=300`
    Then a worker runs on GPU-0 of attic
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=12,length=300` as client
    And client has printed something to stdout
    And a game uses 9 GiB of GPU-0 of attic
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `device GPU-1`
    And GPU-0 of attic is left to others
    When I run `rbee-keeper status`
    Then stdout contains `node attic: GPU-0 is left to game.exe (pid 4000001, 9.0 GiB); it is used again 30 s after that ended`
    And stdout does not contain `compositor`
    When I run `rbee-keeper worker list`
    Then stderr contains `GPU-0 is left to game.exe (pid 4000001, 9.0 GiB)`
    When I run `rbee-keeper why mock-0`
    Then stdout contains `GPU-0 is left to game.exe (pid 4000001, 9.0 GiB)`
    When I run `rbee-keeper doctor --node attic`
    Then stdout contains `game.exe`
    When the game on GPU-0 of attic ends
    Then GPU-0 of attic is used

  Scenario: What requires a GPU that is left to a game is refused with the reason, and starts when it ended
    Given a running queen
    And the node attic with GPUs of 24 and 24 GiB, whose worker runs
    And I ran `rbee-keeper deploy mock:fast --node attic --backend cuda --min 2`
    When a game uses 9 GiB of GPU-0 of attic
    And a game uses 20 GiB of GPU-1 of attic
    Then GPU-0 of attic is left to others
    And GPU-1 of attic is left to others
    When I run `rbee-keeper infer hello --model mock:fast --backend cuda`
    Then the exit code is 1
    And stderr contains `node attic: GPU-0 is left to game.exe (pid 4000001, 9.0 GiB); it is used again 30 s after that ended`
    When I run `rbee-keeper deployments`
    Then stdout contains `0 of 2`
    And stdout contains `is left to game.exe`
    When the game on GPU-1 of attic ends
    Then a worker runs on GPU-1 of attic
    And GPU-0 of attic is left to others

  Scenario: The GPUs of a node are never left to others, if the user wants it so
    Given a running queen
    And the node attic with GPUs of 24 and 24 GiB, whose worker runs
    When a game uses 9 GiB of GPU-0 of attic
    And a game uses 9 GiB of GPU-1 of attic
    Then GPU-0 of attic is left to others
    And GPU-1 of attic is left to others
    When I run `rbee-keeper node yield attic --never`
    Then the exit code is 0
    And stdout contains `the GPUs of node attic are used in any case`
    When I run `rbee-keeper infer hello --model mock:fast --node attic --backend cuda --max-tokens 1`
    Then the exit code is 0
    When I run `rbee-keeper node resume attic`
    Then the exit code is 0
    And GPU-0 of attic is left to others

  Scenario: A user leaves the GPUs of a node to others, also after a restart of the queen, and takes them back
    Given a running queen
    And the node attic with GPUs of 24 and 24 GiB, whose worker runs
    And I ran `rbee-keeper deploy mock:fast --node attic`
    Then a worker runs on GPU-0 of attic
    When I run `rbee-keeper node yield attic`
    Then the exit code is 0
    And stdout contains `until `rbee-keeper node resume attic``
    And a worker runs on CPU-0 of attic
    And GPU-1 of attic is left to others
    When I run `rbee-keeper node resume attic`
    Then a worker runs on GPU-0 of attic
    When I run `rbee-keeper node yield attic --for 2h`
    Then a worker runs on CPU-0 of attic
    When the queen is killed
    And I run `rbee-keeper deploy mock:fast --node attic`
    Then the exit code is 0
    And GPU-0 of attic is left to others
    When I run `rbee-keeper node show attic`
    Then stdout contains `as you asked`
    When I run `rbee-keeper node yield attic --for 2`
    Then the exit code is 2
    And stderr contains `not a time`

  Scenario: A node without GPUs has none to leave to others
    Given a running queen
    When I run `rbee-keeper node yield local`
    Then the exit code is 0
    And stdout contains `it has no GPU at present, so nothing changes until it has one`

  Scenario: A deployment moves to another machine when its machine is switched off
    Given a running queen
    And the node attic with 4096 GiB of free memory
    And I ran `rbee-keeper deploy mock:fast`
    And the worker is noted
    Then 1 worker is running on attic
    When the machine attic is switched off
    Then a new worker serves `mock:fast`
    When I run `rbee-keeper deployments`
    Then stdout contains `1 of 1   ready  local CPU-0`

  Scenario: A deployment survives its queen, and its worker is not started twice
    Given a running queen
    And I ran `rbee-keeper deploy mock:fast`
    And the worker is noted
    When the queen is killed
    And I run `rbee-keeper deploy mock:fast`
    Then the exit code is 0
    And the same worker serves `mock:fast`
    And 1 `mock-worker-rbee` process runs

  Scenario: Requests that wait start further workers
    Given a running queen
    And the node attic with 4096 GiB of free memory
    And I ran `rbee-keeper deploy mock:tokens_per_second=10 --max 2 --slots 1`
    When I start `rbee-keeper infer "count" --model mock:tokens_per_second=10 --max-tokens 120` as first
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=10 --max-tokens 120` as second
    Then 2 `mock-worker-rbee` processes run
    When I run `rbee-keeper deployments`
    Then stdout contains `attic CPU-0, local CPU-0`
    When first gets SIGINT
    And second gets SIGINT
    Then first exits
    And second exits

  Scenario: A changed deployment replaces its workers and loses no request
    Given a running queen
    And I ran `rbee-keeper deploy mock:tokens_per_second=30,length=60 --slots 2`
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60`
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And I run `rbee-keeper deploy mock:tokens_per_second=30,length=60 --slots 3`
    Then the exit code is 0
    And client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And the worker has 3 slots

  Scenario: A file describes all deployments
    Given a running queen
    And I ran `rbee-keeper deploy mock:old`
    And the file `{dir}/models.toml` holds
      """
      [[deployment]]
      model = "mock:fast"
      slots = 3

      [[deployment]]
      model = "mock:rare"
      min_workers = 0
      """
    When I run `rbee-keeper deploy --file {dir}/models.toml --only`
    Then the exit code is 0
    And stdout contains `mock:fast   1 of 1       ready`
    And stdout contains `mock:rare   0 of 0 to 1  idle`
    And stdout does not contain `mock:old`
    And 1 `mock-worker-rbee` process runs
    And the worker has 3 slots

  Scenario Outline: A file that cannot be used changes nothing: <what>
    Given a running queen
    And I ran `rbee-keeper deploy mock:fast`
    And the file `{dir}/models.toml` holds
      """
      [[deployment]]
      model = "mock:other"

      [[deployment]]
      model = "mock:third"
      <line>
      """
    When I run `rbee-keeper deploy --file {dir}/models.toml --only`
    Then the exit code is 1
    And stderr contains `<error>`
    When I run `rbee-keeper deployments`
    Then stdout contains `mock:fast   1 of 1   ready`
    And stdout does not contain `mock:other`

    Examples:
      | what             | line                    | error                                |
      | a misspelt name  | min_worker = 2          | unknown field `min_worker`           |
      | an unknown node  | nodes = ["nowhere"]     | node nowhere does not exist          |
      | a wrong range    | max_workers = 0         | mock:third: 1 to 0 workers is not    |
      | a wrong reference| engine = "/bin/sh"      | engine                               |

  Scenario: What cannot be deployed says why, and is tried again
    Given a running queen
    When I run `rbee-keeper deploy mock:fail_load=true`
    Then the exit code is 1
    And stderr contains `mock:fail_load=true is deployed, but not all of its workers run (backoff)`
    And stderr contains `rbee-keeper undeploy mock:fail_load=true`
    When I run `rbee-keeper undeploy mock:fail_load=true`
    Then the exit code is 0

  Scenario: A model can be deployed again while its workers finish
    Given a running queen
    And I ran `rbee-keeper deploy mock:tokens_per_second=20,slots=1`
    When I start `rbee-keeper infer "count" --model mock:tokens_per_second=20,slots=1 --max-tokens 60` as client
    And client has printed something to stdout
    And I start `rbee-keeper undeploy mock:tokens_per_second=20,slots=1` as end
    And I run `rbee-keeper deploy mock:tokens_per_second=20,slots=1`
    Then the exit code is 0
    And client exits
    And the exit code is 0
    And end exits
    And the exit code is 0
    When I run `rbee-keeper deploy mock:tokens_per_second=20,slots=1`
    Then stdout contains `1 of 1   ready`
    And 1 `mock-worker-rbee` process runs

  Scenario: A deployment that is removed while it starts leaves no worker
    Given a running queen
    When I run `rbee-keeper deploy mock:load_ms=3000 --no-wait`
    Then the exit code is 0
    And 1 `mock-worker-rbee` process runs
    When I run `rbee-keeper undeploy mock:load_ms=3000`
    Then the exit code is 0
    And 0 `mock-worker-rbee` processes run

  Scenario: A deployment moves to the machine that it names
    Given a running queen
    And the node attic with 4096 GiB of free memory
    And I ran `rbee-keeper deploy mock:fast --keep-alive 1`
    Then 1 worker is running on attic
    When I run `rbee-keeper deploy mock:fast --node local --keep-alive 1`
    Then the exit code is 0
    And stdout contains `1 of 1   ready`
    And 0 workers are running on attic
    And 1 `mock-worker-rbee` process runs

  Scenario: An error that was corrected is forgotten
    Given local has an engine of llama.cpp that exits
    And a copy of the embedded model as `model.gguf`
    And a running queen
    When I run `rbee-keeper deploy {dir}/model.gguf --engine llama-cpp`
    Then the exit code is 1
    And stderr contains `exited`
    When I run `rbee-keeper deploy {dir}/model.gguf`
    Then the exit code is 0
    And stdout contains `1 of 1   ready`

  Scenario Outline: What no machine can run is refused at once, and what serves keeps serving: <what>
    Given a running queen
    And I ran `rbee-keeper deploy builtin:haiku`
    And the worker is noted
    When I run `rbee-keeper deploy <model> <options>`
    Then the exit code is 1
    And stderr contains `cannot be deployed so: node local: <error>`
    And stderr contains `<hint>`
    And the same worker serves `builtin:haiku`
    When I run `rbee-keeper deployments`
    Then stdout contains `1 of 1   ready`
    And stdout does not contain `file:`

    Examples:
      | what              | model                     | options            | error                            | hint                 |
      | no such engine    | builtin:haiku             | --engine nope      | no engine "nope"                 | use one of: builtin  |
      | too long context  | builtin:haiku             | --context 99999999 | 99999999 tokens are requested    | --context            |
      | no such file      | file:/does/not/exist.gguf | --min 1            | no model at /does/not/exist.gguf | or a directory with  |

  Scenario: The engine that a deployment named is not kept after it
    Given local has the engines of llama.cpp
    And a copy of the embedded model as `model.gguf`
    And a running queen
    And I ran `rbee-keeper deploy {dir}/model.gguf --engine llama-cpp`
    And I ran `rbee-keeper undeploy {dir}/model.gguf`
    When I run `rbee-keeper infer --raw --model {dir}/model.gguf --max-tokens 2 "say one two"`
    Then the exit code is 0
    When I run `rbee-keeper why model-0`
    Then stdout contains `uses the engine builtin on node local`

  Scenario Outline: Options that would remove or load too much are refused: <what>
    Given a running queen
    And I ran `rbee-keeper deploy mock:fast`
    When I run `rbee-keeper deploy mock:other <options>`
    Then the exit code is 1
    And stderr contains `<error>`
    When I run `rbee-keeper deployments`
    Then stdout contains `mock:fast   1 of 1   ready`
    And stdout does not contain `mock:other`

    Examples:
      | what            | options        | error                                            |
      | only            | --only         | removes all deployments that a file does not     |
      | too many slots  | --slots 999999 | a worker cannot run 999999 requests at a time    |

  Scenario: A policy decides where a model is loaded, and a dry run shows it beforehand
    Given a running queen
    And the node attic with 4096 GiB of free memory
    And the file `{dir}/new.rhai` holds
      """
      fn place(request, place) {
          if place.node == "attic" { return "attic is for others"; }
      }
      """
    When I run `rbee-keeper policy test {dir}/new.rhai --model mock:fast`
    Then the exit code is 0
    And stdout contains `a worker for mock:fast is started on node attic`
    And stdout contains `a worker for mock:fast is started on node local`
    And stdout contains `the policy refuses it: attic is for others`
    And 0 `mock-worker-rbee` processes run
    When I run `rbee-keeper policy show`
    Then stdout contains `no script: rbee decides by its own rules`
    When the policy holds
      """
      fn place(request, place) {
          if place.node == "attic" { return "attic is for others"; }
      }
      """
    And I run `rbee-keeper infer "Hi" --model mock:fast`
    Then the exit code is 0
    When I run `rbee-keeper why mock:fast`
    Then stdout contains `this place comes first by the policy`
    And stdout contains `the policy refuses it: attic is for others`
    When I run `rbee-keeper infer "Hi" --model mock:fast --node attic`
    Then the exit code is 1
    And stderr contains `the policy permits no place for a worker of mock:fast: attic cpu: the policy refuses it: attic is for others`

  Scenario Outline: A dry run for what does not exist is refused with what does: <what>
    Given a running queen
    When I run `rbee-keeper policy test <options>`
    Then the exit code is 1
    And stderr contains `<error>`
    And stderr contains `<hint>`

    Examples:
      | what  | options                        | error                       | hint              |
      | node  | --model mock:a --node nowhere  | node nowhere does not exist | use one of: local |
      | model | --model builtin:nothing        | "builtin:nothing"           | builtin:haiku     |

  Scenario: A new version that cannot be used leaves the one before in use
    Given a running queen
    And I ran `rbee-keeper deploy mock:fast`
    When the policy holds
      """
      fn route(request, worker) { 1 }
      """
    And the policy is changed to a script that cannot be used
      """
      fn route(request, worker) {
          wrker.slots
      }
      """
    And I run `rbee-keeper policy show`
    Then the exit code is 0
    And stdout contains `(route)`
    And stdout contains `problem   the file cannot be used: line 2, column 5: Undefined variable: wrker`
    When I run `rbee-keeper queen logs`
    Then stdout contains `the policy cannot be used, the one before stays in use`
    When I run `rbee-keeper policy test`
    Then the exit code is 1
    And stderr contains `what is in the file of the policy is not in use`

  Scenario: A policy that never ends delays no request, and the failure is shown
    Given a running queen
    And I ran `rbee-keeper deploy mock:fast`
    When the policy holds
      """
      fn route(request, worker) {
          loop { }
      }
      """
    And I run `rbee-keeper policy test`
    Then the exit code is 0
    When I run `rbee-keeper policy test --model mock:fast`
    Then the exit code is 1
    And stdout contains `failed for mock-0: a decision may take 50000 operations`
    When I run `rbee-keeper infer "Hi" --model mock:fast`
    Then the exit code is 0
    When I run `rbee-keeper policy show`
    Then stdout contains `failures  1`
    And stdout contains `a decision may take 50000 operations`

  Scenario Outline: A script that is no policy is refused with its place: <what>
    Given a running queen
    And the file `{dir}/new.rhai` holds
      """
      fn <name>(request, worker) {
          <body>
      }
      """
    When I run `rbee-keeper policy test {dir}/new.rhai`
    Then the exit code is 1
    And stderr contains `<error>`

    Examples:
      # The file begins with an empty line.
      | what             | name  | body                | error                              |
      | syntax           | route | if worker.gpu 1     | line 3, column                     |
      | another name     | rout  | 1                   | the script has neither             |
      | eval             | route | eval("1")           | line 3, column 5                   |
      | a module         | route | import "os" as os;  | line 3, column 5                   |
