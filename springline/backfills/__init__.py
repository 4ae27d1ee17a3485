"""Backfills over a store: asking for them, where they stand, passes over one, changes (docs/protocol.md#backfills)."""
