@real
Feature: Faults of the network
  The machines of these scenarios are in network namespaces. A wire leads to each, with the real
  protocols of the kernel, and loses or delays its packets: neither end notices a fault by anything
  but silence.

  Background:
    Given a running queen

  Scenario: A node needs its SSH server only, and no route to any other machine
    Given the machine box with an SSH server, at the end of a wire
    When I run `rbee-keeper node add box`
    Then the exit code is 0
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And 2 programs of box are running
    And other machines can reach only the SSH server of box
    When I run `rbee-keeper node uninstall box --models`
    Then the exit code is 0
    And 0 programs of box are running
    And the home directory of box contains nothing

  Scenario: Copying that a partition interrupts is completed by the next try
    Given the machine box with an SSH server, at the end of a wire
    And the wire to box has a delay of 50 ms and a loss of 0 %
    When I start `rbee-keeper node add box` as client
    And client has printed `Copying rbee-hive`
    And the wire to box is cut silently
    Then client exits
    And the exit code is 1
    And the error contains `box`
    And 0 programs of box are running
    When the wire to box is repaired
    And I run `rbee-keeper node add box`
    Then the exit code is 0
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And no half file is left on box

  Scenario: A node that became silent before a request: another one serves
    Given the node box, at the end of a wire
    And I ran `rbee-keeper infer hello --node box --temperature 0`
    When I note the output as undisturbed
    And the wire to box is cut silently
    And I run `rbee-keeper infer hello --temperature 0`
    Then the exit code is 0
    And the output equals the output noted as undisturbed
    And stderr contains `node local`
    And node box is unreachable
    And no request is running or waiting at the queen

  Scenario: A node that becomes silent during a stream: the request ends and names it
    Given the node box, at the end of a wire
    And box has the mock worker
    When I start `rbee-keeper infer "count" --node box --model mock:tokens_per_second=20,length=2000` as client
    And client has printed something to stdout
    And the wire to box is cut silently
    Then client exits within 40 s
    And the exit code is 1
    And the error contains `box`
    And no request is running or waiting at the queen

  Scenario: A node that is reachable again returns by itself with its worker
    Given the node box, at the end of a wire
    And I ran `rbee-keeper infer hello --node box --max-tokens 1`
    And the pid of the hive on box is noted
    And the pids of the programs of box are noted
    When the wire to box is cut silently
    Then node box is unreachable
    When the wire to box is repaired
    Then node box is reachable
    And the hive on box has the noted pid
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And the programs of box have the noted pids

  Scenario: Streams over a slow wire with losses are complete and in order
    Given the node box, at the end of a wire
    And box has the mock worker
    And I ran `rbee-keeper infer "count" --node box --model mock:length=200`
    When I note the output as undisturbed
    Given the wire to box has a delay of 50 ms and a loss of 2 %
    When I run `rbee-keeper infer "count" --node box --model mock:length=200`
    Then the exit code is 0
    And the output equals the output noted as undisturbed
    When I start `rbee-keeper infer "count" --node box --model mock:length=200` as first
    And I start `rbee-keeper infer "count" --node box --model mock:length=200` as second
    Then first exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And second exits
    And the exit code is 0
    And the output equals the output noted as undisturbed
    And node box is reachable
