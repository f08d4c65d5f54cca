Feature: The queue of requests
  Requests wait at the queen until a worker has a free slot. The queue is bounded for each model.
  Interactive requests precede batch requests, which are served once for every eight interactive
  ones. Clients take turns, whatever the number of their requests: a client is who presents the
  same key, and all that present none are one.

  Rule: Interactive requests first, batch requests never last for ever

    @real
    Scenario: An interactive request overtakes batch requests
      Given a running queen
      And a request that holds the only slot of its model
      When the client alice sends the batch requests b-1, b-2
      And the client alice sends the requests i-1, i-2
      And the slot becomes free
      Then the requests run in the order i-1, i-2, b-1, b-2

    @real
    Scenario: After eight interactive requests, a batch request has its turn
      Given a running queen
      And a request that holds the only slot of its model
      When the client alice sends the batch requests b-1, b-2
      And the client alice sends the requests i-1, i-2, i-3, i-4, i-5, i-6, i-7, i-8, i-9
      And the slot becomes free
      Then the requests run in the order i-1, i-2, i-3, i-4, i-5, i-6, i-7, i-8, b-1, i-9, b-2

    @real
    Scenario Outline: A request is one for a batch by <how>
      Given a running queen
      And a request that holds the only slot of its model
      When a request waits that is one for a batch by <how>
      Then 0 interactive and 1 batch requests wait for the model

      Examples:
        | how                             |
        | the header x-request-priority   |
        | the field priority of /v1/infer |
        | OpenAI's service_tier           |
        | vLLM's priority                 |
        | the keeper's --batch            |

    @real
    Scenario: The header precedes the body
      Given a running queen
      And a request that holds the only slot of its model
      When a request waits with service_tier flex and the header `x-request-priority: interactive`
      Then 1 interactive and 0 batch requests wait for the model

    @real
    Scenario: An unknown priority is refused
      Given a running queen
      When I send a chat with the header `x-request-priority: urgent`
      Then the response status is 400
      And the response's error code is INVALID_REQUEST
      And the response's `/error/param` is `x-request-priority`
      And the response's hint contains `interactive`

  Rule: Clients take turns

    @real
    Scenario: A client with many requests delays the only one of another by one
      Given a running queen
      And a request that holds the only slot of its model
      When the client alice sends the requests a-1, a-2, a-3, a-4, a-5
      And the client bob sends the requests b-1
      And the slot becomes free
      Then the requests run in the order a-1, b-1, a-2, a-3, a-4, a-5

    @real
    Scenario: A request that loses its worker keeps its place
      Given a running queen
      And a request that holds the only slot of its model
      When the client alice sends the requests a-1, a-2
      And every `mock-worker-rbee` process is killed
      Then the request that holds the slot runs again, before the others
      When the slot becomes free
      Then the requests run in the order a-1, a-2

  Rule: The queue is bounded

    @real @EH-018a
    Scenario: A full queue refuses a request and says when to retry
      Given a queen with `RBEE_QUEUE_LIMIT=2`
      And a request that holds the only slot of its model
      When the client alice sends the requests a-1, a-2
      And the client alice sends a chat
      Then the response status is 429
      And the response's error code is QUEUE_FULL
      And the header `retry-after` is a number of seconds from 1 to 60
      When the client bob sends the requests b-1
      And the slot becomes free
      Then the requests run in the order a-1, b-1, a-2

  Rule: A request that cannot have a worker before its deadline is refused at once

    @real
    Scenario: The measured time of other requests exceeds the deadline
      Given a running queen
      And requests that took two seconds each
      And a request that holds the only slot of its model
      When the client alice sends the requests a-1, a-2, a-3
      And the client bob sends a chat with a deadline in 1500 ms
      Then the response status is 408
      And the response's error code is DEADLINE_EXCEEDED
      And the response's error message contains `would wait about`

    @real
    Scenario: Without measurements, a request is accepted until its deadline
      Given a running queen
      And a request that holds the only slot of its model
      When the client bob sends a chat with a deadline in 1000 ms
      Then the response status is 408
      And the response's error code is DEADLINE_EXCEEDED
      And the response's error message contains `while the request waited for a worker`

    @real
    Scenario: A deadline in the past is refused
      Given a running queen
      When I send a chat with the header `x-request-deadline: 2020-01-01T00:00:00Z`
      Then the response status is 408
      And the response's error code is DEADLINE_EXCEEDED

  Rule: Clients know their position

    @real
    Scenario: The position is reported as it changes
      Given a running queen
      And requests that took two seconds each
      And a request that holds the only slot of its model
      When the client alice sends the requests a-1, a-2
      Then the request a-2 is at position 2 of 2, with an estimate
      When I cancel the waiting request a-1
      Then the request a-1 ends with CANCELLED
      And the request a-2 is at position 1 of 1, with an estimate

    @real
    Scenario: The keeper prints the position
      Given a running queen
      And a request that holds the only slot of its model
      When I start the keeper with a request for the model as client
      Then client prints `position 1 of 1 in the queue`

    @real
    Scenario: The status has the queue of each model
      Given a running queen
      And a request that holds the only slot of its model
      When the client alice sends the requests a-1, a-2
      And the client bob sends the batch requests b-1
      Then 2 interactive and 1 batch requests wait for the model
      When I run `rbee-keeper status`
      Then stdout contains `2 interactive, 1 batch, the oldest for`

    @real
    Scenario: A model that no worker has is loaded while its first request waits
      Given a running queen
      When the client alice asks a model that takes 300 ms to load, by the request a-1
      Then the request a-1 waited for the model to load, and completes
