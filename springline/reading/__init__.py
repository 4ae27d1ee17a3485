"""Reads of the published state: what the pointer names, and nothing newer or older (docs/protocol.md#publication)."""
