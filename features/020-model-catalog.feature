@real
Feature: Models by name, fetched once, verified, kept
  The keeper, the queen and the hive with real model files. The hub is simulated.

  # Names

  Scenario: A model that is not on a node is refused with the command that fetches it
    Given a running queen
    When I POST to `/v1/chat/completions` of the queen
      """
      {"model": "hf:org/absent", "messages": [{"role": "user", "content": "Hi"}]}
      """
    Then the response status is 404
    And the response contains `rbee-keeper model pull hf:org/absent`

  Scenario: An alias stands for its model everywhere
    Given a running queen
    When I run `rbee-keeper model alias small builtin:haiku@q8_0`
    Then stdout contains `small stands for builtin:haiku@q8_0`
    When I run `rbee-keeper infer --model small --max-tokens 1 Hi`
    Then the exit code is 0
    When I run `rbee-keeper model show small`
    Then stdout contains `builtin:haiku@q8_0`
    When I POST to `/v1/chat/completions` of the queen
      """
      {"model": "small", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
      """
    Then the response status is 200
    When I GET `/api/tags` from the queen
    Then the response contains `"name":"small"`
    When I run `rbee-keeper model alias small --remove`
    And I run `rbee-keeper infer --model small Hi`
    Then the exit code is 1

  Scenario: An alias cannot take the name of a built-in model
    Given a running queen
    When I run `rbee-keeper model alias haiku hf:org/repo`
    Then the exit code is 1
    And the error contains `haiku is the reference or the name of a built-in model`

  # Files of the user

  Scenario: A file of the user is remembered, and noticed when it is replaced while loaded
    Given a running queen
    And a copy of the embedded model in q8_0 as `{dir}/own.gguf`
    When I run `rbee-keeper infer --model own.gguf --max-tokens 1 Hi`
    And I run `rbee-keeper model list`
    Then stdout contains `own.gguf`
    And stdout does not contain `was replaced`
    When a copy of the embedded model in f16 replaces `{dir}/own.gguf`
    And I run `rbee-keeper model list`
    Then stdout contains `its file was replaced after a worker loaded it`

  Scenario: A model in use is not removed, and a file of the user stays on disk
    Given a running queen
    And a copy of the embedded model in q8_0 as `{dir}/own.gguf`
    When I run `rbee-keeper infer --model own.gguf --max-tokens 1 Hi`
    And I run `rbee-keeper model remove own.gguf`
    Then the exit code is 1
    And the error contains `is in use by own-0`
    And the hint contains `rbee-keeper worker stop own-0`
    When I run `rbee-keeper worker stop own-0`
    And I run `rbee-keeper model remove own.gguf`
    Then stdout contains `its files stay on disk`
    And the file `{dir}/own.gguf` exists

  # The database

  Scenario: A damaged database is set aside, reported and rebuilt
    Given a running queen
    And I ran `rbee-keeper queen stop`
    When the database of models is damaged
    And I run `rbee-keeper queen start`
    And I run `rbee-keeper model list`
    Then stderr contains `was damaged and is now`
    And stdout contains `builtin:haiku`
    And a damaged database of models is kept under another name

  Scenario: A backup restores the aliases
    Given a running queen
    And I ran `rbee-keeper model alias small builtin:haiku`
    And I ran `rbee-keeper model backup {dir}/copy.db`
    And I ran `rbee-keeper model alias small --remove`
    When I run `rbee-keeper model restore {dir}/copy.db`
    And I run `rbee-keeper model alias`
    Then stdout contains `builtin:haiku`

  # Ollama's API

  Scenario: Ollama's clients copy and delete names
    Given a running queen
    When I POST to `/api/copy` of the queen
      """
      {"source": "haiku", "destination": "mine"}
      """
    Then the response status is 200
    When I POST to `/api/show` of the queen
      """
      {"model": "mine"}
      """
    Then the response's `/model_info/general.architecture` is `llama`

  # The hub

  Scenario: A missing model is fetched once, and found next time
    Given a model hub with the repository org/repo
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    And stdout contains `fetched hf:org/repo`
    And stderr contains `download: 100 %`
    When I run `rbee-keeper pull hf:org/repo`
    Then stdout contains `is already on the node`
    And there is 1 model directory
    When I run `rbee-keeper infer --model hf:org/repo --max-tokens 1 Hi`
    Then the exit code is 0

  Scenario: `infer` fetches a model that is missing
    Given a model hub with the repository org/repo
    When I run `rbee-keeper infer --model hf:org/repo --max-tokens 1 Hi`
    Then the exit code is 0
    And there is 1 model directory

  Scenario: Downloads use the proxy of the environment, and calls on this machine do not
    Given a model hub with the repository org/repo
    And the hub is behind a proxy
    When I run `rbee-keeper infer --model hf:org/repo --max-tokens 1 Hi`
    Then the exit code is 0
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    When the hub's proxy is gone
    And I run `rbee-keeper infer --model hf:org/repo --max-tokens 1 Hi`
    Then the exit code is 0

  Scenario: A request fetches a missing model where the operator allows it
    Given a model hub with the repository org/repo
    And I started `queen-rbee --port 0 --hive-port 0 --worker-ports 0 --auto-pull` as queen
    When queen has printed `the queen is ready`
    And I POST to `/v1/chat/completions` of the queen
      """
      {"model": "hf:org/repo", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
      """
    Then the response status is 200
    And there is 1 model directory

  Scenario: A model is shown without a download
    Given a model hub with the repository org/repo
    And a running queen
    When I run `rbee-keeper model show hf:org/repo`
    Then stdout contains `2.9M`
    And stdout contains `no; `rbee-keeper pull` fetches it`
    And stdout contains `2.0 KiB in f16`
    And stdout contains `The longest context in tokens, by type of the KV cache`
    And stdout contains `local  CPU-0`
    And there are 0 model directories

  @EH-007a
  Scenario: A repository that does not exist
    Given a model hub with the repository org/repo
    And a running queen
    When I run `rbee-keeper pull hf:org/missing`
    Then the exit code is 1
    And the error contains `org/missing`
    And there are 0 model directories

  @EH-007b
  Scenario Outline: A <access> repository names the token
    Given a model hub with the <access> repository org/repo
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 1
    And the hint contains `HF_TOKEN`

    Examples:
      | access  |
      | gated   |
      | private |

  @EH-008c
  Scenario: A damaged file is found and fetched again
    Given a model hub with the repository org/repo
    And a running queen
    And I ran `rbee-keeper pull hf:org/repo`
    When the last byte of the fetched weights is flipped
    And I run `rbee-keeper model verify hf:org/repo`
    Then the exit code is 1
    And stdout contains `damaged`
    And the error contains `are damaged or missing`
    When I run `rbee-keeper pull hf:org/repo`
    And I run `rbee-keeper model verify hf:org/repo`
    Then the exit code is 0

  @EH-008c
  Scenario: A file that arrives damaged is fetched again, and never registered
    Given a model hub with the repository org/repo
    And the hub's fault is `storage flip at 2500000 times 1`
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    When I run `rbee-keeper model verify hf:org/repo`
    Then the exit code is 0
    When the hub's fault is `storage flip at 2500000`
    And I run `rbee-keeper pull hf:org/repo:model-F16.gguf`
    Then the exit code is 1
    And the error contains `SHA-256`
    When I run `rbee-keeper model list --vendor hf`
    Then stdout does not contain `F16`

  @EH-008b
  Scenario: A transfer that breaks is continued
    Given a model hub with the repository org/repo
    And the hub's fault is `storage cut at 2500000 times 2 and storage status 503 at 2500000 times 2`
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    # The header, the file, and what the buffers of two interrupted connections hold. The file
    # twice would be more.
    And the hub has sent at most 5200000 bytes of large files

  @EH-008b
  Scenario: A transfer that fails six times keeps what it has
    Given a model hub with the repository org/repo
    And the hub's fault is `storage status 503 at 2500000`
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 1
    And the error contains `status 503`
    And the hint contains `rbee-keeper pull hf:org/repo`
    When the hub has no fault
    And I note what the hub has sent
    And I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    And the hub has sent at most 2200000 bytes of large files since

  @EH-008a
  Scenario: A transfer that stalls is continued
    Given a model hub with the repository org/repo
    And the variable RBEE_DOWNLOAD_STALL is `3`
    And the hub's fault is `storage stall at 2500000 times 2`
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    And the hub has sent at most 5200000 bytes of large files

  @EH-008a
  Scenario: A transfer that stalls again and again fails, and is continued later
    Given a model hub with the repository org/repo
    And the variable RBEE_DOWNLOAD_STALL is `1`
    And the hub's fault is `storage stall at 2500000`
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 1
    And the error contains `sent nothing for 1 s`
    And the hint contains `continues where it stopped`
    When the hub has no fault
    And I note what the hub has sent
    And I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    And the hub has sent at most 2200000 bytes of large files since

  @EH-006a
  Scenario: A model that the disk has no space for is refused before it is fetched
    Given a model hub with the repository org/repo
    And the variable RBEE_DISK_RESERVE is `0`
    And a running queen whose models are on a disk of 30000000 bytes
    When the disk of the models is filled
    And I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 1
    And the error contains `hf:org/repo:Q8_0 needs 3.0 MiB more, and the disk of`
    And the error contains ` has 0 B free`
    And the hint contains `rbee-keeper model prune`
    And the hub has sent at most 1050000 bytes of large files

  @EH-006b
  Scenario: A disk that fills up during a download ends it, and it is continued later
    Given a model hub with the repository org/repo
    And the hub's fault is `storage rate 300000`
    And the variable RBEE_DISK_RESERVE is `0`
    And a running queen whose models are on a disk of 40000000 bytes
    When I start `rbee-keeper pull hf:org/repo:model-F16.gguf` as pull
    And part of the weights is on disk
    And the disk of the models is filled
    Then pull exits
    And the exit code is 1
    And the error contains `No space left on device`
    And the hint contains `free space`
    When the disk of the models has space again
    And the hub has no fault
    And I run `rbee-keeper pull hf:org/repo:model-F16.gguf`
    Then the exit code is 0
    When I run `rbee-keeper model verify hf:org/repo:F16`
    Then the exit code is 0

  Scenario: A read-only disk is named
    Given a model hub with the repository org/repo
    And a running queen whose models are on a read-only disk
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 1
    And the error contains `/models/hf`
    And the error contains `Read-only file system`

  # Several callers

  Scenario: Callers of one model share its download, and those who leave do not end it
    Given a model hub with the repository org/repo
    And the hub's fault is `storage rate 400000`
    And a running queen
    When 20 callers pull hf:org/repo, 5 of which cancel and 5 leave in the middle
    Then each of the others has seen the progress to the end
    And there is 1 model directory
    And the hub has sent at most 4300000 bytes of large files

  Scenario: Ctrl+C ends the download of one user only
    Given a model hub with the repository org/repo
    And the hub's fault is `storage rate 400000`
    And a running queen
    When I start `rbee-keeper pull hf:org/repo` as one
    And I start `rbee-keeper pull hf:org/repo` as two
    And one has printed `download:`
    And two has printed `download:`
    And one gets SIGINT
    Then one exits
    And the exit code is 130
    And two exits
    And the exit code is 0
    And the hub has sent at most 4300000 bytes of large files

  Scenario: Hives that share the directory of models fetch a model once
    Given a model hub with the repository org/repo
    And the hub's fault is `storage rate 1000000`
    When two hives that share the directory of models pull hf:org/repo at the same time
    Then there is 1 model directory
    And the hub has sent at most 5400000 bytes of large files

  # The cache of the hub's tools

  Scenario: What the hub's tools have fetched is not fetched again
    Given a model hub with the repository org/repo
    And the hub's tools have fetched `model-Q8_0.gguf` of org/repo
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    And stderr contains `model-Q8_0.gguf is linked to {dir}/hf/hub/models--org--repo/blobs/`
    And the hub has sent at most 1050000 bytes of large files
    When I run `rbee-keeper model verify hf:org/repo`
    Then the exit code is 0

  Scenario: A damaged file of the hub's tools is not used
    Given a model hub with the repository org/repo
    And the hub's tools have damaged `model-Q8_0.gguf` of org/repo
    And a running queen
    When I run `rbee-keeper pull hf:org/repo`
    Then the exit code is 0
    And stderr contains `is not model-Q8_0.gguf, which is fetched`
    And stdout contains `fetched hf:org/repo`

  # Care

  Scenario: The catalog is rebuilt from the files on disk
    Given a model hub with the repository org/repo
    And a running queen
    And I ran `rbee-keeper pull hf:org/repo`
    And I ran `rbee-keeper queen stop`
    When the database of models is damaged
    And I run `rbee-keeper queen start`
    And I run `rbee-keeper model list --vendor hf`
    Then stdout contains `hf:org/repo`
    And stderr contains `rebuilt with 1 models`

  Scenario: Models are removed and pruned
    Given a model hub with the repository org/repo
    And a running queen
    And I ran `rbee-keeper pull hf:org/repo:model-Q8_0.gguf`
    And I ran `rbee-keeper pull hf:org/repo:model-F16.gguf`
    When I run `rbee-keeper model prune --max-size 6M`
    Then stdout contains `removed hf:org/repo`
    And there is 1 model directory
    When I run `rbee-keeper model prune --max-size 0`
    Then there are 0 model directories

  Scenario: Ollama's pull has Ollama's lines
    Given a model hub with the repository org/repo
    And a running queen
    When I POST to `/api/pull` of the queen
      """
      {"model": "hf:org/repo"}
      """
    Then the response contains `"status":"pulling manifest"`
    And the response contains `"digest":"sha256:`
    And the response contains `"status":"success"`
