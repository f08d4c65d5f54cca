@real @platforms
Feature: Machines with another system
  The machines of these scenarios are complete systems with nothing but an SSH server: root
  directories made by debootstrap, each with its own processes, files and network. They are
  prepared by `cargo xtask outside platforms`, which runs these scenarios.

  Background:
    Given a running queen

  Scenario: A system with nothing installed serves, and uninstalling leaves nothing
    Given the machine box with the system own
    When I run `rbee-keeper node add box`
    Then the exit code is 0
    And stderr contains `Copying rbee-hive`
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    And stderr contains `node box`
    And what has changed on box is in `home/me/.rbee`
    And other machines can reach only the SSH server of the system of box
    When I run `rbee-keeper node uninstall box --models`
    Then the exit code is 0
    And nothing has changed on box
    And only the SSH server is running on box

  Scenario: A system whose C library is too old is refused with both versions
    Given the machine box with the system older
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And the error is `node box is Linux {arch} with glibc {older_glibc}, and this release is for linux {arch} with glibc {release_glibc}`
    And nothing has changed on box

  Scenario: A system whose C library is musl is refused
    Given the machine box with the system own, whose C library seems to be musl
    When I run `rbee-keeper node add box`
    Then the exit code is 1
    And the error is `node box is Linux {arch} with musl, and this release is for linux {arch} with glibc {release_glibc}`
    And nothing has changed on box

  Scenario: systemd keeps the hive, restarts it, and stops it
    Given the machine box with an SSH server
    And box has the systemd of this machine
    When I run `rbee-keeper node add box`
    Then the exit code is 0
    And stdout contains `by systemd, as rbee-hive.service of the user`
    When I run `rbee-keeper infer hello --node box --max-tokens 1`
    Then the exit code is 0
    Given the pid of the hive on box is noted
    When the hive on box is killed
    Then the hive on box has another pid
    And node box is reachable
    And 2 programs of box are running
    When I run `rbee-keeper node upgrade box`
    Then the exit code is 0
    And node box is reachable
    When I run `rbee-keeper queen stop`
    Then the exit code is 0
    And 0 programs of box are running
    When I run `rbee-keeper queen start`
    Then node box is reachable
    When the queen is killed
    Given the pid of the hive on box is noted
    When the hive on box is killed
    Then the hive on box has another pid
    When I run `rbee-keeper queen start`
    Then node box is reachable
    When I run `rbee-keeper node uninstall box --models`
    Then the exit code is 0
    And 0 programs of box are running
    And the home directory of box contains nothing
