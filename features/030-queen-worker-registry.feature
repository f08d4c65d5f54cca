Feature: The queen's registry of workers
  The queen knows its workers by what they tell: a heartbeat every 5 s and on every change.
  Silence, a broken connection and a newer spawn of the same worker take one out of routing.
  Time is the queen's own, monotonic.

  Background:
    Given an empty registry

  Rule: Heartbeats register and refresh

    Scenario: The first heartbeat registers
      When w-1 is heard
      Then the registry has 1 worker
      And w-1 is available
      And w-1 may get a request

    Scenario: Later heartbeats replace what was told before
      Given w-1 was heard
      When w-1 is heard with
        | slots_total   | 8      |
        | slots_free    | 6      |
        | queue_depth   | 3      |
        | memory_bytes  | 4096   |
        | kv_used       | 17     |
        | prefix_digest | abc123 |
        | model_id      | mock:b |
      Then the registry has 1 worker
      And w-1 shows
        | slots_total   | 8      |
        | slots_free    | 6      |
        | queue_depth   | 3      |
        | memory_bytes  | 4096   |
        | kv_used       | 17     |
        | prefix_digest | abc123 |
        | model_id      | mock:b |

    Scenario: A heartbeat that was overtaken changes nothing
      Given w-1 was heard with
        | sequence   | 7 |
        | slots_free | 1 |
      When w-1 is heard with
        | sequence   | 6 |
        | slots_free | 4 |
      Then w-1 shows
        | slots_free | 1 |

    Scenario: A worker that says goodbye is forgotten and may not come back
      Given w-1 was heard
      When w-1 is heard with
        | status | stopped |
      Then the registry has 0 workers
      When w-1 is heard
      Then it is fenced

  Rule: Workers can be listed, filtered and looked up

    Background:
      Given these workers were heard
        | worker | model_id | hive_id | device | status   | pid |
        | w-1    | mock:a   | local   | CPU-0  | ready    | 101 |
        | w-2    | mock:a   | attic   | GPU-0  | busy     | 102 |
        | w-3    | mock:b   | attic   | GPU-1  | starting | 103 |
        | w-4    | mock:b   | local   | CPU-0  | draining | 104 |

    Scenario Outline: Filter by <what>
      Then the workers with <filter> are <workers>

      Examples:
        | what        | filter                    | workers            |
        | nothing     | any                       | w-1, w-2, w-3, w-4 |
        | model       | model mock:a              | w-1, w-2           |
        | node        | node attic                | w-2, w-3           |
        | device kind | backend cuda              | w-2, w-3           |
        | device kind | backend cpu               | w-1, w-4           |
        | status      | status starting           | w-3                |
        | several     | model mock:a, node attic  | w-2                |
        | no match    | model mock:c              | none               |

    Scenario: One worker, with the pid that its hive knows it by
      Then w-3 shows
        | pid      | 103      |
        | device   | GPU-1    |
        | status   | starting |
      And there is no w-9

    Scenario: Only workers that can serve get requests
      Then the workers that may get a request are w-1

  Rule: Silence

    Scenario: After 15 s of silence no new work, after 30 s forgotten
      Given w-1 was heard
      When 14.9 s pass
      Then w-1 is available
      When 0.1 s pass
      Then w-1 is silent
      And w-1 may get no request
      When 14.9 s pass
      Then the registry has 1 worker
      When 0.1 s pass
      Then the registry has 0 workers

    Scenario: Back in time
      Given w-1 was heard
      When 20 s pass
      Then w-1 is silent
      When w-1 is heard
      Then w-1 is available
      And w-1 may get a request

    Scenario: A silent worker keeps the requests that it has
      Given w-1 was heard
      And w-1 got a request
      When 20 s pass
      Then w-1 is silent
      And w-1 runs 1 request

    Scenario: The wall clocks of machines do not matter
      When w-1 is heard with
        | timestamp | 1999-12-31T23:59:59Z |
      Then w-1 is available

  Rule: A broken connection

    Scenario: Out of routing at once, back after a heartbeat that follows
      Given w-1 was heard
      When the connection to w-1 breaks
      Then w-1 is failed
      And w-1 may get no request
      When w-1 is heard
      Then w-1 is available
      And w-1 may get a request

    Scenario: An overtaken heartbeat does not bring it back
      Given w-1 was heard with
        | sequence | 7 |
      When the connection to w-1 breaks
      And w-1 is heard with
        | sequence | 6 |
      Then w-1 is failed

    Scenario: A broken connection of an earlier spawn says nothing
      Given w-1 was heard with
        | generation | 2 |
      When the connection to w-1 of generation 1 breaks
      Then w-1 is available

  Rule: Generations

    Scenario: An older spawn is refused and told to stop
      Given w-1 was heard with
        | generation | 5 |
      When w-1 is heard with
        | generation | 4 |
      Then it is fenced
      And w-1 shows
        | generation | 5 |

    Scenario: A newer spawn takes over, with none of the old one's requests
      Given w-1 was heard with
        | generation | 5 |
      And w-1 got a request
      When w-1 is heard with
        | generation | 6 |
      Then w-1 shows
        | generation | 6 |
      And w-1 runs 0 requests

    Scenario: An older spawn stays refused after the newer one was forgotten
      Given w-1 was heard with
        | generation | 5 |
      When 30 s pass
      And w-1 is heard with
        | generation | 4 |
      Then it is fenced

    Scenario: A worker that was stopped on purpose
      Given w-1 was heard with
        | generation | 5 |
      When w-1 is stopped
      Then the registry has 0 workers
      When w-1 is heard with
        | generation | 5 |
      Then it is fenced
      When w-1 is heard with
        | generation | 6 |
      Then w-1 is available

  Rule: Slots

    Scenario: The queen counts its own requests between heartbeats
      Given w-1 was heard with
        | slots_total | 2 |
        | slots_free  | 2 |
      When w-1 gets a request
      And w-1 gets a request
      Then w-1 may get no request
      When a request of w-1 ends
      Then w-1 may get a request

    Scenario: Slots that others use are not given away
      When w-1 is heard with
        | slots_total | 2    |
        | slots_free  | 0    |
        | status      | busy |
      Then w-1 may get no request

    Scenario: A worker that answers that it is full is asked again after a pause
      Given w-1 was heard
      When w-1 answers that every slot is taken
      Then w-1 may get no request
      When 1 s pass
      Then w-1 may get a request

  Rule: Under load

    Scenario: A restarted queen has the full picture within two heartbeat intervals
      Given 200 workers that are heard every 5 s
      And 60 s pass
      When the registry is lost
      And 10 s pass
      Then the registry has 200 workers
      And every worker is available

    Scenario: 1000 updates at once, none lost
      When 100 workers send 10 heartbeats each, all at once
      Then the registry has 100 workers
      And every worker shows its last heartbeat
