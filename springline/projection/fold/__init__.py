"""The fold: what each event does to the projections (docs/events.md#fold), a module per aggregate.

Event ids are distinct and ascend (docs/protocol.md#state-of-a-set), so an event's id is greater than every stamp in the
state. Where the fold has a rule for an event that is older than a row, there is nothing to decide here.

Handlers take the state, the event's id, its time in epoch milliseconds and its payload. They return whether the event
was *applied*: only then it uses up its idempotency key.
"""
