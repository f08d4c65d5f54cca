Feature: Validation before a start
  Every start is preceded by the same checks, which `rbee-keeper doctor` runs alone. All checks
  run, and all failures are reported at once, with both numbers and what to do. The hives are real
  processes on machines that a JSON file describes; no GPU is needed.

  # The connection to a node

  Scenario Outline: The connection over SSH: <state>
    Given a node over SSH that is <state>
    When the connection is checked
    Then the checks of the level ssh are
      | reachable     | <reachable>     |
      | authenticated | <authenticated> |
      | commands      | <commands>      |
      | latency       | <latency>       |
      | hive binary   | <binary>        |
    And the failed checks have the codes `<codes>`
    Examples:
      | state             | reachable | authenticated | commands | latency | binary  | codes              |
      | usable            | pass      | pass          | pass     | pass    | pass    |                    |
      | slow              | pass      | pass          | pass     | warn    | pass    |                    |

    @EH-001a
    Examples:
      | state             | reachable | authenticated | commands | latency | binary  | codes              |
      | unreachable       | fail      | skipped       | skipped  | skipped | skipped | SSH_UNREACHABLE    |

    @EH-001b
    Examples:
      | state             | reachable | authenticated | commands | latency | binary  | codes              |
      | refusing the key  | pass      | fail          | skipped  | skipped | skipped | SSH_AUTH_FAILED    |

    @EH-001c
    Examples:
      | state             | reachable | authenticated | commands | latency | binary  | codes              |
      | without a hive    | pass      | pass          | pass     | pass    | fail    | HIVE_NOT_INSTALLED |

  # The hive

  @EH-019b
  Scenario: Both versions are named when they are incompatible
    Given a hive of version 9.1 with interface version 2
    When a queen of version 9.0 with interface version 1 checks it
    Then the check `version` fails with VERSION_INCOMPATIBLE
    And the check `version` names `9.1 with interface version 2`
    And the check `version` names `9.0 with interface version 1`
    And its hint contains `rbee-keeper queen stop`

  @real
  Scenario: A machine that can serve
    Given a machine with 8 GiB of available memory
    And a hive on this machine
    When I check a worker
      """
      {"model": "builtin:haiku", "context_length": 512, "slots": 4}
      """
    Then no check fails
    And the check `worker binaries` passes
    And the check `devices` names `CPU-0`
    And the check `engine` names `llama in F16`
    And the check `memory` of the worker names `4 contexts of 512 tokens`

  @real @EH-019a
  Scenario: A hive without worker binaries
    Given a machine with 8 GiB of available memory
    And a hive on this machine with `--worker-dir {dir}/none`
    When I check a worker
      """
      {}
      """
    Then the check `worker binaries` fails with WORKER_BINARY_MISSING
    And its hint contains `rbee-keeper worker-binary provision llm-cpu-worker-rbee`
    And the check `worker binary` names `{dir}/none/llm-cpu-worker-rbee`

  @real @EH-004a @EH-006a
  Scenario: A machine with too little memory and disk for anything
    Given a machine with 64 MiB of available memory
    And its disk has 64 MiB of free space
    And a hive on this machine
    When I check a worker
      """
      {}
      """
    Then the failed checks have the codes `INSUFFICIENT_RAM, INSUFFICIENT_DISK`

  # The worker's resources

  @real @EH-004a
  Scenario: Too little memory is refused with both numbers, and nothing is started
    Given a machine with 20 MiB of available memory
    And a hive on this machine
    When I check a worker
      """
      {"model": "builtin:haiku", "context_length": 512}
      """
    Then the check `memory` of the worker fails with INSUFFICIENT_RAM
    And its message has the values need_bytes and available_bytes
    When I spawn `builtin:haiku` on CPU-0 with a context of 512 tokens
    Then the response status is 507
    And the response's error code is INSUFFICIENT_RAM
    And the response's error message contains `20.0 MiB available`
    And the response's error message contains `for weights`
    And the hive has no worker

  @real @EH-004a
  Scenario: The context that is suggested fits
    Given a machine with 30 MiB of available memory
    And a hive on this machine
    When I check a worker
      """
      {"model": "builtin:haiku", "context_length": 512, "slots": 2}
      """
    Then the check `memory` of the worker fails with INSUFFICIENT_RAM
    And its hint contains `--context`
    And its hint contains `--slots 1`
    When I check the worker with the context that the hint suggests
    Then the check `memory` of the worker passes

  @real
  Scenario: A small model is served on a machine with little memory
    Given a machine with 100 MiB of available memory
    And a hive on this machine
    When I spawn `builtin:haiku` on CPU-0 and wait until it is ready
    Then the response status is 200
    And the worker runs on CPU-0

  @real
  Scenario: What was checked is what the worker reserves
    Given a machine with 100 MiB of available memory
    And a hive on this machine
    When I check a worker
      """
      {"model": "builtin:haiku", "context_length": 256, "slots": 3}
      """
    Then the check `memory` of the worker passes
    When I spawn `builtin:haiku` on CPU-0 with a context of 256 tokens and 3 slots
    Then the response status is 200
    And the worker is started with the KV cache of the check

  @real @EH-005a
  Scenario: Too little GPU memory is refused, and the devices with enough are named
    Given a machine with 8 GiB of available memory
    And it has the GPUs
      | GPU-0 | cuda | 64 MiB | 580.1 | 9.0 |
      | GPU-1 | cuda | 70 GiB | 580.1 | 9.0 |
    And a hive on this machine
    When I check a worker
      """
      {"model": "builtin:haiku", "device": "GPU-0"}
      """
    Then the check `device memory` fails with INSUFFICIENT_VRAM
    And its message has the values need_bytes and available_bytes
    And its hint contains `--device GPU-1`
    And its hint contains `--backend cpu`

  @real @EH-006a
  Scenario: Too little disk for a model that is not here is found before the download
    Given a model hub with a model org/repo
    And a machine with 8 GiB of available memory
    And its disk has 1 MiB of free space
    And a hive on this machine
    When I check a worker
      """
      {"model": "hf:org/repo"}
      """
    Then the check `model` names `to fetch`
    And the check `disk` of the worker fails with INSUFFICIENT_DISK
    And its message has the values need_bytes and free_bytes

  @real @EH-007a
  Scenario: A model that does not exist
    Given a machine with 8 GiB of available memory
    And a hive on this machine
    When I check a worker
      """
      {"model": "file:/nowhere/a.gguf"}
      """
    Then the failed checks have the codes `MODEL_NOT_FOUND`
    And the check `memory` of the worker is skipped

  @real @EH-009a
  Scenario Outline: A backend that the machine does not have: <request>
    Given a machine with 8 GiB of available memory
    And it has the GPUs
      | GPU-0 | vulkan | 15 GiB | | |
    And a hive on this machine
    When I check a worker
      """
      <request>
      """
    Then the failed checks have the codes `<codes>`
    And the check `device` names `CPU-0 (a processor, cpu)`
    And the check `device` names `<named>`
    And the hint of `device` contains `--backend cpu`
    Examples:
      | request               | codes                                      | named               |
      | {"backend": "cuda"}   | BACKEND_UNAVAILABLE, WORKER_BINARY_MISSING | backend cuda        |
      | {"backend": "vulkan"} | BACKEND_UNAVAILABLE                        | no engine computes  |
      | {"device": "GPU-0"}   | BACKEND_UNAVAILABLE                        | no engine computes  |

  @real @EH-009b
  Scenario: A driver that does not work
    Given a machine with 8 GiB of available memory
    And its NVIDIA driver does not work because `NVIDIA driver is not loaded`
    And a hive on this machine
    When I check a worker
      """
      {"backend": "cuda"}
      """
    Then the check `device` fails with CUDA_UNAVAILABLE
    And the check `device` names `NVIDIA driver is not loaded`
    And its hint contains `nvidia-smi`
    And its hint contains `--backend cpu`
    And the check `devices` warns

  @real @EH-009b
  Scenario: A driver and a GPU that are too old
    Given a machine with 8 GiB of available memory
    And it has the GPUs
      | GPU-0 | cuda | 70 GiB | 470.1 | 6.1 |
    And a hive on this machine
    When I check a worker
      """
      {"model": "mock:length=5", "device": "GPU-0"}
      """
    Then the failed checks have the codes `CUDA_UNAVAILABLE, CUDA_UNAVAILABLE`
    And the check `driver` names `470.1`
    And the check `compute capability` names `6.1`

  @real @EH-015c
  Scenario: A device index that does not exist
    Given a machine with 8 GiB of available memory
    And it has the GPUs
      | GPU-0 | cuda | 70 GiB | 580.1 | 9.0 |
    And a hive on this machine
    When I check a worker
      """
      {"model": "mock:length=5", "device": "GPU-3"}
      """
    Then the check `device` fails with INVALID_DEVICE
    And the check `device` names `GPU-0`

  # All at once

  @real @EH-004a @EH-006a @EH-019a
  Scenario: All failures are reported at once, by a check and by a spawn
    Given a machine with 20 MiB of available memory
    And its disk has 1 MiB of free space
    And a hive on this machine with `--worker-dir {dir}/none`
    When I check a worker
      """
      {"model": "builtin:haiku", "context_length": 1024}
      """
    Then the failed checks of the worker have the codes `WORKER_BINARY_MISSING, CONFIG_INVALID, INSUFFICIENT_RAM`
    When I spawn `builtin:haiku` on CPU-0 with a context of 1024 tokens
    Then the response status is 503
    And the response's error message contains `3 checks failed`
    And the response's error message contains `1024 tokens are requested`
    And the response's error message contains `20.0 MiB available`
    And the response's `/error/details/failures/2/code` is `INSUFFICIENT_RAM`
    And the hive has no worker

  # No fallback

  @real @EH-005a @EH-009a @EH-009b
  Scenario Outline: A GPU that is refused is never replaced by the CPU: <gpu>
    Given a machine with 8 GiB of available memory
    And <gpu>
    And a hive on this machine
    When I spawn `mock:length=5` on GPU-0
    Then the response's error code is <code>
    And the hive has no worker
    Given a running queen
    When I run `rbee-keeper infer --backend cuda --model mock:length=5 Hi`
    Then the exit code is 1
    And stdout is empty
    And stderr contains `--backend cpu`
    And no worker process runs
    Examples:
      | gpu                                                | code                |
      | no GPU                                             | BACKEND_UNAVAILABLE |
      | a GPU of AMD                                       | BACKEND_UNAVAILABLE |
      | an NVIDIA GPU with a driver that is too old        | CUDA_UNAVAILABLE    |
      | an NVIDIA driver that does not work                | CUDA_UNAVAILABLE    |

  @real
  Scenario: A GPU that can be used is used
    Given a machine with 8 GiB of available memory
    And it has the GPUs
      | GPU-0 | cuda | 70 GiB | 580.1 | 9.0 |
    And a hive on this machine
    When I spawn `mock:length=5` on GPU-0
    Then the response status is 200
    And the worker runs on GPU-0

  # The doctor

  @real
  Scenario: The doctor on a machine that can serve
    When I run `rbee-keeper doctor --model builtin:haiku`
    Then the exit code is 0
    And stdout contains `node local: hive`
    And stdout contains `node local: worker`
    And no line of the output is longer than 80 characters
    When I run `rbee-keeper doctor --model builtin:haiku --json`
    Then the exit code is 0
    And stdout is 1 JSON document

  @real @EH-009a
  Scenario: The doctor on a machine without the GPU
    Given a machine with 8 GiB of available memory
    And a hive on this machine
    And a running queen
    When I run `rbee-keeper doctor --node local --backend cuda`
    Then the exit code is 1
    And stdout contains `FAIL  device`
    And stdout contains `--backend cpu`
    When I run `rbee-keeper doctor --backend cuda --json`
    Then the exit code is 1
    And stdout is 1 JSON document

  @real
  Scenario: The doctor names everything that keeps a queen from starting
    Given a port that another process listens on
    When I run `rbee-keeper --queen-port {port} --queen-binary {dir}/none/queen-rbee doctor`
    Then the exit code is 1
    And stdout contains `FAIL  binaries`
    And stdout contains `FAIL  port`
    And stdout contains `{port}`
    And stdout contains `skip  api`
    And stdout contains `--queen-port PORT`

  @real
  Scenario: The doctor with a home that cannot be used
    Given the file `{dir}/a-file` holds
      """
      not a directory
      """
    When I run `rbee-keeper --home {dir}/a-file doctor`
    Then the exit code is 1
    And stdout contains `FAIL  home`
    And stdout contains `a-file`

  @real @EH-012b
  Scenario: The doctor says why the hive does not start
    Given a port that another process listens on
    When I run `rbee-keeper --hive-port {port} doctor`
    Then the exit code is 1
    And stdout contains `node local: hive`
    And stdout contains `FAIL  api`
    And stdout contains `--hive-port PORT`

  @real @EH-010
  Scenario: The doctor for a node that is not registered
    When I run `rbee-keeper doctor --node attic`
    Then the exit code is 1
    And the error contains `attic`
