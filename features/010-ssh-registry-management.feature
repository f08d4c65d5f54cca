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

  Scenario: A machine is not added under a second name
    Given the machine box with an SSH server
    When I run `rbee-keeper node add box`
    Then the exit code is 0
    When I run `rbee-keeper node add crate --host box`
    Then the exit code is 1
    And stderr contains `of node box, not the hive of node crate`
    And stderr contains `choose another directory with `--dir DIR``
    And the file `{home}/keys/node-crate.token` does not exist
    When I run `rbee-keeper node list`
    Then stdout does not contain `crate`
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0

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

  Scenario: A machine that the queen cannot reach joins with an invitation
    When I run `rbee-keeper node invite laptop --expires 10m --to {dir}/invitation`
    Then the exit code is 0
    And stdout contains `invited one machine to become node laptop`
    And stdout contains `rbee-hive join --queen http://127.0.0.1:`
    And stdout contains `start it with `queen-rbee --bind ADDRESS --api-key-file FILE``
    And stdout does not contain `rbee-invitation`
    When I run `rbee-keeper node invitations`
    Then stdout contains `laptop`
    When laptop is invited
    And laptop joins
    And I run `rbee-keeper node list`
    Then stdout contains `laptop  joined  `
    And stdout contains `reachable`
    When I run `rbee-keeper node invitations`
    Then stdout contains `no invitations`
    When I run `rbee-keeper infer hello --node laptop --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node laptop`
    And the workers of laptop send heartbeats
    And nothing of laptop listens beyond the loopback interface
    And the invitation of laptop is nowhere but in its file
    And the token of laptop is nowhere in `{dir}`

  Scenario: Requests, heartbeats and copies share one connection
    Given the joined node laptop
    When I run `rbee-keeper infer "count" --model mock:slots=4,length=20 --node laptop`
    Then the exit code is 0
    When I start `rbee-keeper infer "count" --model mock:slots=4,length=20,tokens_per_second=10 --node laptop` as first
    And I start `rbee-keeper infer "count" --model mock:slots=4,length=20,tokens_per_second=10 --node laptop` as second
    Then first exits
    And the exit code is 0
    And second exits
    And the exit code is 0
    And laptop has 1 connection to the queen

  Scenario: An invitation stays valid if the file of the next one cannot be created
    Given a running queen
    When I run `rbee-keeper node invite laptop --to {dir}/invitation`
    And I run `rbee-keeper node invite laptop --to {dir}/invitation`
    Then the exit code is 2
    And stderr contains `File exists`
    When I run `rbee-keeper node invitations`
    Then stdout contains `laptop`
    When I run `rbee-keeper node invite laptop --to {dir}/none/invitation`
    Then the exit code is 2
    When I run `rbee-keeper node invitations`
    Then stdout contains `laptop`

  Scenario: An invitation is used once
    Given the joined node laptop
    When I run `rbee-hive --home {dir}/other --port 0 join --queen {queen_https} --token-file {laptop_invitation}`
    Then the exit code is 1
    And stderr contains `error: this machine did not join: the invitation for node laptop was used by another machine`
    And stderr contains `rbee-keeper node invite NAME`
    When I run `rbee-keeper node invite laptop`
    Then the exit code is 1
    And stderr contains `error: node laptop exists already`

  Scenario: An invitation that is revoked, replaced, expired or damaged is refused
    Given an invitation for laptop
    When I run `rbee-keeper node uninvite laptop`
    Then the exit code is 0
    And stdout contains `revoked the invitation for node laptop`
    When I run `rbee-keeper node uninvite laptop`
    Then the exit code is 1
    And stderr contains `there is no invitation for node laptop that can be used`
    When I run `rbee-hive --home {dir}/laptop --port 0 join --queen {queen_https} --token-file {laptop_invitation}`
    Then the exit code is 1
    And stderr contains `the invitation is not valid: it was revoked or replaced, or it is for another queen`
    When I run `rbee-keeper node invite laptop --expires 1s --to {dir}/short`
    And the invitation for laptop has expired
    And I run `rbee-hive --home {dir}/laptop --port 0 join --queen {queen_https} --token-file {dir}/short`
    Then the exit code is 1
    And stderr contains `the invitation for node laptop expired at`
    When the file `{dir}/damaged` holds
      """
      rbee-invitation.0123
      """
    And I run `rbee-hive --home {dir}/laptop --port 0 join --queen {queen_https} --token-file {dir}/damaged`
    Then the exit code is 2
    And stderr contains `error: the text is not an invitation`
    And stderr does not contain `0123`
    When I run `rbee-keeper node list`
    Then stdout does not contain `laptop`

  Scenario: A secret is sent only to the queen of the invitation, and never unencrypted to another machine
    Given an invitation for laptop
    And another queen
    When I run `rbee-hive --home {dir}/laptop --port 0 join --queen {other_https} --token-file {laptop_invitation}`
    Then the exit code is 1
    And stderr contains `it has another certificate than the one that is expected`
    When I run `rbee-hive --home {dir}/laptop --port 0 join --queen http://192.0.2.1:8500 --token-file {laptop_invitation}`
    Then the exit code is 2
    And stderr contains `error: the connection to http://192.0.2.1:8500 would not be encrypted`
    When laptop joins
    Then node laptop is reachable

  Scenario: A node with the name exists when the invitation is used
    Given an invitation for attic
    And the node attic
    When I run `rbee-hive --home {dir}/laptop --port 0 join --queen {queen_https} --token-file {attic_invitation}`
    Then the exit code is 1
    And stderr contains `node attic exists already`

  Scenario: A hive that has joined connects again by itself, and its workers keep running
    Given the joined node laptop
    And I ran `rbee-keeper infer hello --node laptop --max-tokens 1`
    When I note the `llm-cpu-worker-rbee` processes
    And the hive of laptop is killed
    Then node laptop is unreachable
    When I run `rbee-keeper infer hello --node laptop --max-tokens 1`
    Then the exit code is 1
    And stderr contains `node laptop is not connected: the connection was interrupted`
    When I run `rbee-keeper infer hello --node laptop --model mock:length=1`
    Then the exit code is 1
    And stderr contains `error: node laptop is not connected`
    And stderr contains `start `rbee-hive` on the machine of laptop`
    When the hive of laptop is started again
    Then node laptop is reachable
    When I run `rbee-keeper infer hello --node laptop --max-tokens 1`
    Then the exit code is 0
    And the same `llm-cpu-worker-rbee` processes run

  Scenario: A node returns to a queen that was restarted
    Given the joined node laptop
    And I ran `rbee-keeper infer hello --node laptop --max-tokens 1`
    When I note the `llm-cpu-worker-rbee` processes
    And the queen is killed
    And I run `rbee-keeper queen start`
    Then the exit code is 0
    And node laptop is reachable
    When I run `rbee-keeper infer hello --node laptop --max-tokens 1`
    Then the exit code is 0
    And the same `llm-cpu-worker-rbee` processes run

  Scenario Outline: A connection that is <lost> returns, and nothing is restarted
    Given the joined node laptop behind a network path
    When I start `rbee-keeper infer "count" --model mock:tokens_per_second=1,length=100 --node laptop` as client
    And client has printed something to stdout
    And I note the processes of laptop
    And the network path is <lost>
    Then client exits
    And the exit code is 1
    And stderr contains `node laptop`
    And node laptop is unreachable
    When the network path is open
    Then node laptop is reachable
    And the same processes of laptop run
    When I run `rbee-keeper infer "count" --model mock:tokens_per_second=1,length=100 --node laptop --max-tokens 1`
    Then the exit code is 0
    And the same processes of laptop run

    Examples:
      | lost   |
      | cut    |
      | silent |

  Scenario: A machine whose node was removed is refused, and can be invited again
    Given the joined node laptop
    When I run `rbee-keeper node remove laptop`
    Then the exit code is 0
    And hive_laptop exits
    And the exit code is 1
    And stderr contains `node laptop was removed`
    And stderr contains `rbee-hive leave`
    When I run `rbee-hive --home {dir}/laptop --port 0`
    Then the exit code is 1
    And stderr contains `node laptop was removed`
    When laptop is invited
    And laptop joins
    Then node laptop is reachable

  Scenario: A machine leaves
    Given the joined node laptop
    When hive_laptop gets SIGTERM
    Then hive_laptop exits
    When I run `rbee-hive --home {dir}/laptop leave`
    Then the exit code is 0
    And the file `{dir}/laptop/keys/node-joined.token` does not exist
    When I start `rbee-hive --home {dir}/laptop --port 0` as alone
    And alone has printed `serving`
    Then node laptop is unreachable

  Scenario: A joined node is neither updated nor installed by the queen
    Given the joined node laptop
    When I run `rbee-keeper node update laptop --host 192.0.2.1`
    Then the exit code is 1
    And stderr contains `error: node laptop connects to the queen by itself: there is nothing to change`
    When I run `rbee-keeper node upgrade laptop`
    Then the exit code is 1
    And stderr contains `the queen does not manage the software of node laptop`

  Scenario: A hive with another interface version is refused with both versions
    Given the joined node laptop
    When a hive with interface version 0 connects with the token of laptop
    Then the response status is 409
    And the response's error code is VERSION_INCOMPATIBLE
    And the response's error message contains `the hive is version 0.0.1 (interface 0)`
    And the response's error message contains `(interface 1)`

  Scenario: A hive that listens on an address is reached with TLS, and its workers through it
    Given the machine barn with a hive for other machines
    When I run `rbee-keeper node add barn --url {barn_https} --hive-token-file {barn_token}`
    Then the exit code is 1
    And stderr contains `requires the fingerprint of its certificate`
    When I run `rbee-keeper node add barn --url {barn_https} --hive-token-file {barn_token} --certificate 0000000000000000000000000000000000000000000000000000000000000000`
    Then the exit code is 1
    And stderr contains `it has another certificate than the one that is expected`
    When I run `rbee-keeper node add barn --url {barn_https} --hive-token-file {barn_token} --certificate {barn_certificate}`
    Then the exit code is 0
    And stdout contains `status      reachable`
    And node barn is reachable
    When I run `rbee-keeper infer hello --node barn --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node barn`
    And the workers of barn send heartbeats
    When I note the `llm-cpu-worker-rbee` processes
    And the hive of barn is killed
    Then node barn is unreachable
    When the machine barn is switched on
    Then node barn is reachable
    When the queen is killed
    And I run `rbee-keeper queen start`
    Then node barn is reachable
    When I run `rbee-keeper infer hello --node barn --max-tokens 1`
    Then the exit code is 0
    And the same `llm-cpu-worker-rbee` processes run

  Scenario: A machine is not reached without encryption unless the user permits it
    When I run `rbee-keeper node add far --url http://192.0.2.1:9200 --queen-url http://192.0.2.2:8500 --hive-token-file {home}/keys/queen.token`
    Then the exit code is 1
    And stderr contains `error: the connection to node far at http://192.0.2.1:9200 would not be encrypted`
    And stderr contains `--url https://192.0.2.1:9200 --certificate FINGERPRINT`
