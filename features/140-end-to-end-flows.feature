@real
Feature: End-to-end flows
  The four programs as a user runs them, over real processes and sockets.

  Scenario: Local cold start
    Given no queen runs
    When I run `rbee-keeper infer "Write a haiku about rain" --temperature 0`
    Then the exit code is 0
    And stdout is not empty
    And stderr contains `worker`
    And 1 `queen-rbee` process runs
    And 1 `rbee-hive` process runs
    And 1 `llm-cpu-worker-rbee` process runs
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And nothing is left running

  Scenario: Warm start uses what runs
    Given I ran `rbee-keeper infer hello --temperature 0`
    When I note the processes
    And I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And the same processes run

  Scenario: A worker killed before a request is replaced
    Given I ran `rbee-keeper infer hello --temperature 0`
    When every `llm-cpu-worker-rbee` process is killed
    And I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And stdout is not empty
    And 1 `llm-cpu-worker-rbee` process runs

  Scenario: A worker killed during a stream: the user sees an undisturbed answer
    Given I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60`
    When I note the output as undisturbed
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And every `mock-worker-rbee` process is killed
    Then client ends
    And the exit code is 0
    And the output equals the output noted as undisturbed

  Scenario: A killed hive changes nothing for those who are served
    Given I ran `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60`
    When I note the output as undisturbed
    And I note the workers of the hive
    And I start `rbee-keeper infer "count" --model mock:tokens_per_second=30,length=60` as client
    And client has printed something to stdout
    And the hive is killed
    Then client ends
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And a hive runs again with the same workers

  Scenario: A killed queen finds its workers again
    Given I ran `rbee-keeper infer hello --temperature 0`
    When I note the processes
    And the queen is killed
    And I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And 1 `llm-cpu-worker-rbee` process runs
    And the worker processes are those noted

  Scenario: Shutdown cascades and leaves nothing
    Given I ran `rbee-keeper infer hello --temperature 0`
    And I ran `rbee-keeper infer hello --model mock:length=5`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And nothing is left running
    And the home holds no record of a running daemon

  Scenario: Ten clients at once, nothing lost
    Given a running queen
    When 10 clients ask `builtin:haiku` every golden question greedily
    Then every answer is the golden text
    And no request is running or waiting at the queen

  @slow
  Scenario: 200 requests of 20 clients, 50 of them cancelled at random
    Given a running queen
    And a worker that serves `mock:slots=4,tokens_per_second=2000,length=40`
    When I note the memory of every process
    And 20 clients send 200 requests to `mock:slots=4,tokens_per_second=2000,length=40` and cancel 50 of them at random
    Then every request ended exactly once
    And no request is running or waiting at the queen
    And the worker's slots are all free
    And no process is new or gone
    And the memory of every process is where it was

  Scenario: The official shapes over HTTP
    Given a running queen
    When I GET `/v1/models` from the queen
    Then the answer is 200
    And the answer contains `builtin:haiku`
    When I GET `/health` from the queen
    Then the answer is 200
    When I GET `/metrics` from the queen
    Then the answer is 200
    When I GET `/v1/models` from the queen with the header `host: evil.example`
    Then the answer is 403
    And the answer's error code is ORIGIN_FORBIDDEN
    When I GET `/v1/models` from the queen with the header `origin: https://evil.example`
    Then the answer is 403
    When I GET `/v1/status` from the queen
    Then the answer is 401
    And the answer's error code is MISSING_API_KEY
    When I GET `/nothing` from the queen
    Then the answer is 404

  Scenario: A public address without a key is refused
    When I run `queen-rbee --bind 0.0.0.0 --no-local-hive`
    Then the exit code is 2
    And the error contains `0.0.0.0`
    And the error hints `--api-key-file`
