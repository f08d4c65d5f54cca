Feature: The queen's registry of workers
  A worker sends the queen a heartbeat every 5 s and whenever its state changes. A worker
  receives no new requests if it sends no heartbeats, if a connection to it fails, or if a
  newer spawn of it has registered. Time is the queen's own monotonic clock.

  Background:
    Given an empty registry

  Rule: Heartbeats register workers and update their state

    Scenario: The first heartbeat registers a worker
      When w-1 sends a heartbeat
      Then the registry contains 1 worker
      And w-1 is available
      And w-1 can receive new requests

    Scenario: A later heartbeat replaces the worker's state
      Given w-1 has sent a heartbeat
      When w-1 sends a heartbeat with
        | slots_total   | 8      |
        | slots_free    | 6      |
        | queue_depth   | 3      |
        | memory_bytes  | 4096   |
        | kv_used       | 17     |
        | prefix_digest | abc123 |
        | model_id      | mock:b |
      Then the registry contains 1 worker
      And w-1 is registered with
        | slots_total   | 8      |
        | slots_free    | 6      |
        | queue_depth   | 3      |
        | memory_bytes  | 4096   |
        | kv_used       | 17     |
        | prefix_digest | abc123 |
        | model_id      | mock:b |

    Scenario: A heartbeat that arrives out of order changes nothing
      Given w-1 has sent a heartbeat with
        | sequence   | 7 |
        | slots_free | 1 |
      When w-1 sends a heartbeat with
        | sequence   | 6 |
        | slots_free | 4 |
      Then w-1 is registered with
        | slots_free | 1 |

    Scenario: A worker that reports that it has stopped is removed and cannot register again
      Given w-1 has sent a heartbeat
      When w-1 sends a heartbeat with
        | status | stopped |
      Then the registry contains 0 workers
      When w-1 sends a heartbeat
      Then the heartbeat is refused with FENCED

  Rule: Workers can be listed, filtered and looked up

    Background:
      Given these workers have sent heartbeats
        | worker | model_id | hive_id | device | status   | pid |
        | w-1    | mock:a   | local   | CPU-0  | ready    | 101 |
        | w-2    | mock:a   | attic   | GPU-0  | busy     | 102 |
        | w-3    | mock:b   | attic   | GPU-1  | starting | 103 |
        | w-4    | mock:b   | local   | CPU-0  | draining | 104 |

    Scenario Outline: Filter by <criterion>
      Then the workers with <filter> are <workers>

      Examples:
        | criterion      | filter                   | workers            |
        | nothing        | any                      | w-1, w-2, w-3, w-4 |
        | model          | model mock:a             | w-1, w-2           |
        | node           | node attic               | w-2, w-3           |
        | GPU backend    | backend cuda             | w-2, w-3           |
        | CPU backend    | backend cpu              | w-1, w-4           |
        | status         | status starting          | w-3                |
        | model and node | model mock:a, node attic | w-2                |
        | unknown model  | model mock:c             | none               |

    Scenario: One worker, with the pid that its hive knows
      Then w-3 is registered with
        | pid      | 103      |
        | device   | GPU-1    |
        | status   | starting |
      And w-9 is not registered

    Scenario: Only workers that are ready or busy receive requests
      Then the workers that can receive new requests are w-1

  Rule: Workers without heartbeats

    Scenario: A worker without a heartbeat for 15 s is silent, and is removed after 30 s
      Given w-1 has sent a heartbeat
      When 14.9 s pass
      Then w-1 is available
      When 0.1 s pass
      Then w-1 is silent
      And w-1 receives no new requests
      When 14.9 s pass
      Then the registry contains 1 worker
      When 0.1 s pass
      Then the registry contains 0 workers

    Scenario: A heartbeat makes a silent worker available again
      Given w-1 has sent a heartbeat
      When 20 s pass
      Then w-1 is silent
      When w-1 sends a heartbeat
      Then w-1 is available
      And w-1 can receive new requests

    Scenario: A silent worker keeps its running requests
      Given w-1 has sent a heartbeat
      And a request is assigned to w-1
      When 20 s pass
      Then w-1 is silent
      And w-1 runs 1 request

    Scenario: The wall clock of the worker's machine does not matter
      When w-1 sends a heartbeat with
        | timestamp | 1999-12-31T23:59:59Z |
      Then w-1 is available

  Rule: Failed connections

    Scenario: A worker whose connection failed receives no requests until its next heartbeat
      Given w-1 has sent a heartbeat
      When a connection to w-1 fails
      Then w-1 is failed
      And w-1 receives no new requests
      When w-1 sends a heartbeat
      Then w-1 is available
      And w-1 can receive new requests

    Scenario: A heartbeat that arrives out of order does not make a failed worker available
      Given w-1 has sent a heartbeat with
        | sequence | 7 |
      When a connection to w-1 fails
      And w-1 sends a heartbeat with
        | sequence | 6 |
      Then w-1 is failed

    Scenario: The failed connection of an earlier spawn is ignored
      Given w-1 has sent a heartbeat with
        | generation | 2 |
      When a connection to generation 1 of w-1 fails
      Then w-1 is available

  Rule: Stalled workers

    @EH-013b
    Scenario: A stalled worker receives no requests although it sends heartbeats
      Given w-1 has sent a heartbeat
      When a request finds that w-1 has stalled
      Then w-1 is stalled
      And w-1 receives no new requests
      When w-1 sends a heartbeat
      Then w-1 is stalled
      When 9.9 s pass
      Then w-1 need not be stopped
      When 0.1 s pass
      Then w-1 must be stopped

    @EH-013b
    Scenario: A stalled worker whose engine completes a step again has recovered
      Given w-1 has sent a heartbeat
      When a request finds that w-1 has stalled
      And 5 s pass
      And w-1 sends a heartbeat with
        | last_step_ms | 5000 |
      Then w-1 is stalled
      When w-1 sends a heartbeat with
        | last_step_ms | 4999 |
      Then w-1 is available
      And w-1 can receive new requests

  Rule: Generations

    Scenario: A heartbeat of an older spawn is refused
      Given w-1 has sent a heartbeat with
        | generation | 5 |
      When w-1 sends a heartbeat with
        | generation | 4 |
      Then the heartbeat is refused with FENCED
      And w-1 is registered with
        | generation | 5 |

    Scenario: A newer spawn replaces the older one and has none of its requests
      Given w-1 has sent a heartbeat with
        | generation | 5 |
      And a request is assigned to w-1
      When w-1 sends a heartbeat with
        | generation | 6 |
      Then w-1 is registered with
        | generation | 6 |
      And w-1 runs 0 requests

    Scenario: An older spawn is refused after the newer one was removed
      Given w-1 has sent a heartbeat with
        | generation | 5 |
      When 30 s pass
      And w-1 sends a heartbeat with
        | generation | 4 |
      Then the heartbeat is refused with FENCED

    Scenario: A stopped worker is refused, and its next spawn is not
      Given w-1 has sent a heartbeat with
        | generation | 5 |
      When w-1 is stopped
      Then the registry contains 0 workers
      When w-1 sends a heartbeat with
        | generation | 5 |
      Then the heartbeat is refused with FENCED
      When w-1 sends a heartbeat with
        | generation | 6 |
      Then w-1 is available

  Rule: Slots

    Scenario: The queen counts its own requests between two heartbeats
      Given w-1 has sent a heartbeat with
        | slots_total | 2 |
        | slots_free  | 2 |
      When a request is assigned to w-1
      And a request is assigned to w-1
      Then w-1 receives no new requests
      When a request on w-1 finishes
      Then w-1 can receive new requests

    Scenario: Slots that other clients use are not assigned
      When w-1 sends a heartbeat with
        | slots_total | 2    |
        | slots_free  | 0    |
        | status      | busy |
      Then w-1 receives no new requests

    Scenario: A worker that refuses a request because all slots are busy is avoided for 1 s
      Given w-1 has sent a heartbeat
      When w-1 refuses a request because all its slots are busy
      Then w-1 receives no new requests
      When 1 s pass
      Then w-1 can receive new requests

  Rule: Many workers

    Scenario: A restarted queen knows all workers after two heartbeat intervals
      Given 200 workers send a heartbeat every 5 s
      And 60 s pass
      When the queen restarts with an empty registry
      And 10 s pass
      Then the registry contains 200 workers
      And every worker is available

    Scenario: 1000 concurrent heartbeats, none lost
      When 100 workers each send 10 heartbeats to the dispatcher, all concurrently
      Then the dispatcher has registered each of the 100 workers once
      And every worker shows its last heartbeat
