@real
Feature: The life of a worker process
  Spawn, load, serve, drain, stop: on real processes, with the mock engine in the worker.

  # Spawn

  Scenario: Spawned and ready
    Given a hive
    When I spawn `mock:load_ms=300` as w-1
    Then the answer is 200
    And the answer's `/worker_id` is `w-1`
    And the answer's `/generation` is `1`
    And w-1 is ready
    And w-1 runs in a process group of its own
    And the command line of w-1 holds no secret

  Scenario: A spawn that does not wait returns when the process is up
    Given a hive
    When I spawn `mock:load_ms=2000` as w-1 without waiting
    Then the answer is 200
    And w-1 is loading
    And w-1 becomes ready

  Scenario: A spawn as a stream of events
    Given a hive
    When I spawn `mock:load_ms=500` as w-1 as a stream
    Then the events are narration and progress, then one result
    And the progress counts up to its total
    And the last event's `/worker_id` is `w-1`

  Scenario: A spawn in the background, its events replayed
    Given a hive
    When I spawn `mock:load_ms=500` as w-1 in the background
    Then the answer is 202
    And the job's events end with `result`
    And the job's events are the same when read again
    And the job is succeeded

  Scenario: A job that is not known
    Given a hive
    When I GET `/v1/jobs/job-9` from the hive
    Then the answer is 404
    And the answer's error code is JOB_NOT_FOUND

  @EH-012b
  Scenario: A taken port: the next one is used and that is narrated
    Given a port that another program listens on
    And a hive with `--worker-ports {port}-{next_port}`
    When I spawn `mock:length=5` as w-1 as a stream
    Then the last event's `/port` is `{next_port}`
    And an event of the job tells `port {port} in use`

  @EH-012b
  Scenario: A port that is lost between choosing and binding
    Given a worker program that loses its first port
    And a hive with `--worker-dir {dir}/workers --worker-ports 0`
    When I spawn `mock:length=5` as w-1 as a stream
    Then the events are narration and progress, then one result
    And an event of the job tells `was taken before worker w-1 bound it`
    And w-1 is ready

  Scenario: No port is left
    Given a port that another program listens on
    And a hive with `--worker-ports {port}-{port}`
    When I spawn `mock:length=5` as w-1
    Then the answer is 409
    And the answer's error code is PORT_IN_USE
    And the answer's error hints `--worker-ports`

  @EH-012a
  Scenario: The worker program is missing
    Given a hive with `--worker-dir {dir}`
    When I spawn `mock:length=5` as w-1
    Then the answer is 503
    And the answer's error code is WORKER_BINARY_NOT_FOUND
    And the answer's error message contains `/mock-worker-rbee`

  @EH-007a
  Scenario Outline: The model is missing
    Given a hive
    When I spawn `<model>` as w-1
    Then the answer is 404
    And the answer's error code is MODEL_NOT_FOUND
    And the answer's error message contains `<named>`
    And the hive lists no worker
    Examples:
      | model                | named                |
      | file:/nowhere/a.gguf | /nowhere/a.gguf      |
      | builtin:nothing      | builtin:nothing      |

  @EH-009a
  Scenario: A GPU that is not there is refused, never replaced by the CPU
    Given a hive
    When I spawn `mock:length=5` as w-1 on GPU-0
    Then the answer is 503
    And the answer's error code is BACKEND_UNAVAILABLE
    And the answer's error message contains `CPU-0`
    And the hive lists no worker

  @EH-015c
  Scenario: A device index that does not exist
    Given a hive
    When I spawn `mock:length=5` as w-1 on CPU-1
    Then the answer is 400
    And the answer's error code is INVALID_DEVICE

  # Failing to start

  @EH-012c
  Scenario: A worker that exits while it starts
    Given a worker program that prints `boom` and exits with 3
    And a hive with `--worker-dir {dir}/workers`
    When I spawn `mock:length=5` as w-1
    Then the answer is 502
    And the answer's error code is WORKER_START_FAILED
    And the answer's error message contains `exit code 3`
    And the answer's error message contains `boom`
    And the answer's error hints `rbee-keeper worker logs w-1`
    And the hive lists w-1 as exited

  Scenario: A worker that says why it gives up
    Given a hive
    When I spawn `mock:fail=load` as w-1
    Then the answer is 400
    And the answer's error code is INVALID_MODEL_FILE
    And the answer's error hints `rbee-keeper worker logs w-1`
    And the hive lists w-1 as exited

  @EH-012c
  Scenario: A worker that never answers is killed with its whole group
    Given a worker program that starts another and never listens
    And workers that must show a sign of life every 2 s
    When w-1 is spawned here
    Then it fails with WORKER_START_FAILED
    And the failure tells `did not respond on port`
    And 0 `sleep` commands run

  @EH-016a
  Scenario: A worker that makes no progress is killed and how far it got is told
    Given workers that must show a sign of life every 2 s
    When w-1 with `mock:load_ms=600000` is spawned here
    Then it fails with LOADING_TIMEOUT
    And the failure tells `no progress`
    And the failure tells `0 of`
    And 0 `mock-worker-rbee` processes run

  Scenario: A worker that loads for longer than the limit on silence, but makes progress
    Given workers that must show a sign of life every 2 s
    When w-1 with `mock:load_ms=4000` is spawned here
    Then it succeeds

  Scenario: A spawn is cancelled while the worker loads
    Given a hive
    When I spawn `mock:load_ms=600000` as w-1 in the background
    And w-1 is loading
    And I cancel the job
    Then it took less than 2 s
    And the job's events end with `cancelled`
    And 0 `mock-worker-rbee` processes run
    And the hive lists w-1 as exited
    When I cancel the job
    Then the answer is 204

  Scenario: A worker that is stopped while it loads
    Given a hive
    When I spawn `mock:load_ms=600000` as w-1 in the background
    And w-1 is loading
    And I DELETE `/v1/workers/w-1?drain_seconds=0` of the hive
    Then the answer is 204
    And the job's events end with `error`
    And 0 `mock-worker-rbee` processes run

  # Generations

  Scenario: A higher generation takes the place of a lower one
    Given a hive
    And the worker w-1
    When I spawn `mock:length=7` as w-1 in generation 2
    Then the answer is 200
    And 1 `mock-worker-rbee` process runs
    And the hive tells of w-1
      | generation | 2                                              |
      | model      | mock:length=7                                  |
      | restarts   | 1                                              |
      | last_exit  | exit code 0 (superseded by generation 2)       |

  Scenario: The same generation is refused while it lives
    Given a hive
    And the worker w-1
    When I spawn `mock:length=7` as w-1
    Then the answer is 409
    And the answer's error code is WORKER_EXISTS
    And w-1 is ready

  Scenario: A lower generation is fenced
    Given a hive
    When I spawn `mock:length=5` as w-1 in generation 4
    And I spawn `mock:length=7` as w-1 in generation 3
    Then the answer is 409
    And the answer's error code is FENCED
    And w-1 is ready

  # Stop

  Scenario: An idle worker is stopped at once and exits 0
    Given a hive
    And the worker w-1
    When I DELETE `/v1/workers/w-1` of the hive
    Then the answer is 204
    And it took less than 5 s
    And 0 `mock-worker-rbee` processes run
    And the last exit of w-1 is `exit code 0 (stopped on request)`
    When I DELETE `/v1/workers/w-1` of the hive
    Then the answer is 204

  @EH-014b
  Scenario: A worker that drains finishes what runs and refuses new work
    Given a hive
    And the worker w-1
    And a long answer of w-1 is streaming
    When I begin to stop w-1
    Then w-1 refuses new work with DRAINING
    And the long answer of w-1 ends undisturbed
    And the stop succeeds
    And the last exit of w-1 is `exit code 0 (stopped on request)`

  @EH-014a
  Scenario: A worker that answers to nothing is killed, and that is recorded
    Given workers that get 1 s to drain and 1 s after SIGTERM
    And w-1 with `mock:length=5` was spawned here
    And the process of w-1 is frozen
    When w-1 is stopped here
    Then it took less than 5 s
    And 0 `mock-worker-rbee` processes run
    And the record of w-1 tells `ignored SIGTERM`
    And the record of w-1 tells `signal 9`

  Scenario: Many workers are stopped in parallel
    Given workers that get 2 s to drain and 2 s after SIGTERM
    And 6 workers were spawned here and frozen
    When all workers are stopped here
    Then it took less than 10 s
    And 0 `mock-worker-rbee` processes run

  Scenario: The process is gone before the one that takes its place starts
    Given a worker program that does not start beside the one before
    And a hive with `--worker-dir {dir}/workers --worker-ports 0`
    And the worker w-1
    When I spawn `mock:length=7` as w-1 in generation 2
    Then the answer is 200

  # Logs

  Scenario: The last lines of a worker's log
    Given a worker program that prints `line 1|line 2|line 3` and exits with 1
    And a hive with `--worker-dir {dir}/workers`
    When I spawn `mock:length=5` as w-1
    And I GET `/v1/workers/w-1/logs?lines=2` from the hive
    Then the answer is 200
    And the log is `line 2|line 3`

  Scenario: A log may hold anything, its answer is harmless
    Given a worker program that prints `\033[31mred\007` and exits with 1
    And a hive with `--worker-dir {dir}/workers`
    When I spawn `mock:length=5` as w-1
    And I GET `/v1/workers/w-1/logs` from the hive
    Then the log is `\u{1b}[31mred\u{7}`

  Scenario: The log of the process before is kept
    Given a hive
    And the worker w-1
    When I note the log of w-1
    And I spawn `mock:length=7` as w-1 in generation 2
    Then the file `{home}/run/workers/w-1/worker.log.1` begins with the noted log
    And the log of w-1 is another one
