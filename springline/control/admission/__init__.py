"""Which of a round's events are written, and what must follow them (docs/protocol.md#admission). A module per
aggregate.

The fold's rules are the reference's, and they admit histories that can never move again. Here such an event is
refused, or completed by another one right behind it. Nothing here changes what events of other writers fold to.
"""
