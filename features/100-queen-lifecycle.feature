Feature: Lifecycle of the queen
  The keeper finds the queen of its home, starts one if none is running, and stops it on
  request. A queen shuts down cleanly on SIGTERM. After a kill, the next queen restores the
  state.

  @real
  Scenario: The keeper starts a queen if none is running
    When I run `rbee-keeper queen start`
    Then the exit code is 0
    And stdout contains `started at http://127.0.0.1:`
    And 1 `queen-rbee` process runs
    When I run `rbee-keeper queen status`
    Then the exit code is 0
    And stdout contains `is running at http://127.0.0.1:`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped the queen`
    And nothing is left running
    And the file `{home}/run/queen.json` does not exist

  @real
  Scenario: A running queen is used
    Given a running queen
    And I noted the process of the queen
    When I run `rbee-keeper queen start --json`
    Then the exit code is 0
    And stdout is 1 JSON document
    And stdout contains `"started": false`
    When I run `rbee-keeper infer --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And the process of the queen is the same

  @real
  Scenario: Inference starts a queen and says how to stop it
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
  Scenario: Keepers that start a queen at the same time share it
    When 5 keepers start a queen at the same time
    Then exactly one of them started it, and all report the same queen
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
    And the error contains `no model at /nowhere/model.gguf: `
    And nothing is left running

  @real
  Scenario: Ephemeral inference that is interrupted leaves nothing running
    When I start `rbee-keeper infer --ephemeral --model mock:tokens_per_second=20,length=2000 --max-tokens 2000 hello` as keeper
    And keeper has printed something to stdout
    And keeper gets SIGINT
    Then keeper exits within 10 s
    And the exit code is 130
    And nothing is left running

  @real
  Scenario: Ephemeral inference that is interrupted while the model loads leaves nothing running
    When I start `rbee-keeper infer --ephemeral --model mock:load_ms=20000 hello` as keeper
    And keeper has printed `is up and loading its model`
    And keeper gets SIGINT
    Then keeper exits within 10 s
    And the exit code is 130
    And stdout is empty
    And nothing is left running

  @real
  Scenario: Ephemeral inference does not stop a queen that was already running
    Given a running queen
    And I noted the process of the queen
    When I run `rbee-keeper infer --ephemeral --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And the process of the queen is the same
    And stderr does not contain `stopped the queen`

  @real
  Scenario: An interrupt cancels the request and does not stop the queen
    Given a running queen
    When I start `rbee-keeper infer --model mock:tokens_per_second=20,length=2000 --max-tokens 2000 hello` as keeper
    And keeper has printed something to stdout
    And keeper gets SIGINT
    Then keeper exits within 2 s
    And the exit code is 130
    And no request is running or waiting at the queen
    And 1 `queen-rbee` process runs

  @real
  Scenario: A stop of the queen stops workers and hive first
    Given a running queen
    And a worker that serves `mock:fast`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout names worker, hive and queen in this order
    And nothing is left running

  @real
  Scenario: A stop of the queen says what it waits for
    Given a running queen
    When I start the request r-1 for `mock:tokens_per_second=20,length=100000,context=1000000`
    And the request r-1 has streamed 1 token
    And I run `rbee-keeper queen stop --drain 1`
    Then the exit code is 0
    And stderr contains `waiting at most 1 s for 1 request to finish`
    And nothing is left running

  @real
  Scenario: Workers survive a stop of the queen alone, and the next queen finds them
    Given a port reserved for the queen
    And a running queen
    And a worker that serves `mock:fast`
    And I noted the process of the worker
    When I run `rbee-keeper queen stop --keep-workers`
    Then the exit code is 0
    And 0 `queen-rbee` processes run
    And 1 `mock-worker-rbee` process runs
    When I run `rbee-keeper queen start`
    Then the exit code is 0
    And the queen knows 1 ready worker
    And the process of the worker is the same

  @real
  Scenario: A stop succeeds if no queen is running
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `no queen is running`

  @real
  Scenario: Commands that need a queen say how to start one
    When I run `rbee-keeper status`
    Then the exit code is 1
    And the error is `no queen is running`
    And the hint contains `rbee-keeper queen start`

  @real
  Scenario: The record of a dead queen counts as none
    Given a running queen
    When the queen is killed
    And I run `rbee-keeper queen status`
    Then the exit code is 1
    And the error is `no queen is running`
    When I run `rbee-keeper queen start`
    Then the exit code is 0
    And 1 `queen-rbee` process runs

  @real
  Scenario: A queen whose record is damaged is still found and stopped
    Given a running queen
    When the file `{home}/run/queen.json` holds
      """
      {
      """
    And I run `rbee-keeper queen start`
    Then the exit code is 0
    And stdout contains `is already running`
    When the file `{home}/run/queen.json` holds
      """
      {
      """
    And I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped the queen`
    And nothing is left running

  @real
  Scenario: A frozen queen is stopped by SIGKILL
    Given a running queen
    When the queen's process is frozen
    And I run `rbee-keeper queen stop --keep-workers --drain 0`
    Then the exit code is 0
    And stdout contains `with SIGKILL`
    And 0 `queen-rbee` processes run

  @real
  Scenario: The queen's log, and the log of the previous run
    Given a running queen
    When I run `rbee-keeper queen logs`
    Then the exit code is 0
    And stdout is not empty
    When I run `rbee-keeper queen logs -n 1`
    Then the exit code is 0
    And stdout has 1 line
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    When I run `rbee-keeper queen start`
    Then the exit code is 0
    And the file `{home}/logs/queen.log.1` exists

  @real
  Scenario: SIGTERM lets running requests finish
    Given a running queen
    And a worker that serves `mock:tokens_per_second=20`
    When I start `rbee-keeper infer --model mock:tokens_per_second=20 --max-tokens 30 hello` as keeper
    And keeper has printed something to stdout
    And the queen gets SIGTERM
    Then keeper exits
    And the exit code is 0
    And stderr contains `30 tokens`
    And the queen exits within 10 s
    And the file `{home}/run/queen.json` does not exist

  @real
  Scenario: After a kill the next queen knows deployments and workers
    Given a port reserved for the queen
    And a running queen
    And a worker that serves `mock:fast`
    And I noted the process of the worker
    When the queen is killed
    And I run `rbee-keeper queen start`
    Then the exit code is 0
    And the queen knows 1 ready worker
    When I run `rbee-keeper infer --model mock:fast --max-tokens 3 hello`
    Then the exit code is 0
    And the process of the worker is the same
    And 1 `mock-worker-rbee` process runs

  @real
  Scenario: A request of a killed queen finishes once, with an error
    Given a running queen
    When I start `rbee-keeper infer --json --model mock:tokens_per_second=20,length=2000 --max-tokens 2000 hello` as keeper
    And keeper has printed `"event":"token"`
    And the queen is killed
    Then keeper exits within 10 s
    And the exit code is 1
    And the only terminal event is the last one, `error`
    And stdout contains `"code":"QUEEN_UNREACHABLE"`

  @real
  Scenario: The error for a taken port names the flag to change it
    Given a port that another process listens on
    When I run `rbee-keeper queen start --queen-port {port}`
    Then the exit code is 1
    And the error is `127.0.0.1:{port} is in use`
    And the hint contains `--queen-port`
    And nothing is left running

  @real
  Scenario: State of a newer release is rejected and left unchanged
    Given a running queen
    And I ran `rbee-keeper queen stop`
    And the queen's database has a newer schema
    When I run `rbee-keeper queen start`
    Then the exit code is 1
    And the error contains `{home}/queen.db has schema 9999, this rbee knows schemas up to `
    And the hint contains `newer rbee`
    And the queen's database is unchanged
    And nothing is left running

  @real
  Scenario: The error for another interface version contains both versions
    Given the record of a queen with interface version 99
    When I run `rbee-keeper status`
    Then the exit code is 1
    And the error contains `the running queen 9.9.9 speaks interface version 99, this rbee-keeper `
    And the error contains ` speaks interface version 1`
    And the hint contains `rbee-keeper queen stop`

  @real
  Scenario: The error for a missing binary contains its path
    When I run `rbee-keeper queen start --queen-binary {dir}/no-such-queen`
    Then the exit code is 1
    And the error contains `cannot run {dir}/no-such-queen: `
    And the hint contains `--queen-binary`

  @real
  Scenario: The hive and the workers of a killed queen can be stopped
    Given a running queen
    And a worker that serves `mock:length=5`
    When the queen is killed
    And I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped worker mock-0 (mock:length=5)`
    And stdout contains `stopped hive local`
    And nothing is left running

  @real
  Scenario: Workers without a queen and a hive can be stopped
    Given a running queen
    And a worker that serves `mock:length=5`
    When the queen is killed
    And the hive is killed
    And I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped worker mock-0 (mock:length=5)`
    And nothing is left running

  @real
  Scenario: Workers that no hive can stop are reported
    Given a running queen
    And a worker that serves `mock:length=5`
    And a port that another process listens on
    When the queen is killed
    And the hive is killed
    And I run `rbee-keeper queen stop --hive-port {port}`
    Then the exit code is 1
    And the error is `no hive could stop the workers mock-0`
    And the hint contains `hive.log`
    And 1 `mock-worker-rbee` process runs
