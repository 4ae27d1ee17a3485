"""Pure decisions: what may be appended, and what must follow it (design 4.3). No I/O, no clock."""
