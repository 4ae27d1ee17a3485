"""Orchestration events: their types, ids, keys and bytes. Pure: no I/O, no clock, no randomness.

See docs/formats.md#events, docs/events.md#event-types, docs/formats.md#identifiers.
"""
