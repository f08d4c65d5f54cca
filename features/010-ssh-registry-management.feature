@real
Feature: SSH registry management
  The queen stores the machines that run workers. The nodes of these scenarios are hives of their
  own homes, which the queen reaches by their addresses.

  Background:
    Given a running queen

  Scenario: Add a node
    Given the machine attic with a hive
    When I run `rbee-keeper node add attic --url {attic_url} --hive-token-file {attic_token}`
    Then the exit code is 0
    And stderr contains `queen: calling the hive at {attic_url}`
    And stdout contains `added node attic`
    And stdout contains `direct {attic_url}`
    And stdout contains `CPU-0`
    And node attic is reachable
    When I run `rbee-keeper node list`
    Then stdout contains `attic  direct  {attic_url}  reachable`
    And stdout contains `local  local`
    When I run `rbee-keeper --json node show attic`
    Then stdout is 1 JSON document
    And stdout contains `"link": "direct"`
    And stdout contains `"url": "{attic_url}"`
    And stdout does not contain `token`

  Scenario: Nodes outlive the queen
    Given the node attic
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    When I run `rbee-keeper queen start`
    Then the exit code is 0
    And node attic is reachable
    When I run `rbee-keeper infer hello --node attic --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node attic`

  Scenario: A node that cannot be reached is not added
    Given the machine attic with a hive
    When the machine attic is switched off
    And I run `rbee-keeper node add attic --url {attic_url} --hive-token-file {attic_token}`
    Then the exit code is 1
    And stderr contains `error: node attic is not reachable: the hive at {attic_url} does not respond`
    And stderr contains `hint: start its hive on that machine: `rbee-hive --hive-id attic --port {attic_port}``
    When I run `rbee-keeper node list`
    Then stdout does not contain `attic`
    And the file `{home}/keys/node-attic.token` does not exist

  Scenario Outline: A hive that does not fit is not added, <what>
    Given the machine attic with a hive
    And the file `{dir}/other.token` holds
      """
      0123456789abcdef0123456789abcdef
      """
    When I run `rbee-keeper node add <name> --url {attic_url} <token>`
    Then the exit code is 1
    And stderr contains `<error>`
    When I run `rbee-keeper node list`
    Then stdout does not contain `<name>`

    Examples:
      | what                    | name  | token                                             | error                                                         |
      | the name of another one | shed  | --hive-token-file {attic_token}                   | belongs to the node attic, not to shed                        |
      | a wrong token           | attic | --hive-token-file {dir}/other.token               | does not accept the token of node attic                       |
      | the queen's own token   | attic | --hive-token-file {home}/keys/node-local.token    | node attic has the token of node local: every node needs its own |
      | no token                | attic |                                                   | requires the token of its hive                                |

  @EH-011a
  Scenario: A key file that does not exist is found before anything is sent
    When I run `rbee-keeper node add attic --host 192.0.2.1 --key {dir}/none`
    Then the exit code is 2
    And stderr contains `error: the key file {dir}/none does not exist`
    And stderr does not contain `queen:`

  @EH-011b
  Scenario: A name that exists is refused with the commands that change it
    Given the node attic
    When I run `rbee-keeper node add attic --url http://127.0.0.1:1 --hive-token-file {attic_token}`
    Then the exit code is 1
    And stderr contains `error: node attic exists already`
    And stderr contains ``rbee-keeper node update attic` changes it, `rbee-keeper node remove attic` removes it`
    When I run `rbee-keeper node add local`
    Then the exit code is 1
    And stderr contains `the node local is the machine of the queen`

  Scenario: An update is tested first and replaces the address
    Given the node attic
    When I run `rbee-keeper node update attic --url http://127.0.0.1:1`
    Then the exit code is 1
    And stderr contains `node attic is not reachable`
    When I run `rbee-keeper node show attic`
    Then stdout contains `direct {attic_url}`
    When I run `rbee-keeper node update attic --queen-url http://127.0.0.1:9`
    Then the exit code is 0
    When I run `rbee-keeper --json node show attic`
    Then stdout contains `"url": "{attic_url}"`
    And stdout contains `"queen_url": "http://127.0.0.1:9"`
    When I run `rbee-keeper node update nowhere --url {attic_url}`
    Then the exit code is 1
    And stderr contains `node nowhere does not exist`

  Scenario: A removed node is forgotten, and its hive keeps running
    Given the node attic
    When I run `rbee-keeper node remove attic`
    Then the exit code is 0
    And stdout contains `removed node attic`
    And the file `{home}/keys/node-attic.token` does not exist
    And 2 `rbee-hive` processes run
    When I run `rbee-keeper node list`
    Then stdout does not contain `attic`
    When I run `rbee-keeper node remove attic`
    Then the exit code is 1
    And stderr contains `node attic does not exist`
    When I run `rbee-keeper node remove local`
    Then the exit code is 1
    And stderr contains `the node local is the machine of the queen`

  Scenario: A node with workers is removed only if forced
    Given the node attic
    And I ran `rbee-keeper infer hello --node attic --max-tokens 1`
    When I run `rbee-keeper node remove attic`
    Then the exit code is 1
    And stderr contains `error: node attic is in use: worker haiku-0 (builtin:haiku)`
    And stderr contains `rbee-keeper node remove attic --force`
    When I run `rbee-keeper node remove attic --force`
    Then the exit code is 0
    And 0 workers are running on attic
    When I run `rbee-keeper status`
    Then stdout contains `no deployments`
    And stdout contains `no workers`
    And stdout does not contain `attic`

  @EH-010
  Scenario: Inference on a node that is not registered names the command that adds it
    When I run `rbee-keeper infer hello --node garage`
    Then the exit code is 1
    And stderr contains `error: node garage does not exist`
    And stderr contains `hint: `rbee-keeper node add garage` adds it`

  @EH-002a
  Scenario: Inference on a node that is down names the node and the cause
    Given the node attic
    When the machine attic is switched off
    Then node attic is unreachable
    When I run `rbee-keeper infer hello --node attic`
    Then the exit code is 1
    And stderr contains `error: node attic is not reachable: the hive at {attic_url}`
    When I run `rbee-keeper infer hello --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node local`
    When the machine attic is switched on
    Then node attic is reachable

  Scenario: Tokens are in no file but the keys, and in no output
    Given the node attic
    And I ran `rbee-keeper infer hello --node attic --max-tokens 1`
    When I run `rbee-keeper --json status`
    Then stdout does not contain `token_`
    And the token of attic is nowhere in `{dir}`

  Scenario: Calls that need the files of a machine are refused for a direct link
    Given the node attic
    When I run `rbee-keeper node install attic`
    Then the exit code is 1
    And stderr contains `the queen does not manage the software of node attic`
    When I run `rbee-keeper node logs attic`
    Then the exit code is 1
    When I run `rbee-keeper node logs local`
    Then the exit code is 0
    And stdout contains `serving url="http://127.0.0.1:`

  Scenario: The other names of the commands
    Given the machine attic with a hive
    When I run `rbee-keeper setup add-node attic --url {attic_url} --hive-token-file {attic_token}`
    Then the exit code is 0
    When I run `rbee-keeper setup list-nodes`
    Then stdout contains `attic`
    When I run `rbee-keeper setup remove-node attic`
    Then the exit code is 0

  Scenario: Add a machine by its SSH server
    Given the machine box with an SSH server
    When I run `rbee-keeper node add box --no-install`
    Then the exit code is 0
    And stderr contains `Connecting to box by SSH (attempt 1 of 3).`
    And stdout contains `added node box`
    And stdout contains `CPU-0`
    When I run `rbee-keeper --json node show box`
    Then stdout contains `"link": "ssh"`
    And stdout contains `"host": "box"`
    And stdout does not contain `token`
    And the user's known hosts of box are unchanged

  Scenario: Removing a machine that is reached by SSH leaves no file of it
    Given the node box, reached by SSH
    Then the file `{home}/run/queen-port-box` exists
    When I run `rbee-keeper node remove box`
    Then the exit code is 0
    And the file `{home}/run/queen-port-box` does not exist
    And the file `{home}/keys/node-box.token` does not exist
    And no SSH connection is left

  @EH-001a
  Scenario: A machine that cannot be reached is not added
    Given the machine box with an SSH server
    And the SSH server of box refuses connections
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And stderr contains `(attempt 1 of 3)`
    And stderr contains `(attempt 3 of 3)`
    And stderr contains `error: no SSH connection to box: `
    And stderr contains `hint: check host, name and port`
    When I run `rbee-keeper node list`
    Then stdout does not contain `box`
    And the file `{home}/keys/node-box.token` does not exist

  @EH-001b
  Scenario: A login that is refused is not tried again
    Given the machine box with an SSH server
    And the SSH server of box accepts no key
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And stderr contains `(attempt 1 of 3)`
    And stderr does not contain `(attempt 2 of 3)`
    And stderr contains `error: box refused the login`
    And stderr contains `ssh-add -l`
    When I run `rbee-keeper node list`
    Then stdout does not contain `box`

  Scenario: An unknown host key is refused with its fingerprint, and can be accepted
    Given the machine box with an SSH server
    And the host key of box is not known
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And stderr contains `error: the host key of box is not known: {box_host_key}`
    And stderr contains `--accept-host-key {box_host_key}`
    When I run `rbee-keeper node add box --no-install --accept-host-key SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA`
    Then the exit code is 1
    And stderr contains `the host key of box is {box_host_key}, not SHA256:AAAA`
    When I run `rbee-keeper node add box --no-install --accept-host-key {box_host_key}`
    Then the exit code is 0
    And the user's known hosts of box are empty

  Scenario: A host key that has changed is refused
    Given the machine box with an SSH server
    And the SSH server of box has another host key
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And stderr contains `error: the host key of box has changed to SHA256:`

  # The ways that the user's SSH configuration describes

  Scenario: A machine behind two jump hosts serves
    Given the machine gate with an SSH server
    And the machine hall with an SSH server
    And the machine cellar with an SSH server, reached through gate and hall
    When I run `rbee-keeper node add cellar`
    Then the exit code is 0
    When I run `rbee-keeper infer hello --node cellar --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node cellar`
    And 2 programs of cellar are running
    And 0 programs of hall are running
    And the SSH server of gate has 1 connection
    And the SSH server of hall has 1 connection
    And the home directory of gate contains nothing
    And the home directory of hall contains nothing

  @EH-001a
  Scenario: A jump host that cannot be reached is named
    Given the machine gate with an SSH server
    And the machine hall with an SSH server
    And the machine cellar with an SSH server, reached through gate and hall
    And the SSH server of hall refuses connections
    When I run `rbee-keeper node add cellar`
    Then the exit code is 1
    And stderr contains `error: no SSH connection to cellar: its jump host hall failed: `
    And stderr contains `hint: check that the jump host is on`
    When the SSH connections to gate are cut and refused
    And I run `rbee-keeper node add cellar`
    Then the exit code is 1
    And stderr contains `error: no SSH connection to cellar: its jump host gate failed: `

  @EH-001a
  Scenario: A machine that its jump host cannot reach is named
    Given the machine gate with an SSH server
    And the machine cellar with an SSH server, reached through gate
    And the SSH server of gate has the option `AllowTcpForwarding no`
    When I run `rbee-keeper node add cellar`
    Then the exit code is 1
    And stderr contains `error: no SSH connection to cellar: its jump host gate cannot reach the next host: channel 0: open failed: administratively prohibited`

  @EH-001b
  Scenario: A jump host that refuses the login is named
    Given the machine gate with an SSH server
    And the machine cellar with an SSH server, reached through gate
    And the SSH server of gate accepts no key
    When I run `rbee-keeper node add cellar`
    Then the exit code is 1
    And stderr contains `error: gate, the jump host of cellar, refused the login: `
    And stderr does not contain `(attempt 2 of 3)`

  Scenario: A jump host whose key is not known is named
    Given the machine gate with an SSH server
    And the machine cellar with an SSH server, reached through gate
    And the host key of gate is not known
    When I run `rbee-keeper node add cellar`
    Then the exit code is 1
    And stderr contains `error: the host key of gate, the jump host of cellar, is not known`

  Scenario: A jump host that goes away is named, and nothing is restarted when it returns
    Given the machine gate with an SSH server
    And the machine cellar with an SSH server, reached through gate
    And I ran `rbee-keeper node add cellar`
    And I ran `rbee-keeper infer hello --node cellar --max-tokens 1`
    And the pid of the hive on cellar is noted
    When the SSH connections to gate are cut and refused
    Then node cellar is unreachable
    And the last error of node cellar contains `its jump host gate failed`
    When the SSH server of gate accepts connections again
    Then node cellar is reachable
    And the hive on cellar has the noted pid
    And 2 programs of cellar are running

  Scenario: The configuration can include files and match hosts
    Given the machine box with an SSH server
    And the SSH configuration is moved to `{dir}/included`
    And the SSH configuration is
      """
      Match originalhost attic exec "true"
        HostName 127.0.0.1
        Port {box_ssh_port}
        IdentityFile {box_ssh_key}
        UserKnownHostsFile {box_known_hosts}
      Match originalhost shed exec "sleep 60"
        HostName 127.0.0.1
      Match all
        Include {dir}/included
      """
    When I run `rbee-keeper node add attic --no-install`
    Then the exit code is 0
    When I run `rbee-keeper node add box --no-install`
    Then the exit code is 0
    When I run `rbee-keeper node add shed --no-install`
    Then the exit code is 1
    And stderr contains `error: ssh did not evaluate its configuration within 10 s`

  Scenario: A configuration that is wrong is named with its line
    Given the SSH configuration is
      """
      Host box
        Prot 22
      """
    When I run `rbee-keeper node add box --no-install`
    Then the exit code is 1
    And stderr contains `error: ssh does not accept its configuration: `
    And stderr contains `bad configuration options`

  Scenario: The key can be held by an agent
    Given the machine box with an SSH server
    And an SSH agent with 0 useless keys
    And only the agent has the SSH key of box
    And I ran `rbee-keeper queen stop`
    When I run `rbee-keeper node add box --no-install`
    Then the exit code is 0

  @EH-001b
  Scenario: An agent with many keys does not prevent a login with a key that is named
    Given the machine box with an SSH server
    And an SSH agent with 7 useless keys
    And the SSH configuration is
      """
      Host *
        UserKnownHostsFile {box_known_hosts}
        GlobalKnownHostsFile /dev/null
      """
    And I ran `rbee-keeper queen stop`
    When I run `rbee-keeper node add box --no-install --host 127.0.0.1 --port {box_ssh_port}`
    Then the exit code is 1
    And stderr contains `Too many authentication failures`
    When I run `rbee-keeper node add box --no-install --host 127.0.0.1 --port {box_ssh_port} --key {box_ssh_key}`
    Then the exit code is 0

  @EH-001b
  Scenario: A key with a passphrase needs an agent, and nobody is asked for it
    Given the machine box with an SSH server
    And the SSH key of box has a passphrase
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And stderr contains `error: box refused the login`
    And stderr contains `the key {box_ssh_key} has a passphrase, which nobody is asked for`
    And stderr contains `ssh-add {box_ssh_key}`
    Given the SSH configuration is
      """
      Host *
        UserKnownHostsFile {box_known_hosts}
        GlobalKnownHostsFile /dev/null
      """
    When I run `rbee-keeper node add box --host 127.0.0.1 --port {box_ssh_port} --key {box_ssh_key}`
    Then the exit code is 1
    And stderr contains `ssh-add {box_ssh_key}`

  @ipv6
  Scenario: A machine is reached by an IPv6 address
    Given the machine box with an SSH server on the IPv6 loopback interface
    And the SSH configuration is
      """
      Host *
        UserKnownHostsFile {box_known_hosts}
        GlobalKnownHostsFile /dev/null
      """
    When I run `rbee-keeper node add box --no-install --host ::1 --port {box_ssh_port} --key {box_ssh_key}`
    Then the exit code is 0
    When I run `rbee-keeper node show box`
    Then stdout contains `::1`

  Scenario Outline: A value that a shell or ssh would execute is refused, <option>
    When I run `rbee-keeper node add box "<option>=<value>"`
    Then the exit code is 2
    And the file `{dir}/executed` does not exist
    When I run `rbee-keeper node list`
    Then stdout does not contain `box`

    Examples:
      | option            | value                              |
      | --host            | -oProxyCommand=touch {dir}/executed |
      | --host            | a;touch {dir}/executed             |
      | --host            | $(touch {dir}/executed)            |
      | --user            | -oProxyCommand=touch {dir}/executed |
      | --dir             | ../executed                        |
      | --accept-host-key | SHA256:$(touch {dir}/executed)     |
