@real
Feature: The hive's list of workers
  A hive keeps no state in memory that it cannot read again from its spawn records and the
  process table. It can be killed at any time without losing a worker.

  Scenario: No worker was spawned
    Given a hive
    Then the hive lists no worker

  Scenario: The entry of a worker
    Given a hive
    When I spawn `mock:length=5` as w-1
    Then the hive lists w-1 as running
    And the hive reports of w-1
      | worker_id  | w-1           |
      | generation | 1             |
      | model      | mock:length=5 |
      | device     | CPU-0         |
      | restarts   | 0             |
    And the pid and the port of w-1 are those in the spawn response
    And the hive reports the memory of w-1
    And the uptime of w-1 increases

  Scenario: Workers are listed by id
    Given a hive
    When I spawn `mock:length=5` as w-2
    And I spawn `mock:length=6` as w-1
    Then the hive lists exactly w-1, w-2

  Scenario: An unknown worker
    Given a hive
    When I GET `/v1/workers/w-9` from the hive
    Then the response status is 404
    And the response's error code is WORKER_NOT_FOUND

  Scenario: A crashed worker leaves no zombie
    Given a hive
    And the worker w-1
    When the process of w-1 is killed
    Then the hive lists w-1 as exited
    And the last exit of w-1 is `signal 9`
    And the process of w-1 is not a zombie

  Scenario: Another process gets the pid of a worker
    Given a hive
    And the worker w-1
    When the process of w-1 is killed
    And another process has the pid in the record of w-1
    Then the hive lists w-1 as exited
    When I DELETE `/v1/workers/w-1?drain_seconds=0` of the hive
    Then the response status is 204
    And the other process is still running

  Scenario: Spawning under a known id counts a restart
    Given a hive
    And the worker w-1
    When the process of w-1 is killed
    And the hive lists w-1 as exited
    And I spawn `mock:length=5` as w-1 in generation 2
    Then the hive reports of w-1
      | generation | 2        |
      | restarts   | 1        |
      | last_exit  | signal 9 |

  Scenario: Workers survive the hive, and the next hive lists the same workers
    Given a hive
    And the worker w-1
    And the worker w-2
    And w-1 is streaming a long completion
    When I note the hive's list of workers
    And the hive is killed
    And another hive starts in the same home
    Then the hive's list of workers is unchanged
    And the completion of w-1 is complete

  Scenario: A worker exits while no hive is running
    Given a hive
    And the worker w-1
    When the hive is killed
    And the process of w-1 is killed
    And another hive starts in the same home
    Then the hive lists w-1 as exited

  Scenario: A worker of an earlier hive is stopped like any other
    Given a hive
    And the worker w-1
    When the hive is killed
    And another hive starts in the same home
    And I DELETE `/v1/workers/w-1` of the hive
    Then the response status is 204
    And 0 `mock-worker-rbee` processes run
    And the last exit of w-1 is `stopped on request`

  Scenario Outline: A damaged record is set aside and reported, and the hive continues
    Given a hive
    And the worker w-1
    And the worker w-2
    When the record of w-1 is <damage>
    Then the hive lists exactly w-2
    And the file `{home}/run/workers/w-1/spawn.json.corrupt` exists
    And hive prints `the spawn record of worker w-1 is damaged`
    Examples:
      | damage             |
      | cut in half        |
      | empty              |
      | not JSON           |
      | changed in one bit |
      | that of w-2        |

  Scenario: A worker of an earlier release is managed
    Given a hive
    And the worker w-1
    When the hive is killed
    And the record of w-1 has no format number
    And another hive starts in the same home
    Then the hive lists w-1 as running
    When I DELETE `/v1/workers/w-1` of the hive
    Then the response status is 204
    And 0 `mock-worker-rbee` processes run

  Scenario: A record of a newer release is rejected and left unchanged
    Given a hive
    And the worker w-1
    When the hive is killed
    And the record of w-1 has the format number 99
    And I run `rbee-hive`
    Then the exit code is 1
    And the error is `{home}/run/workers/w-1/spawn.json has format 99, this rbee knows formats up to 2`
    And the hint contains `RBEE_HOME`
    And the record of w-1 is unchanged

  Scenario: SIGTERM stops only the hive
    Given a hive
    And the worker w-1
    When the hive gets SIGTERM
    Then hive exits within 5 s
    And the exit code is 0
    And 1 `mock-worker-rbee` process runs
    And the file `{home}/run/hive.json` does not exist

  Scenario: SIGTERM stops the hive while clients follow its events
    Given a hive
    And I follow the events of the hive
    When the hive gets SIGTERM
    Then hive exits within 5 s
    And the exit code is 0

  Scenario: Shutdown without workers
    Given a hive
    And the worker w-1
    When I POST to `/v1/shutdown` of the hive
      """
      {}
      """
    Then the response status is 204
    And hive exits within 5 s
    And the exit code is 0
    And 1 `mock-worker-rbee` process runs

  Scenario: Shutdown with workers
    Given a hive
    And the worker w-1
    And the worker w-2
    When I POST to `/v1/shutdown` of the hive
      """
      {"stop_workers": true}
      """
    Then the response status is 204
    And hive exits within 5 s
    And the exit code is 0
    And nothing is left running

  Scenario: A second hive in the same home
    Given a hive
    When I run `rbee-hive`
    Then the exit code is 1
    And the error is `another hive is using {home} (process {hive_pid} at {hive_url})`
    And the hint contains `--home`
    And the hive lists no worker

  Scenario: Health is public and contains the versions
    Given a hive
    When I GET `/v1/health` from the hive without a token
    Then the response status is 200
    And the response's `/status` is `ok`
    And the response's `/hive_id` is `local`
    And the response's `/api_version` is `1`
    And the response's `/version` is not empty

  Scenario Outline: All other calls require the node's token
    Given a hive
    When I <method> `<path>` of the hive without a token
    Then the response status is 401
    And the response's error code is MISSING_API_KEY
    When I <method> `<path>` of the hive with the token `0123456789abcdef0123`
    Then the response status is 401
    And the response's error code is INVALID_API_KEY
    Examples:
      | method | path                 |
      | GET    | /v1/capabilities     |
      | GET    | /v1/models           |
      | GET    | /v1/workers          |
      | POST   | /v1/workers/spawn    |
      | GET    | /v1/workers/w-1      |
      | DELETE | /v1/workers/w-1      |
      | GET    | /v1/workers/w-1/logs |
      | GET    | /v1/jobs/j           |
      | DELETE | /v1/jobs/j           |
      | GET    | /v1/jobs/j/events    |
      | GET    | /v1/events           |
      | POST   | /v1/shutdown         |

  Scenario: Capabilities of the machine
    Given a hive
    When I GET `/v1/capabilities` from the hive
    Then the response status is 200
    And the response's `/devices/0/id` is `CPU-0`
    And the response's `/devices/0/backend` is `cpu`
    And the response has cores, memory and disk
    And the response's `/worker_binaries` is not empty

  Scenario: A mock machine
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
    Then the response status is 200
    And the response's `/hostname` is `box`
    And the response's `/devices/1/compute_capability` is `9.0`

  Scenario: The embedded models
    Given a hive
    When I GET `/v1/models` from the hive
    Then the response status is 200
    And the response's `/models/0/model` is `builtin:haiku`
    And the response's `/models/0/quantization` is `F16`
    And the response's `/models/0/context_length` is `512`

  Scenario: The events of the hive
    Given a hive
    And I follow the events of the hive
    When I spawn `mock:length=5` as w-1
    And I DELETE `/v1/workers/w-1` of the hive
    Then the hive narrates `starting worker w-1 with mock:length=5 on CPU-0, port {w-1_port}`
    And the hive narrates `worker w-1 is ready`
    And the hive narrates `worker w-1 exited: exit code 0 (stopped on request)`

  Scenario Outline: Invalid input is an error with its code
    Given a hive
    When I POST to `/v1/workers/spawn` of the hive
      """
      <body>
      """
    Then the response status is 400
    And the response's error code is <code>
    And the hive lists no worker
    Examples:
      | body                                                                                                                | code              |
      | {                                                                                                                   | INVALID_REQUEST   |
      | []                                                                                                                  | INVALID_REQUEST   |
      | {"worker_id": "w-1"}                                                                                                | INVALID_REQUEST   |
      | {"worker_id": "../w", "generation": 1, "model": "mock:a", "device": "CPU-0", "queen_url": "http://127.0.0.1:1"}     | INVALID_REQUEST   |
      | {"worker_id": "w-1", "generation": -1, "model": "mock:a", "device": "CPU-0", "queen_url": "http://127.0.0.1:1"}     | INVALID_REQUEST   |

  Scenario Outline: An unreadable body is rejected
    Given a hive
    When I POST <bytes> bytes of <type> to `/v1/workers/spawn` of the hive
    Then the response status is <status>
    And the response's error code is <code>
    And the hive lists no worker
    Examples:
      | bytes  | type             | status | code                   |
      | 20     | text/plain       | 415    | UNSUPPORTED_MEDIA_TYPE |
      | 100000 | application/json | 413    | BODY_TOO_LARGE         |

  Scenario: An unsupported method
    Given a hive
    When I DELETE `/v1/models` of the hive
    Then the response status is 405
    And the response's error code is METHOD_NOT_ALLOWED
