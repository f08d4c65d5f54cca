@real
Feature: Sleeping nodes
  A node sleeps when a user wants it so, or when it had nothing to do for the time that the user has
  set. Magic packets wake it: for a user, and for requests and deployments that need it. The command
  that suspends the machines of these scenarios stops the process of their hive, and their network
  cards let it go on.

  Scenario: A user puts a node to sleep and wakes it
    Given a running queen
    And the machine attic can be suspended, and has the network card 52:54:00:12:34:56
    And packets for 52:54:00:12:34:56 wake the machine attic
    And the node attic
    And I ran `rbee-keeper node set attic --wake-address {attic_card}`
    And I ran `rbee-keeper infer hello --model mock:fast --node attic --max-tokens 1`
    When I run `rbee-keeper node sleep attic`
    Then the exit code is 0
    And stderr contains `node attic: stopping its workers`
    And stderr contains `node attic: suspending the machine`
    And stdout contains `node attic is asleep since 2`
    And the machine attic is suspended
    And 0 workers are running on attic
    When I run `rbee-keeper node list`
    Then stdout contains `asleep since 2`
    And stdout does not contain `LAST ERROR`
    When I run `rbee-keeper status`
    Then stdout contains `asleep since 2`
    And stdout does not contain `LAST ERROR`
    When I run `rbee-keeper pull mock:fast --node attic`
    Then the exit code is 1
    And the error contains `node attic is asleep since 2`
    And the hint contains `rbee-keeper node wake attic`
    When I run `rbee-keeper node wake attic`
    Then the exit code is 0
    And stderr contains `waking node attic: sending magic packets for 52:54:00:12:34:56`
    And stdout contains `node attic is reachable`
    And the machine attic is running
    When I run `rbee-keeper infer hello --model mock:fast --node attic --max-tokens 1`
    Then the exit code is 0

  Scenario: A request wakes the only node that can serve it, and is answered
    Given a running queen
    And the machine attic can be suspended, and has the network card 52:54:00:12:34:56
    And packets for 52:54:00:12:34:56 wake the machine attic
    And the node attic
    And I ran `rbee-keeper node set attic --wake-address {attic_card}`
    And I ran `rbee-keeper deploy mock:fast --node attic --min 0`
    And I ran `rbee-keeper node sleep attic`
    When I run `rbee-keeper infer hello --model mock:rare --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node local`
    And the machine attic is suspended
    When I run `rbee-keeper infer hello --model mock:fast --max-tokens 1`
    Then the exit code is 0
    And stderr contains `waiting for a node that is asleep to wake up`
    And stderr contains `waking node attic`
    And stderr contains `node attic`
    When I run `rbee-keeper why mock:fast`
    Then stdout contains `the node is asleep and has to be woken`
    And stdout contains `the node is asleep and is woken for it`

  Scenario: A deployment that needs a sleeping node wakes it
    Given a running queen
    And the machine attic can be suspended, and has the network card 52:54:00:12:34:56
    And packets for 52:54:00:12:34:56 wake the machine attic
    And the node attic
    And I ran `rbee-keeper node set attic --wake-address {attic_card}`
    And I ran `rbee-keeper node sleep attic`
    When I run `rbee-keeper deploy mock:fast --node attic`
    Then the exit code is 0
    And a worker runs on CPU-0 of attic
    When I run `rbee-keeper node sleep attic`
    Then the exit code is 0
    When I run `rbee-keeper deployments`
    Then stdout contains `it is not woken: node attic is`
    And the machine attic is suspended

  Scenario: A node without work goes to sleep by itself, and not while a request runs
    Given a running queen
    And the machine attic can be suspended, and has the network card 52:54:00:12:34:56
    And packets for 52:54:00:12:34:56 wake the machine attic
    And the node attic
    And I ran `rbee-keeper node set attic --wake-address {attic_card} --sleep-after 2s`
    When I run `rbee-keeper infer count --model mock:tokens_per_second=10,length=80 --max-tokens 80 --node attic`
    Then the exit code is 0
    And stderr contains `80 tokens`
    And stderr contains `node attic`
    And node attic is asleep
    And the machine attic is suspended
    When I run `rbee-keeper node show attic`
    Then stdout contains `, idle`
    And stdout contains `after 2s without work`
    And stdout does not contain `last error`
    When I run `rbee-keeper infer hello --model mock:fast --max-tokens 1 --node attic`
    Then the exit code is 0
    And the queen has logged no warning about attic

  Scenario: A request continues on another node when its node is put to sleep
    Given a running queen
    And the machine attic can be suspended, and has the network card 52:54:00:12:34:56
    And the node attic
    And I ran `rbee-keeper infer count --model mock:tokens_per_second=12,length=200`
    When I note the output as undisturbed
    And I run `rbee-keeper deploy mock:tokens_per_second=12,length=200 --node attic`
    Then a worker runs on CPU-0 of attic
    When I start `rbee-keeper infer count --model mock:tokens_per_second=12,length=200` as client
    And client has printed something to stdout
    And I run `rbee-keeper deploy mock:tokens_per_second=12,length=200`
    And I run `rbee-keeper node sleep attic --drain 0`
    Then the exit code is 0
    And client exits
    And the exit code is 0
    And the output equals the output noted as undisturbed

  Scenario: A machine that refuses to be suspended stays a node, and the refusal says why
    Given a running queen
    And the machine attic refuses to be suspended with exit status 7 and `Access denied`
    And the node attic
    And I ran `rbee-keeper node set attic --mac 52:54:00:12:34:56`
    When I run `rbee-keeper node sleep attic`
    Then the exit code is 1
    And the error contains `suspend-attic` failed (exit status: 7): `
    And the error contains `[31mAccess denied`
    And the hint contains `rbee-hive --suspend-command COMMAND`
    And node attic is reachable
    When I run `rbee-keeper infer hello --model mock:fast --node attic --max-tokens 1`
    Then the exit code is 0

  Scenario: A node whose network card is not known is not put to sleep, unless forced, and not woken
    Given a running queen
    And the machine attic can be suspended, and its network card is not known
    And the node attic
    When I run `rbee-keeper node sleep attic`
    Then the exit code is 1
    And the error contains `node attic is not put to sleep: node attic cannot be woken`
    And the hint contains `rbee-keeper node set attic --mac MAC`
    When I run `rbee-keeper node set attic --sleep-after 30m`
    Then the exit code is 1
    And the error contains `the MAC address of its network card is not known`
    When I run `rbee-keeper node sleep attic --force`
    Then the exit code is 0
    And the machine attic is suspended
    When I run `rbee-keeper node wake attic`
    Then the exit code is 1
    And the error contains `node attic cannot be woken`
    When I run `rbee-keeper infer hello --model mock:fast --node attic --max-tokens 1`
    Then the exit code is 1
    And the error contains `node attic is asleep since 2`
    When someone wakes the machine attic at its switch
    Then node attic is reachable

  Scenario: What is no address of a card, and the machine of the queen, are refused
    Given a running queen
    When I run `rbee-keeper node set attic --mac ff:ff:ff:ff:ff:ff`
    Then the exit code is 2
    And stderr contains `not a MAC address`
    And stderr contains `52:54:00:12:34:56`
    When I run `rbee-keeper node set attic --wake-address somewhere`
    Then the exit code is 2
    And stderr contains `not an address for magic packets`
    When I run `rbee-keeper node sleep local`
    Then the exit code is 1
    And the error contains `the node local is the machine of the queen`

  Scenario: A node that does not wake up refuses requests by name
    Given a queen that waits 3 s for nodes to wake up
    And the machine attic can be suspended, and has the network card 52:54:00:12:34:56
    And packets for 52:54:00:12:34:56 wake the machine attic
    And the node attic
    And I ran `rbee-keeper node set attic --wake-address {attic_card} --mac 52:54:00:00:00:01`
    And I ran `rbee-keeper node sleep attic`
    When I run `rbee-keeper infer hello --model mock:fast --node attic --max-tokens 1`
    Then the exit code is 1
    And the error contains `node attic did not wake up within 3 s`
    And the hint contains `ethtool`
    When I run `rbee-keeper node wake attic`
    Then the exit code is 1
    And stderr contains `sending packets again`
    And the error contains `node attic did not wake up within 3 s`
    When I run `rbee-keeper node set attic --mac auto`
    And I run `rbee-keeper node wake attic`
    Then the exit code is 0
    And node attic is reachable

  Scenario: A node that sleeps stays asleep when the queen is restarted
    Given a running queen
    And the machine attic can be suspended, and has the network card 52:54:00:12:34:56
    And packets for 52:54:00:12:34:56 wake the machine attic
    And the node attic
    And I ran `rbee-keeper node set attic --wake-address {attic_card}`
    And I ran `rbee-keeper node sleep attic`
    When the queen is killed
    And I run `rbee-keeper queen start`
    Then the exit code is 0
    And node attic is asleep
    When I run `rbee-keeper infer hello --model mock:fast --node attic --max-tokens 1`
    Then the exit code is 0
    And node attic is reachable

  Scenario: A machine that has joined connects again as soon as it is awake
    Given machines that join can be suspended
    And a running queen
    And the joined node attic
    And packets for 52:54:00:12:34:56 wake the machine attic
    And I ran `rbee-keeper node set attic --mac 52:54:00:12:34:56 --wake-address {attic_card}`
    When I run `rbee-keeper node sleep attic`
    Then the exit code is 0
    And the machine attic is suspended
    When I run `rbee-keeper infer hello --model mock:fast --node attic --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node attic`
