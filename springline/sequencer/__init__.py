"""The steps of a workspace's ledger over a store: rounds, appending, folding, publishing, recovery.

See docs/protocol.md#ledger.
"""
