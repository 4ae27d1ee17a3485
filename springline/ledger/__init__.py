"""Orchestration events: their types, ids, keys and bytes. Pure: no I/O, no clock, no randomness (specs E 1, 2, 6)."""
