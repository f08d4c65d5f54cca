@real
Feature: Hive lifecycle
  The queen installs, starts, watches and stops the hives of its nodes. The machines of these
  scenarios have nothing but OpenSSH's server, and a home directory of their own.

  Background:
    Given a running queen

  Scenario: A machine with nothing but an SSH server serves, and uninstalling leaves nothing
    Given the machine box with an SSH server
    When I run `rbee-keeper node add box`
    Then the exit code is 0
    And stderr contains `Copying rbee-hive`
    And stdout contains `added node box`
    And stdout contains `reachable`
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node box`
    And 2 programs of box are running
    And the programs of box listen on the loopback interface only
    And the home directory of box contains only `.rbee`
    When I run `rbee-keeper node uninstall box --models`
    Then the exit code is 0
    And stdout contains `removed the hive of node box`
    And 0 programs of box are running
    And the home directory of box contains nothing

  Scenario: A directory and a model with names that a shell would execute
    Given the machine box with an SSH server
    When I run `rbee-keeper node add box --dir "~/it's $(touch executed); touch executed #"`
    Then the exit code is 0
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    When I run `rbee-keeper infer hello --node box --model "file:/nowhere/$(touch executed); touch executed #.gguf"`
    Then the exit code is 1
    When I run `rbee-keeper infer hello --node box --model "hf:a/b;touch executed"`
    Then the exit code is 2
    And the home directory of box contains only `it's $(touch executed); touch executed #`
    And the file `{dir}/executed` does not exist
    When I run `rbee-keeper node uninstall box --models`
    Then the exit code is 0
    And the home directory of box contains nothing

  Scenario: Tokens and keys are in their files only
    Given the machine box with an SSH server
    And the processes of the queen and of box are watched
    When I run `rbee-keeper node add box --key {box_ssh_key}`
    Then the exit code is 0
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    When I run `rbee-keeper --json node show box`
    Then the exit code is 0
    And no secret of the queen or of box was shown

  @EH-001c
  Scenario: A hive that is not installed is named with the command that installs it
    Given the machine box with an SSH server
    When I run `rbee-keeper node add box --no-install`
    Then the exit code is 0
    And stderr contains `no hive is installed on node box`
    And the home directory of box contains nothing
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 1
    And stderr contains `error: no hive is installed on node box`
    And stderr contains `hint: `rbee-keeper node install box``
    When I run `rbee-keeper node install box`
    Then the exit code is 0
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0

  Scenario: A lost link returns, and nothing is restarted
    Given the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node box --max-tokens 1`
    And the pid of the hive on box is noted
    When the SSH connections to box are cut and refused
    Then node box is unreachable
    When I run `rbee-keeper infer hello --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node local`
    When the SSH server of box accepts connections again
    Then node box is reachable
    And the hive on box has the noted pid
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And 2 programs of box are running

  Scenario: A hive that is killed is replaced, and its worker keeps running
    Given the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node box --max-tokens 1`
    And the pid of the hive on box is noted
    When the hive on box is killed
    Then the hive on box has another pid
    And node box is reachable
    And 2 programs of box are running

  Scenario: The next queen uses the hive that is running
    Given the node box, reached by SSH
    And the pid of the hive on box is noted
    When the queen is killed
    And I run `rbee-keeper queen start`
    Then the exit code is 0
    And node box is reachable
    And the hive on box has the noted pid

  Scenario: Stopping the queen stops the hives and their workers
    Given the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node box --max-tokens 1`
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And stdout contains `stopped hive box`
    And 0 programs of box are running

  Scenario: The log of a hive is read through the queen
    Given the node box, reached by SSH
    When I run `rbee-keeper node logs box`
    Then the exit code is 0
    And stdout contains `serving`

  Scenario: An upgrade to the version that is installed keeps the node serving
    Given the node box, reached by SSH
    When I run `rbee-keeper node upgrade box`
    Then the exit code is 0
    And node box is reachable
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0

  Scenario: An upgrade replaces the hive and keeps its worker
    Given a queen with a release of its own
    And the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node box --max-tokens 1`
    And the pid of the hive on box is noted
    When the release is replaced by another build
    And I run `rbee-keeper node upgrade box`
    Then the exit code is 0
    And stderr contains `Replacing the running hive.`
    And stdout contains `upgraded the hive of node box`
    And stdout contains `reachable`
    And the hive on box has another pid
    And 2 programs of box are running
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And 2 programs of box are running

  Scenario: A machine of another platform builds rbee from a git repository
    Given the machine box with an SSH server
    And box has the processor riscv64
    And a git repository of rbee, and cargo on box
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And stderr contains `error: node box is Linux riscv64 with glibc `
    And stderr contains `, and this release is for linux `
    And stderr contains `rbee-keeper node update box --repository URL`
    When I run `rbee-keeper node add box --repository {repository} --branch main`
    Then the exit code is 0
    And stderr contains `Building main of {repository} on box with git version`
    And stderr contains `Built commit`
    And stderr does not contain `Copying`
    And stdout contains `reachable`
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    When I run `rbee-keeper node logs box --build`
    Then the exit code is 0
    And stdout contains `Compiling tiny`
    When I run `rbee-keeper --json node show box`
    Then stdout contains `"repository": "{repository}"`
    And stdout contains `"branch": "main"`
    When I run `rbee-keeper node uninstall box --models`
    Then the exit code is 0
    And the home directory of box contains nothing

  Scenario Outline: A repository that would be executed is refused, <option>
    When I run `rbee-keeper node add box "<option>=<value>"`
    Then the exit code is 2
    And the file `{dir}/executed` does not exist

    Examples:
      | option       | value                                |
      | --repository | ext::sh -c touch% {dir}/executed     |
      | --repository | --upload-pack=touch {dir}/executed   |
      | --repository | ssh://-oProxyCommand=touch/x         |
      | --repository | https://me:secret@example.org/x      |
      | --branch     | $(touch {dir}/executed)              |
      | --branch     | --upload-pack=touch                  |

  Scenario: systemd keeps the hive of a machine where that works without root
    Given the machine box with an SSH server
    And box has systemd, and lingering is allowed
    When I run `rbee-keeper node add box`
    Then the exit code is 0
    And stdout contains `by systemd, as rbee-hive.service of the user`
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And 2 programs of box are running
    Given the pid of the hive on box is noted
    When the hive on box is killed
    Then the hive on box has another pid
    And node box is reachable
    And 2 programs of box are running
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And 0 programs of box are running
    When I run `rbee-keeper queen start`
    Then node box is reachable
    When I run `rbee-keeper node uninstall box --models`
    Then the exit code is 0
    And 0 programs of box are running
    And the home directory of box contains nothing

  Scenario: A machine whose systemd needs root has its hive as a process
    Given the machine box with an SSH server
    And box has systemd, and lingering is denied
    When I run `rbee-keeper node add box`
    Then the exit code is 0
    And stdout contains `by the queen`
    And the home directory of box contains only `.rbee`

  Scenario: A hive that another queen started is named, and replaced by an upgrade
    Given the node box, reached by SSH
    And I ran `rbee-keeper infer hello --node box --max-tokens 1`
    When the queen is killed
    And the file `{home}/keys/node-box.token` holds
      """
      0123456789abcdef0123456789abcdef
      """
    And I run `rbee-keeper queen start`
    Then node box is unreachable
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 1
    And stderr contains `error: the hive of node box does not accept the token of this queen`
    And stderr contains `rbee-keeper node upgrade box`
    When I run `rbee-keeper node upgrade box`
    Then the exit code is 0
    And node box is reachable
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And 2 programs of box are running

  Scenario: A hive of this machine whose token was replaced is restarted
    Given I ran `rbee-keeper infer hello --max-tokens 1`
    When the queen is killed
    And the file `{home}/keys/node-local.token` holds
      """
      0123456789abcdef0123456789abcdef
      """
    And I run `rbee-keeper infer hello --max-tokens 1`
    Then the exit code is 0
    And 1 `rbee-hive` process runs
    And 1 `llm-cpu-worker-rbee` process runs
