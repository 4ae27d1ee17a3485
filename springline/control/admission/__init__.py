"""Which of a round's events are written, and what must follow them (docs/protocol.md#admission). A module per
aggregate.

The fold's rules are the reference's, and they accept histories in which a run can never end. Admission refuses such an
event, or completes it by another one right behind it. It does not change how events of other writers are folded.
"""
