"""Backfills: what becomes of their chunks, without a clock, a store or Temporal (docs/protocol.md#backfills)."""
