"""Backfills over a store, with the real ledger in this process."""
