"""The 17 projection tables: their schema, the fold, files, manifest and digest. Pure.

See docs/formats.md#projection-tables, docs/events.md#fold, docs/protocol.md#overlay, docs/formats.md#published-state,
docs/protocol.md#ledger.
"""
