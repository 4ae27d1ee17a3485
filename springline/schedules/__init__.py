"""Schedules over a store: reading where they stand, evaluating them, changing them (docs/protocol.md#schedules)."""
