@real
Feature: End-to-end flows
  All binaries as a user runs them, with real processes and sockets.

  Scenario: Local cold start
    Given no queen is running
    When I run `rbee-keeper infer 'Write a haiku about GPU computing that includes the word "forty-two" (nonce: 7Kq9xZ2b)' --temperature 0`
    Then the exit code is 0
    And stdout is
      """
      forty-two warm cores
      the warm chip multiplies here
      the kernel hums here.
      """
    And stderr contains `keeper: started the queen at http://127.0.0.1:`
    And stderr contains `queen: starting worker haiku-0 for builtin:haiku on CPU-0 of local`
    And stderr contains `26 tokens`
    And 1 `queen-rbee` process runs
    And 1 `rbee-hive` process runs
    And 1 `llm-cpu-worker-rbee` process runs
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And nothing is left running

  Scenario: A warm start uses the running processes
    Given I ran `rbee-keeper infer hello --temperature 0`
    When I note the output as cold
    And I note the processes
    And I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And the output equals the output noted as cold
    And the same processes run

  Scenario: A worker that is killed between requests is replaced
    Given I ran `rbee-keeper infer hello --temperature 0`
    When I note the output as undisturbed
    And every `llm-cpu-worker-rbee` process is killed
    And I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And the output equals the output noted as undisturbed
    And 1 `llm-cpu-worker-rbee` process runs

  Scenario: A worker that is killed during a stream is replaced, and the output is complete
    Given I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60`
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And every `mock-worker-rbee` process is killed
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And no request is running or waiting at the queen
    When I GET `/metrics` from the queen
    Then the response has the lines
      """
      rbee_queen_requests_moved_total 1
      rbee_queen_requests_total{outcome="completed"} 2
      """

  @EH-013b
  Scenario: A worker that stalls is replaced, and the output is complete
    Given I ran `rbee-keeper infer "count" --model mock:length=12`
    When I note the output as undisturbed
    And I run `rbee-keeper queen stop`
    And I start `queen-rbee --worker-silence 1` as queen
    And queen has printed `the queen is ready`
    And I run `rbee-keeper infer "count" --model mock:stall_after=9,length=12`
    Then the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `worker mock-1 on node local stalled: no output for 1 s after 9 tokens`
    And 1 `mock-worker-rbee` process runs
    When I run `rbee-keeper infer "count" --model mock:stall_after=9,length=12`
    Then the exit code is 0
    And the output equals the output noted as undisturbed
    And no request is running or waiting at the queen

  @EH-013b
  Scenario: A request that stalls every worker fails and keeps its output, and no stalled worker stays
    Given I started `queen-rbee --worker-silence 1` as queen
    When queen has printed `the queen is ready`
    And I run `rbee-keeper infer "count" --model mock:stall_after=3,length=30`
    Then the exit code is 1
    And stdout is not empty
    And the error is `worker mock-0 on node local stalled: no output for 1 s after 9 tokens`
    And no request is running or waiting at the queen
    And 0 `mock-worker-rbee` processes run

  Scenario: A stopped worker is gone: its requests end, and only a later one starts a worker
    Given a running queen
    When I start `rbee-keeper infer "count" --model mock:slots=1,tokens_per_second=1` as running
    And running has printed something to stdout
    And I start `rbee-keeper infer "count" --model mock:slots=1,tokens_per_second=1` as waiting
    And waiting has printed `all workers are busy`
    And I run `rbee-keeper worker stop mock-0 --drain 0`
    Then the exit code is 0
    And 0 `mock-worker-rbee` processes run
    And running exits
    And the error is `worker mock-0 was stopped before the request was complete`
    And waiting exits
    And the error is `worker mock-0 was stopped before the request was complete`
    And no request is running or waiting at the queen
    And 0 `mock-worker-rbee` processes run
    When I run `rbee-keeper infer "count" --max-tokens 1 --model mock:slots=1,tokens_per_second=1`
    Then the exit code is 0

  Scenario: Requests continue while a killed hive is replaced
    Given I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60`
    When I note the output as undisturbed
    And I note the workers of the hive
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And the hive is killed
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And another hive runs with the same workers
    And no request is running or waiting at the queen
    When I GET `/metrics` from the queen
    Then the response has the lines
      """
      rbee_queen_requests_moved_total 0
      rbee_queen_requests_total{outcome="completed"} 2
      """

  Scenario: A new queen finds the workers of a killed queen
    Given I ran `rbee-keeper infer hello --temperature 0`
    When I note the output as before
    And I note the `llm-cpu-worker-rbee` processes
    And the queen is killed
    And I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And the output equals the output noted as before
    And the same `llm-cpu-worker-rbee` processes run

  Scenario: Shutdown cascades and leaves no process behind
    Given I ran `rbee-keeper infer hello --temperature 0`
    And I ran `rbee-keeper infer hello --model mock:length=5`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And nothing is left running
    And the home holds no record of a running daemon

  Scenario: Ten clients at the same time receive the reference outputs
    Given a running queen
    When 10 clients send every reference prompt to `builtin:haiku`
    Then every output equals the reference
    And no request is running or waiting at the queen

  @slow
  Scenario: 200 requests of 20 clients, 50 of them cancelled at random
    Given a running queen
    And a worker that serves `mock:slots=4,tokens_per_second=2000,length=40`
    When I note the processes
    And I note the memory of every process
    And 20 clients send 200 requests to `mock:slots=4,tokens_per_second=2000,length=40` and cancel 50 of them at random
    Then every request ended exactly once
    And no request is running or waiting at the queen
    And all slots of the worker are free
    And the same processes run
    And the memory of every process has grown by less than 48 MiB

  Scenario Outline: A stream at <path> has headers and first bytes while the model loads
    Given a running queen
    When I open a stream at `<path>` of the queen for `mock:load_ms=60000`
    Then its first bytes contain `<bytes>`
    When I close the stream
    Then no request is running or waiting at the queen

    Examples:
      | path                 | bytes       |
      | /v1/chat/completions | :           |
      | /v1/completions      | :           |
      | /v1/messages         | event: ping |

  Scenario: HTTP endpoints and access checks
    Given a running queen
    And a worker that serves `mock:length=5`
    When I GET `/v1/models` from the queen
    Then the response status is 200
    And the response contains `builtin:haiku`
    When I GET `/health` from the queen
    Then the response status is 200
    And the response's `/status` is `ok`
    And no request is running or waiting at the queen
    When I GET `/metrics` from the queen
    Then the response status is 200
    And the response has the lines
      """
      rbee_queen_requests_total{outcome="completed"} 1
      rbee_queen_requests_total{outcome="failed"} 0
      rbee_queen_requests_total{outcome="cancelled"} 0
      rbee_queen_requests_moved_total 0
      rbee_queen_tokens_total 1
      rbee_queen_time_to_first_token_seconds_count 1
      rbee_queen_time_to_worker_seconds_count 1
      rbee_queen_waiting_requests 0
      rbee_queen_running_requests 0
      rbee_queen_workers 1
      # EOF
      """
    When I GET `/v1/models` from the queen with the header `host: evil.example`
    Then the response status is 403
    And the response's error code is ORIGIN_FORBIDDEN
    And the response's hint contains `--api-key-file`
    When I GET `/v1/models` from the queen with the header `origin: https://evil.example`
    Then the response status is 403
    And the response's error code is ORIGIN_FORBIDDEN
    And the response's hint contains `--cors-origin https://evil.example`
    When I GET `/v1/v1/models` from the queen
    Then the response status is 404
    And the response's hint contains `as the base URL`
    When I GET `/v1/responses/resp_1` from the queen
    Then the response status is 404
    And the response's error message contains `responses are not stored`
    When I GET `/v1/status` from the queen
    Then the response status is 401
    And the response's error code is MISSING_API_KEY
    When I GET `/nothing` from the queen
    Then the response status is 404

  Scenario: A public address without a key is refused
    When I run `queen-rbee --bind 0.0.0.0 --no-local-hive`
    Then the exit code is 2
    And the error is `other machines can reach 0.0.0.0, and no API key is set`
    And the hint contains `--api-key-file`

  Scenario: A cold start on a named node of two
    Given a running queen
    And the node attic
    When I run `rbee-keeper infer hello --node attic --temperature 0`
    Then the exit code is 0
    And stderr contains `on CPU-0 of attic`
    And 1 worker is running on attic
    When I note the output as attic
    And I run `rbee-keeper infer hello --node local --temperature 0`
    Then stderr contains `on CPU-0 of local`
    And the output equals the output noted as attic
    When I run `rbee-keeper status`
    Then stdout contains `builtin:haiku  attic`
    And stdout contains `builtin:haiku  local`
    When I GET `/metrics` from the queen
    Then the response has the lines
      """
      rbee_queen_node_up{node="attic"} 1
      rbee_queen_node_up{node="local"} 1
      rbee_queen_node_workers{node="attic"} 1
      rbee_queen_node_workers{node="local"} 1
      """
    And the response contains `rbee_queen_device_memory_free_bytes{node="attic",device="CPU-0"} `
    When I run `rbee-keeper worker logs haiku-0`
    Then stdout contains `the queen accepted a heartbeat`
    When I run `rbee-keeper worker stop haiku-0`
    Then the exit code is 0
    And 0 workers are running on attic

  Scenario: Every decision can be explained
    Given a running queen
    And the node attic with 1 GiB of free memory
    When I run `rbee-keeper why`
    Then stdout contains `no decisions since the queen was started`
    Given I ran `rbee-keeper infer hello --node attic --max-tokens 1`
    When I run `rbee-keeper why builtin:haiku`
    Then the exit code is 0
    And stdout contains `a worker for builtin:haiku is started on node attic`
    And stdout contains `* attic cpu`
    And stdout contains `local cpu  the request names another node`
    And stdout contains `runs on worker haiku-0 on node attic`
    And stdout contains `it is the only worker that can run the request now`
    When I run `rbee-keeper --json why haiku-0`
    Then stdout contains `"kind": "route"`
    When I run `rbee-keeper why nothing-of-this-name`
    Then the exit code is 1
    And stderr contains `error: no decision about `nothing-of-this-name` is known`

  Scenario: A worker is placed where the files of its model are
    Given a running queen
    And the node attic with 1 GiB of free memory
    And a copy of the embedded model as `model.gguf`
    And I ran `rbee-keeper infer hello --node attic --model {dir}/model.gguf --max-tokens 1`
    And I ran `rbee-keeper worker stop model-0`
    When I run `rbee-keeper infer hello --model {dir}/model.gguf --max-tokens 1`
    Then the exit code is 0
    And stderr contains `on CPU-0 of attic`
    When I run `rbee-keeper infer hello --max-tokens 1`
    Then stderr contains `on CPU-0 of local`

  Scenario: An idle model makes room for a model that does not fit beside it
    Given a running queen
    And a copy of the embedded model as `model.gguf`
    And the node attic with 1 GiB of free memory
    And I ran `rbee-keeper infer hello --node attic --max-tokens 1`
    And attic has 1 MiB of free memory left
    When I start `rbee-keeper infer hello --model {dir}/model.gguf --node attic --max-tokens 1` as client
    Then 0 workers are running on attic
    When attic has 1024 MiB of free memory again
    Then client exits
    And the exit code is 0
    And 1 worker is running on attic
    When I run `rbee-keeper why haiku-0`
    Then stdout contains `another model needs its memory`

  Scenario: A machine that is switched off during a stream loses no request
    Given a running queen
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=90 --node local`
    When I note the output as undisturbed
    And I run `rbee-keeper worker stop mock-0`
    And the node attic with 4096 GiB of free memory is added
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=90` as client
    And client has printed something to stdout
    Then 1 worker is running on attic
    When the machine attic is switched off
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `node local`
    And no request is running or waiting at the queen
    And node attic is unreachable

  Scenario: A machine that freezes during a stream loses no request, although its connections stay open
    Given I started `queen-rbee --worker-silence 1` as queen
    And queen has printed `the queen is ready`
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60 --node local`
    When I note the output as undisturbed
    And I run `rbee-keeper worker stop mock-0`
    And the node attic with 4096 GiB of free memory is added
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    Then 1 worker is running on attic
    When the processes of attic are frozen
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `on node attic was lost after`
    And stderr contains `it sent nothing for`
    And no request is running or waiting at the queen
    And node attic is unreachable

  Scenario: A node that does not respond when the queen starts delays no other
    Given a running queen
    And the node attic with 4096 GiB of free memory
    When I run `rbee-keeper queen stop`
    And the hive of attic is frozen
    And I run `rbee-keeper queen start`
    And I run `rbee-keeper infer hello --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node local`
    When I run `rbee-keeper --json node show attic`
    Then stdout contains `"status": "unknown"`

  Scenario: A queen that stops stops the workers of all nodes, and only the hives that it started
    Given a running queen
    And the node attic
    And I ran `rbee-keeper infer hello --node attic --max-tokens 1`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped worker haiku-0 (builtin:haiku)`
    And stdout contains `stopped hive local`
    And stdout does not contain `stopped hive attic`
    And 0 workers are running on attic
    And 1 `rbee-hive` process runs
    When the machine attic is switched off
    Then nothing is left running

  Scenario: A cold and a warm start on a machine that is reached by SSH
    Given a running queen
    And the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node local --temperature 0`
    When I note the output as local
    And I run `rbee-keeper infer hello --node box --temperature 0`
    Then the exit code is 0
    And stderr contains `on CPU-0 of box`
    And the output equals the output noted as local
    And 2 programs of box are running
    When I run `rbee-keeper infer hello --node box --temperature 0`
    Then the exit code is 0
    And stderr does not contain `starting worker`
    And the output equals the output noted as local
    And 2 programs of box are running
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And nothing is left running
    And 0 programs of box are running

  Scenario: Two machines that are reached by SSH serve at the same time
    Given a running queen
    And the node attic, reached by SSH
    And the node shed, reached by SSH
    When I run `rbee-keeper infer hello --node attic --temperature 0`
    Then the exit code is 0
    And stderr contains `on CPU-0 of attic`
    When I note the output as attic
    And I run `rbee-keeper infer hello --node shed --temperature 0`
    Then the exit code is 0
    And stderr contains `on CPU-0 of shed`
    And the output equals the output noted as attic
    And 2 programs of attic are running
    And 2 programs of shed are running
    When the SSH connections to attic are cut and refused
    Then node attic is unreachable
    And node shed is reachable
    When I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And stderr contains `node shed`
    And the output equals the output noted as attic

  @EH-003a
  Scenario: A link that is lost during a stream loses no request
    Given a running queen
    And the node box, reached by SSH, with the mock engine
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60 --node box`
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And the SSH connections to box are cut and refused
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `connection to worker mock-0 on node box was lost after`
    And stderr contains `node local`
    And no request is running or waiting at the queen
    When the SSH server of box accepts connections again
    Then node box is reachable
    And 2 programs of box are running

  @EH-003a
  Scenario: A link that is lost during a stream ends a request for this node, and its output is kept
    Given a running queen
    And the node box, reached by SSH, with the mock engine
    And I ran `rbee-keeper infer "count" --max-tokens 1 --model mock:tokens_per_second=30 --node box`
    When I start `rbee-keeper infer "count" --model mock:tokens_per_second=30 --node box` as client
    And client has printed something to stdout
    And the SSH connections to box are cut and refused
    Then client exits
    And the exit code is 1
    And stdout is not empty
    And the error contains `connection to worker mock-0 on node box was lost after`
    And no request is running or waiting at the queen

  @EH-003a
  Scenario: A link that is lost before a request is named, and other nodes serve
    Given a running queen
    And the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node box --max-tokens 1`
    When the SSH connections to box are cut and refused
    And I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 1
    And the error contains `node box`
    When I run `rbee-keeper infer hello --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node local`
    And node box is unreachable
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 1
    And the error contains `node box is not connected`
    And no request is running or waiting at the queen

  Scenario: A machine that is rebooted serves again, and nothing ran on it in the meantime
    Given a running queen
    And the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node box --temperature 0`
    And the pid of the hive on box is noted
    When I note the output as before
    And the machine box loses power
    Then 0 programs of box are running
    And node box is unreachable
    When the SSH server of box accepts connections again
    Then node box is reachable
    And the hive on box has another pid
    When I run `rbee-keeper infer hello --node box --temperature 0`
    Then the exit code is 0
    And the output equals the output noted as before
    And 2 programs of box are running

  Scenario: A machine that loses power during a stream loses no request
    Given a running queen
    And the node box, reached by SSH, with the mock engine
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60 --node box`
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And the machine box loses power
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `node local`
    And no request is running or waiting at the queen

  Scenario: Requests continue while a killed hive of another machine is replaced
    Given a running queen
    And the node box, reached by SSH, with the mock engine
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60 --node box`
    And the pid of the hive on box is noted
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60 --node box` as client
    And client has printed something to stdout
    And the hive on box is killed
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And the hive on box has another pid
    And 2 programs of box are running
    When I GET `/metrics` from the queen
    Then the response has the lines
      """
      rbee_queen_requests_moved_total 0
      rbee_queen_requests_total{outcome="completed"} 2
      """

  Scenario: A machine that freezes during a stream loses no request
    Given I started `queen-rbee --link-silence 3` as queen
    And queen has printed `the queen is ready`
    And the node box, reached by SSH, with the mock engine
    And I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60 --node box`
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And the machine box freezes
    Then client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `node local`
    And no request is running or waiting at the queen
    And node box is unreachable
    When the machine box continues
    Then node box is reachable
    And 2 programs of box are running

  Scenario: A queen that is killed leaves no SSH connection behind
    Given a running queen
    And the node box, reached by SSH, with the mock engine
    And I ran `rbee-keeper infer "count" --max-tokens 1 --model mock:tokens_per_second=30 --node box`
    When I start `rbee-keeper infer "count" --model mock:tokens_per_second=30 --node box` as client
    And client has printed something to stdout
    And the queen is killed
    Then client exits
    And the exit code is 1
    And no SSH connection is left
    And 2 programs of box are running

  Scenario: A queen that is killed while it connects to a frozen machine leaves no SSH connection behind
    Given I started `queen-rbee --link-silence 3` as queen
    And queen has printed `the queen is ready`
    And the node box, reached by SSH
    When the machine box freezes
    Then node box is unreachable
    When the queen is killed
    Then no SSH connection is left

  Scenario: A hive is upgraded while a stream runs on its node
    Given a queen with a release of its own
    And I ran `rbee-keeper infer "count" --node local --model mock:length=400`
    When I note the output as undisturbed
    Given the node box, reached by SSH
    And box has the mock worker
    And the pid of the hive on box is noted
    When I start `rbee-keeper infer "count" --node box --model mock:tokens_per_second=8,length=400` as client
    And client has printed something to stdout
    And the release is replaced by another build
    And I run `rbee-keeper node upgrade box`
    Then the exit code is 0
    And the hive on box has another pid
    And box has 2 versions of the hive
    When I run `rbee-keeper infer "count" --node box --max-tokens 1 --model mock:tokens_per_second=8,length=400`
    Then the exit code is 0
    And client is still running
    And client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And 2 programs of box are running
    And no request is running or waiting at the queen
    When I GET `/metrics` from the queen
    Then the response has the lines
      """
      rbee_queen_requests_moved_total 0
      """
    When I run `rbee-keeper worker stop mock-1`
    Then the exit code is 0
    And 1 programs of box are running
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0

  Scenario Outline: An upgrade that fails during a stream leaves the stream and the version as they were, the new hive <what>
    Given a queen with a release of its own
    And I ran `rbee-keeper infer "count" --node local --model mock:length=400`
    When I note the output as undisturbed
    Given the node box, reached by SSH
    And box has the mock worker
    When I start `rbee-keeper infer "count" --node box --model mock:tokens_per_second=8,length=400` as client
    And client has printed something to stdout
    And the release is replaced by one whose hive <what>
    And I run `rbee-keeper node upgrade box`
    Then the exit code is 1
    And stderr contains `<error>`
    When I run `rbee-keeper infer "count" --node box --max-tokens 1 --model mock:tokens_per_second=8,length=400`
    Then the exit code is 0
    And client is still running
    And client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And 2 programs of box are running

    Examples:
      | what         | error                                                                      |
      | does not run | the programs of this release do not run on node box: Illegal instruction   |
      | exits        | runs again: the hive exited during startup; its log ends with: no such thing |

  Scenario: Without a backend, the GPU with the most free memory is used
    Given a running queen
    And the node attic with GPUs of 8 and 20 GiB, whose worker runs
    When I run `rbee-keeper infer count --model mock:length=5`
    Then the exit code is 0
    And stderr contains `on GPU-1 of attic`
    When I run `rbee-keeper infer count --model mock:length=6 --node attic --backend cpu`
    Then the exit code is 0
    And stderr contains `on CPU-0 of attic`
    When I run `rbee-keeper status`
    Then stdout contains `GPU-1 a GPU (20.0 GiB free)`
    When I GET `/metrics` from the queen
    Then the response has the lines
      """
      rbee_queen_node_workers{node="attic"} 2
      rbee_queen_device_memory_free_bytes{node="attic",device="GPU-1"} 21474836480
      """

  Scenario: A GPU without a worker is not used unless it is required
    Given a running queen
    And the node attic with GPUs of 8 and 20 GiB, without a worker
    When I run `rbee-keeper infer hello --node attic --max-tokens 1`
    Then the exit code is 0
    And stderr contains `on CPU-0 of attic`
    When I run `rbee-keeper infer hello --node attic --max-tokens 1 --backend cuda`
    Then the exit code is 1
    And stderr does not contain `on CPU-0`

  Scenario: A GPU that nobody required is replaced by the CPU if its worker fails
    Given a running queen
    And the node attic with GPUs of 8 and 20 GiB, whose worker fails
    When I run `rbee-keeper infer hello --node attic --max-tokens 1 --backend cuda`
    Then the exit code is 1
    And stderr contains `on GPU-1 of attic`
    And stderr does not contain `on CPU-0`
    And 0 workers are running on attic
    When I run `rbee-keeper infer hello --node attic --max-tokens 1`
    Then the exit code is 0
    And stderr contains `on CPU-0 of attic`
