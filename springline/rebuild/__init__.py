"""The steps of a rebuild over a store: plan, read, scan, fold by shard, assemble, compare, switch.

See docs/protocol.md#rebuild.
"""
