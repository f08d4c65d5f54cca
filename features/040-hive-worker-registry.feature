@real
Feature: The hive's view of the workers on its machine
  A hive has no other memory of its workers than the run directory and the process table. It
  can die at any time and has lost nothing.

  Scenario: Nothing was spawned
    Given a hive
    Then the hive lists no worker

  Scenario: What is told of a worker
    Given a hive
    When I spawn `mock:length=5` as w-1
    Then the hive lists w-1 as running
    And the hive tells of w-1
      | worker_id  | w-1           |
      | generation | 1             |
      | model      | mock:length=5 |
      | device     | CPU-0         |
      | restarts   | 0             |
    And the pid and the port of w-1 are those that the spawn answered
    And the memory of w-1 is told
    And the uptime of w-1 counts up

  Scenario: Several workers are listed by name
    Given a hive
    When I spawn `mock:length=5` as w-2
    And I spawn `mock:length=6` as w-1
    Then the hive lists exactly w-1, w-2

  Scenario: A worker that was never spawned
    Given a hive
    When I GET `/v1/workers/w-9` from the hive
    Then the answer is 404
    And the answer's error code is WORKER_NOT_FOUND

  Scenario: A worker that crashed, and no zombie of it
    Given a hive
    And the worker w-1
    When the process of w-1 is killed
    Then the hive lists w-1 as exited
    And the last exit of w-1 is `signal 9`
    And the process of w-1 is no zombie

  Scenario: A pid that another program was given
    Given a hive
    And the worker w-1
    When the process of w-1 is killed
    And another program has the pid that the record of w-1 names
    Then the hive lists w-1 as exited
    When I DELETE `/v1/workers/w-1?drain_seconds=0` of the hive
    Then the answer is 204
    And the other program still runs

  Scenario: A name that is used again counts its restarts
    Given a hive
    And the worker w-1
    When the process of w-1 is killed
    And the hive lists w-1 as exited
    And I spawn `mock:length=5` as w-1 in generation 2
    Then the hive tells of w-1
      | generation | 2        |
      | restarts   | 1        |
      | last_exit  | signal 9 |

  Scenario: The hive is killed: workers serve throughout, and the next hive lists the same
    Given a hive
    And the worker w-1
    And the worker w-2
    And a long answer of w-1 is streaming
    When I note the list of the hive
    And the hive is killed
    And another hive starts in the same home
    Then the list of the hive is the noted one
    And the long answer of w-1 ends undisturbed

  Scenario: A worker that ended while no hive ran
    Given a hive
    And the worker w-1
    When the hive is killed
    And the process of w-1 is killed
    And another hive starts in the same home
    Then the hive lists w-1 as exited

  Scenario: A worker of an earlier hive is stopped like one of its own
    Given a hive
    And the worker w-1
    When the hive is killed
    And another hive starts in the same home
    And I DELETE `/v1/workers/w-1` of the hive
    Then the answer is 204
    And 0 `mock-worker-rbee` processes run
    And the last exit of w-1 is `stopped on request`

  Scenario Outline: A damaged record is set aside and told, and the hive goes on
    Given a hive
    And the worker w-1
    And the worker w-2
    When the record of w-1 is <damage>
    Then the hive lists exactly w-2
    And the file `{home}/run/workers/w-1/spawn.json.corrupt` is there
    And hive prints `the spawn record of worker w-1 is damaged`
    Examples:
      | damage        |
      | cut in half   |
      | empty         |
      | no JSON       |
      | that of w-2   |

  Scenario: SIGTERM ends the hive alone
    Given a hive
    And the worker w-1
    When the hive gets SIGTERM
    Then hive ends within 5 s
    And the exit code is 0
    And 1 `mock-worker-rbee` process runs
    And the file `{home}/run/hive.json` is not there

  Scenario: SIGTERM ends the hive although readers follow its events
    Given a hive
    And I follow the events of the hive
    When the hive gets SIGTERM
    Then hive ends within 5 s
    And the exit code is 0

  Scenario: Shut down without workers
    Given a hive
    And the worker w-1
    When I POST to `/v1/shutdown` of the hive
      """
      {}
      """
    Then the answer is 204
    And hive ends within 5 s
    And the exit code is 0
    And 1 `mock-worker-rbee` process runs

  Scenario: Shut down with workers
    Given a hive
    And the worker w-1
    And the worker w-2
    When I POST to `/v1/shutdown` of the hive
      """
      {"stop_workers": true}
      """
    Then the answer is 204
    And hive ends within 5 s
    And the exit code is 0
    And nothing is left running

  Scenario: A second hive in one home
    Given a hive
    When I run `rbee-hive`
    Then the exit code is 1
    And the error is `another hive is using {home}`
    And the error hints `--home`
    And the hive lists no worker

  Scenario: Health is public and tells the versions
    Given a hive
    When I GET `/v1/health` from the hive without a token
    Then the answer is 200
    And the answer's `/status` is `ok`
    And the answer's `/hive_id` is `local`
    And the answer's `/api_version` is `1`
    And the answer's `/version` is not empty

  Scenario Outline: Everything else needs the node's token
    Given a hive
    When I GET `<path>` from the hive without a token
    Then the answer is 401
    And the answer's error code is MISSING_API_KEY
    When I GET `<path>` from the hive with the token `0123456789abcdef0123`
    Then the answer is 401
    And the answer's error code is INVALID_API_KEY
    Examples:
      | path                 |
      | /v1/capabilities     |
      | /v1/models           |
      | /v1/workers          |
      | /v1/workers/w-1      |
      | /v1/workers/w-1/logs |
      | /v1/jobs/j           |
      | /v1/jobs/j/events    |
      | /v1/events           |

  Scenario: What the machine has
    Given a hive
    When I GET `/v1/capabilities` from the hive
    Then the answer is 200
    And the answer's `/devices/0/id` is `CPU-0`
    And the answer's `/devices/0/backend` is `cpu`
    And the answer counts cores, memory and disk
    And the answer's `/worker_binaries` is not empty

  Scenario: Any machine can be presented
    Given the file `{dir}/devices.json` holds
      """
      {"hostname": "box", "cpu": {"name": "a processor", "cores": 8, "features": ["avx2"]},
       "ram": {"total_bytes": 64, "available_bytes": 32}, "disk": {"total_bytes": 64, "free_bytes": 32},
       "devices": [
        {"id": "CPU-0", "backend": "cpu", "name": "a processor", "memory_total_bytes": 64, "memory_free_bytes": 32},
        {"id": "GPU-0", "backend": "cuda", "name": "a GPU", "memory_total_bytes": 80, "memory_free_bytes": 70,
         "driver": "580.1", "compute_capability": "9.0"}]}
      """
    And a hive with `--mock-devices {dir}/devices.json`
    When I GET `/v1/capabilities` from the hive
    Then the answer's `/hostname` is `box`
    And the answer's `/devices/1/compute_capability` is `9.0`

  Scenario: The models that ship with rbee
    Given a hive
    When I GET `/v1/models` from the hive
    Then the answer is 200
    And the answer's `/models/0/model` is `builtin:haiku`
    And the answer's `/models/0/quantization` is `F16`
    And the answer's `/models/0/context_length` is `512`

  Scenario: All that happens is told to whoever listens
    Given a hive
    And I follow the events of the hive
    When I spawn `mock:length=5` as w-1
    And I DELETE `/v1/workers/w-1` of the hive
    Then an event of the hive tells `starting worker w-1`
    And an event of the hive tells `worker w-1 is ready`
    And an event of the hive tells `worker w-1 exited: exit code 0`

  Scenario Outline: Bad input is an error with its code, and the hive goes on
    Given a hive
    When I POST to `/v1/workers/spawn` of the hive
      """
      <body>
      """
    Then the answer is 400
    And the answer's error code is <code>
    And the hive lists no worker
    Examples:
      | body                                                                                                                | code              |
      | {                                                                                                                   | INVALID_REQUEST   |
      | []                                                                                                                  | INVALID_REQUEST   |
      | {"worker_id": "w-1"}                                                                                                | INVALID_REQUEST   |
      | {"worker_id": "../w", "generation": 1, "model": "mock:a", "device": "CPU-0", "queen_url": "http://127.0.0.1:1"}     | INVALID_REQUEST   |
      | {"worker_id": "w-1", "generation": -1, "model": "mock:a", "device": "CPU-0", "queen_url": "http://127.0.0.1:1"}     | INVALID_REQUEST   |

  Scenario Outline: A body that cannot be read is refused by its kind
    Given a hive
    When I POST <bytes> bytes of <type> to `/v1/workers/spawn` of the hive
    Then the answer is <status>
    And the answer's error code is <code>
    And the hive lists no worker
    Examples:
      | bytes  | type             | status | code                   |
      | 20     | text/plain       | 415    | UNSUPPORTED_MEDIA_TYPE |
      | 100000 | application/json | 413    | BODY_TOO_LARGE         |

  Scenario: A method that a path does not have
    Given a hive
    When I DELETE `/v1/models` of the hive
    Then the answer is 405
    And the answer's error code is METHOD_NOT_ALLOWED
