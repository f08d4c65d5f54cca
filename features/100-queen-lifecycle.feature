Feature: The life of the queen
  The keeper finds the queen of its home, starts one when none runs, and stops it when asked
  to. A queen ends in order on SIGTERM, and a killed one is replaced without a loss that the
  next one cannot make good.

  @real
  Scenario: None runs, so the keeper starts one
    When I run `rbee-keeper queen start`
    Then the exit code is 0
    And stdout contains `started at http://127.0.0.1:`
    And 1 `queen-rbee` process runs
    When I run `rbee-keeper queen status`
    Then the exit code is 0
    And stdout contains `runs at http://127.0.0.1:`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped the queen`
    And nothing is left running
    And the file `{home}/run/queen.json` does not exist

  @real
  Scenario: One that runs is used
    Given a running queen
    And the queen's process is noted
    When I run `rbee-keeper queen start --json`
    Then the exit code is 0
    And stdout is 1 JSON document
    And stdout contains `"started": false`
    When I run `rbee-keeper infer --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And the queen's process is the noted one

  @real
  Scenario: Inference starts a queen and tells how to stop it
    When I run `rbee-keeper infer --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And stdout is not empty
    And stderr contains `keeper: started the queen at http://127.0.0.1:`
    And stderr contains `rbee-keeper queen stop`
    And 1 `queen-rbee` process runs
    When I run `rbee-keeper infer --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And stderr does not contain `started the queen`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And nothing is left running

  @real
  Scenario: Keepers that start at once share one queen
    When 5 keepers start a queen at once
    Then one of them started it and all name the same
    And 1 `queen-rbee` process runs

  @real
  Scenario: Ephemeral inference leaves nothing running
    When I run `rbee-keeper infer --ephemeral --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And stdout is not empty
    And stderr contains `keeper: stopped the queen`
    And nothing is left running
    And the file `{home}/run/queen.json` does not exist

  @real
  Scenario: Ephemeral inference that fails leaves nothing running
    When I run `rbee-keeper infer --ephemeral --model file:/nowhere/model.gguf hello`
    Then the exit code is 1
    And stdout is empty
    And stderr contains `error: `
    And nothing is left running

  @real
  Scenario: Ephemeral inference that is interrupted leaves nothing running
    When I start `rbee-keeper infer --ephemeral --model mock:tokens_per_second=20,length=2000 --max-tokens 2000 hello` as keeper
    And keeper has printed something to stdout
    And keeper gets SIGINT
    Then keeper ends within 10 s
    And the exit code is 130
    And nothing is left running

  @real
  Scenario: Ephemeral inference that is interrupted while the model loads leaves nothing running
    When I start `rbee-keeper infer --ephemeral --model mock:load_ms=20000 hello` as keeper
    And keeper has printed `is up and loading its model`
    And keeper gets SIGINT
    Then keeper ends within 10 s
    And the exit code is 130
    And stdout is empty
    And nothing is left running

  @real
  Scenario: Ephemeral inference does not stop what already ran
    Given a running queen
    And the queen's process is noted
    When I run `rbee-keeper infer --ephemeral --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And the queen's process is the noted one
    And stderr does not contain `stopped the queen`

  @real
  Scenario: An interrupt ends the request and not the queen
    Given a running queen
    When I start `rbee-keeper infer --model mock:tokens_per_second=20,length=2000 --max-tokens 2000 hello` as keeper
    And keeper has printed something to stdout
    And keeper gets SIGINT
    Then keeper ends within 2 s
    And the exit code is 130
    And no request is running or waiting at the queen
    And 1 `queen-rbee` process runs

  @real
  Scenario: Stopping the queen stops workers and hive first
    Given a running queen
    And a worker that serves `mock:fast`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout names worker, hive and queen in this order
    And nothing is left running

  @real
  Scenario: Stopping the queen alone leaves the workers, and the next queen finds them
    Given a running queen
    And a worker that serves `mock:fast`
    And the worker's process is noted
    When I run `rbee-keeper queen stop --keep-workers`
    Then the exit code is 0
    And 0 `queen-rbee` processes run
    And 1 `mock-worker-rbee` process runs
    When I run `rbee-keeper queen start --queen-port {queen_port}`
    Then the exit code is 0
    And the queen knows 1 ready worker
    And the worker's process is the noted one

  @real
  Scenario: Stopping when none runs is no failure
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `no queen is running`

  @real
  Scenario: Commands that need a queen tell how to start one
    When I run `rbee-keeper status`
    Then the exit code is 1
    And the error is `no queen is running`
    And the error hints `rbee-keeper queen start`

  @real
  Scenario: The record of a dead queen is nobody's
    Given a running queen
    When the queen is killed
    And I run `rbee-keeper queen status`
    Then the exit code is 1
    And the error is `no queen is running`
    When I run `rbee-keeper queen start`
    Then the exit code is 0
    And 1 `queen-rbee` process runs

  @real
  Scenario: A queen that hangs is stopped by signal
    Given a running queen
    When the queen's process is frozen
    And I run `rbee-keeper queen stop --keep-workers --drain 0`
    Then the exit code is 0
    And stdout contains `by SIGKILL`
    And 0 `queen-rbee` processes run

  @real
  Scenario: The queen's log can be read, and the last one is kept
    Given a running queen
    When I run `rbee-keeper queen logs`
    Then the exit code is 0
    And stdout is not empty
    When I run `rbee-keeper queen logs -n 1`
    Then stdout has 1 line
    When I run `rbee-keeper queen stop`
    And I run `rbee-keeper queen start`
    Then the file `{home}/logs/queen.log.1` exists

  @real
  Scenario: SIGTERM lets running requests finish
    Given a running queen
    And a worker that serves `mock:tokens_per_second=20`
    When I start `rbee-keeper infer --model mock:tokens_per_second=20 --max-tokens 30 hello` as keeper
    And keeper has printed something to stdout
    And the queen gets SIGTERM
    Then keeper ends
    And the exit code is 0
    And stderr contains `30 tokens`
    And the queen ends within 10 s
    And the file `{home}/run/queen.json` does not exist

  @real
  Scenario: After SIGKILL the next queen knows deployments and workers
    Given a running queen
    And a worker that serves `mock:fast`
    And the worker's process is noted
    When the queen is killed
    And I run `rbee-keeper queen start --queen-port {queen_port}`
    Then the exit code is 0
    And the queen knows 1 ready worker
    When I run `rbee-keeper infer --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And the worker's process is the noted one
    And 1 `mock-worker-rbee` process runs

  @real
  Scenario: A request that the killed queen served ends once, with an error
    Given a running queen
    When I start `rbee-keeper infer --json --model mock:tokens_per_second=20,length=2000 --max-tokens 2000 hello` as keeper
    And keeper has printed `"event":"token"`
    And the queen is killed
    Then keeper ends within 10 s
    And the exit code is 1
    And the last event is `error`, and the only one of its kind
    And the error is `the queen`

  @real
  Scenario: A port in use is told with the flag that helps
    Given a port that something else listens on
    When I run `rbee-keeper queen start --queen-port {port}`
    Then the exit code is 1
    And the error is `{port}`
    And the error hints `--queen-port`
    And nothing is left running

  @real
  Scenario: State of a newer version is refused and left as it is
    Given a running queen
    And I ran `rbee-keeper queen stop`
    And the queen's database is of a newer version
    When I run `rbee-keeper queen start`
    Then the exit code is 1
    And the error is `has schema 9999`
    And the error hints `newer rbee`
    And the queen's database is unchanged
    And nothing is left running

  @real
  Scenario: A queen of another interface is told with both versions
    Given a queen of interface version 99 is on record
    When I run `rbee-keeper status`
    Then the exit code is 1
    And the error is `speaks interface 99`
    And stderr contains `speaks interface 1`
    And stderr contains `hint: `

  @real
  Scenario: A missing program is told with its path
    When I run `rbee-keeper queen start --queen-binary {dir}/no-such-queen`
    Then the exit code is 1
    And the error is `{dir}/no-such-queen`
    And the error hints `--queen-binary`

  @real
  Scenario: What a killed queen left behind can be stopped
    Given a running queen
    And a worker that serves `mock:length=5`
    When the queen is killed
    And I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped worker mock-0 (mock:length=5)`
    And stdout contains `stopped hive local`
    And nothing is left running

  @real
  Scenario: Workers without queen and hive can be stopped
    Given a running queen
    And a worker that serves `mock:length=5`
    When the queen is killed
    And the hive is killed
    And I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped worker mock-0 (mock:length=5)`
    And nothing is left running

  @real
  Scenario: Workers that no hive can stop are told
    Given a running queen
    And a worker that serves `mock:length=5`
    And a port that something else listens on
    When the queen is killed
    And the hive is killed
    And I run `rbee-keeper queen stop --hive-port {port}`
    Then the exit code is 1
    And the error is `no hive could stop the workers mock-0`
    And the error hints `hive.log`
    And 1 `mock-worker-rbee` process runs
