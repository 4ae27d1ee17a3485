"""Pure decisions: what may be appended, and what must follow it (docs/protocol.md#admission). No I/O, no clock."""
