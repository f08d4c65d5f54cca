@real
Feature: Lifecycle of a worker process
  Spawn, load, serve, drain, stop: real processes with the mock engine.

  # Spawn

  Scenario: Spawn and wait until ready
    Given a hive
    When I spawn `mock:load_ms=300` as w-1
    Then the response status is 200
    And the response's `/worker_id` is `w-1`
    And the response's `/generation` is `1`
    And w-1 is ready
    And w-1 runs in a process group of its own
    And neither the command line nor the record of w-1 contains the token

  Scenario: A spawn without waiting returns when the process listens
    Given a hive
    When I spawn `mock:load_ms=2000` as w-1 without waiting
    Then the response status is 200
    And w-1 is loading
    And w-1 becomes ready

  Scenario: A spawn as an event stream
    Given a hive
    When I spawn `mock:load_ms=500` as w-1 as a stream
    Then the events are narration and progress, then one result
    And the progress increases up to its total
    And the last event's `/worker_id` is `w-1`

  Scenario: A spawn in the background, whose events are replayed
    Given a hive
    When I spawn `mock:load_ms=500` as w-1 in the background
    Then the response status is 202
    And the job's events end with `result`
    And the job's events are the same when read again, progress aside
    And the job is succeeded

  Scenario: An unknown job
    Given a hive
    When I GET `/v1/jobs/job-9` from the hive
    Then the response status is 404
    And the response's error code is JOB_NOT_FOUND

  @EH-012b
  Scenario: A taken port is skipped and reported
    Given a port that another process listens on
    And a hive with `--worker-ports {port}-{next_port}`
    When I spawn `mock:length=5` as w-1 as a stream
    Then the last event's `/port` is `{next_port}`
    And the job narrates `port {port} in use, trying {next_port}`

  @EH-012b
  Scenario: A port is taken between choosing and binding it
    Given a worker binary that loses its first port
    And a hive with `--worker-dir {dir}/workers --worker-ports 0`
    When I spawn `mock:length=5` as w-1 as a stream
    Then the events are narration, then one result
    And an event of the job contains `was taken before worker w-1 bound it, trying another`
    And w-1 is ready

  Scenario: No port is free
    Given a port that another process listens on
    And a hive with `--worker-ports {port}-{port}`
    When I spawn `mock:length=5` as w-1
    Then the response status is 409
    And the response's error code is PORT_IN_USE
    And the response's hint contains `--worker-ports`

  @EH-012a
  Scenario: The worker binary is missing
    Given a hive with `--worker-dir {dir}`
    When I spawn `mock:length=5` as w-1
    Then the response status is 503
    And the response's error code is WORKER_BINARY_NOT_FOUND
    And the response's error message contains `/mock-worker-rbee`

  @EH-007a
  Scenario Outline: The model is missing
    Given a hive
    When I spawn `<model>` as w-1
    Then the response status is 404
    And the response's error code is MODEL_NOT_FOUND
    And the response's error message contains `<named>`
    And the hive lists no worker
    Examples:
      | model                | named                |
      | file:/nowhere/a.gguf | /nowhere/a.gguf      |
      | builtin:nothing      | nothing              |

  @EH-009a
  Scenario: A missing GPU is an error and never replaced by the CPU
    Given a hive
    When I spawn `mock:length=5` as w-1 on GPU-0
    Then the response status is 503
    And the response's error code is BACKEND_UNAVAILABLE
    And the response's error message contains `CPU-0`
    And the hive lists no worker

  @EH-015c
  Scenario: A device index that does not exist
    Given a hive
    When I spawn `mock:length=5` as w-1 on CPU-1
    Then the response status is 400
    And the response's error code is INVALID_DEVICE

  # Failed starts

  @EH-012c
  Scenario: A worker exits during startup
    Given a worker binary that prints `boom` and exits with 3
    And a hive with `--worker-dir {dir}/workers`
    When I spawn `mock:length=5` as w-1
    Then the response status is 502
    And the response's error code is WORKER_START_FAILED
    And the response's error message contains `exit code 3`
    And the response's error message contains `boom`
    And the response's hint contains `rbee-keeper worker logs w-1`
    And the hive lists w-1 as exited

  @EH-004b
  Scenario: A worker whose allocation fails during startup is out of memory
    Given a worker binary that prints `memory allocation of 4096 bytes failed` and aborts
    And a hive with `--worker-dir {dir}/workers`
    When I spawn `mock:length=5` as w-1
    Then the response status is 507
    And the response's error code is OUT_OF_MEMORY
    And the response's error message contains `an allocation failed`
    And the response's hint contains `smaller quantization or context length`
    And the hive lists w-1 as exited

  Scenario: A worker reports why it exits
    Given a hive
    When I spawn `mock:fail=load` as w-1
    Then the response status is 400
    And the response's error code is INVALID_MODEL_FILE
    And the response's hint contains `rbee-keeper worker logs w-1`
    And the hive lists w-1 as exited

  @EH-012c
  Scenario: A worker that never responds is killed with its process group
    Given a worker binary that starts a child process and never listens
    And an in-process hive with a silence limit of 2 s
    When the in-process hive spawns w-1
    Then the spawn fails with WORKER_START_FAILED
    And the spawn's error contains `did not respond on port`
    And the child process of the worker is gone

  @EH-016a
  Scenario: A worker that makes no progress is killed and its progress is reported
    Given an in-process hive with a silence limit of 2 s
    When the in-process hive spawns w-1 with `mock:load_ms=600000`
    Then the spawn fails with LOADING_TIMEOUT
    And the spawn's error contains `worker w-1 stalled while loading: no progress for 2 s after 0 of `
    And 0 `mock-worker-rbee` processes run

  Scenario: A worker loads for longer than the silence limit, but makes progress
    Given an in-process hive with a silence limit of 2 s
    When the in-process hive spawns w-1 with `mock:load_ms=4000`
    Then the spawn succeeds

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
    Then the response status is 204

  Scenario: A worker is stopped while it loads
    Given a hive
    When I spawn `mock:load_ms=600000` as w-1 in the background
    And w-1 is loading
    And I DELETE `/v1/workers/w-1?drain_seconds=0` of the hive
    Then the response status is 204
    And the job's events end with `error`
    And 0 `mock-worker-rbee` processes run

  # Generations

  Scenario: A higher generation supersedes a lower one
    Given a hive
    And the worker w-1
    When I spawn `mock:length=7` as w-1 in generation 2
    Then the response status is 200
    And 1 `mock-worker-rbee` process runs
    And the hive reports of w-1
      | generation | 2                                              |
      | model      | mock:length=7                                  |
      | restarts   | 1                                              |
      | last_exit  | exit code 0 (superseded by generation 2)       |

  Scenario: The same generation is rejected while it is running
    Given a hive
    And the worker w-1
    When I spawn `mock:length=7` as w-1
    Then the response status is 409
    And the response's error code is WORKER_EXISTS
    And w-1 is ready

  Scenario: A lower generation is fenced
    Given a hive
    When I spawn `mock:length=5` as w-1 in generation 4
    And I spawn `mock:length=7` as w-1 in generation 3
    Then the response status is 409
    And the response's error code is FENCED
    And w-1 is ready

  # Stop

  Scenario: An idle worker is stopped at once and exits with 0
    Given a hive
    And the worker w-1
    When I DELETE `/v1/workers/w-1` of the hive
    Then the response status is 204
    And it took less than 5 s
    And 0 `mock-worker-rbee` processes run
    And the last exit of w-1 is `exit code 0 (stopped on request)`
    When I DELETE `/v1/workers/w-1` of the hive
    Then the response status is 204

  @EH-014b
  Scenario: A draining worker finishes running requests and rejects new ones
    Given a hive
    And the worker w-1
    And w-1 is streaming a long completion
    When I request the stop of w-1
    Then w-1 rejects new requests with DRAINING
    And the completion of w-1 is complete
    And the stop succeeds
    And the last exit of w-1 is `exit code 0 (stopped on request)`

  Scenario: Without a drain, running requests end at once
    Given a hive
    And the worker w-1
    And w-1 is streaming a long completion
    When I DELETE `/v1/workers/w-1?drain_seconds=0` of the hive
    Then the response status is 204
    And it took less than 5 s
    And the completion of w-1 ended with DRAINING
    And 0 `mock-worker-rbee` processes run
    And the last exit of w-1 is `exit code 0 (stopped on request)`

  @EH-014a
  Scenario: A frozen worker is killed, and its record says so
    Given an in-process hive with a drain of 1 s and SIGKILL 1 s after SIGTERM
    And the in-process hive has spawned w-1 with `mock:length=5`
    And the process of w-1 is frozen
    When the in-process hive stops w-1
    Then it took less than 5 s
    And 0 `mock-worker-rbee` processes run
    And the record of w-1 has the last exit `signal 9 (stopped on request; it ignored SIGTERM for 1 s and was sent SIGKILL)`

  Scenario: Many workers are stopped in parallel
    Given an in-process hive with a drain of 2 s and SIGKILL 2 s after SIGTERM
    And the in-process hive has spawned 6 workers, and they are frozen
    When the in-process hive stops all workers
    Then it took less than 10 s
    And 0 `mock-worker-rbee` processes run

  Scenario: The superseded process is gone before the next one starts
    Given a worker binary that fails while the previous process is running
    And a hive with `--worker-dir {dir}/workers --worker-ports 0`
    And the worker w-1
    When I spawn `mock:length=7` as w-1 in generation 2
    Then the response status is 200

  # Logs

  Scenario: The last lines of a worker's log
    Given a worker binary that prints `line 1|line 2|line 3` and exits with 1
    And a hive with `--worker-dir {dir}/workers`
    When I spawn `mock:length=5` as w-1
    And I GET `/v1/workers/w-1/logs?lines=2` from the hive
    Then the response status is 200
    And the log is `line 2|line 3`

  Scenario: A log is escaped
    Given a worker binary that prints `\033[31mred\007` and exits with 1
    And a hive with `--worker-dir {dir}/workers`
    When I spawn `mock:length=5` as w-1
    And I GET `/v1/workers/w-1/logs` from the hive
    Then the log is `\u{1b}[31mred\u{7}`

  Scenario: The log of the previous process is kept
    Given a hive
    And the worker w-1
    When I note the log of w-1
    And I spawn `mock:length=7` as w-1 in generation 2
    Then the file `{home}/run/workers/w-1/worker.log.1` begins with the noted log
    And the log of w-1 is a new one
