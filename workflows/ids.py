"""Ids minted by workflows: unique, ordered by time, and the same on replay."""

from __future__ import annotations

import uuid

from temporalio import workflow


def new_uuid7() -> str:
    """Return a UUIDv7 (RFC 9562) of workflow time and workflow randomness."""
    return uuid7_of(int(workflow.now().timestamp() * 1000), workflow.random().getrandbits(74))


def uuid7_of(unix_ms: int, random_bits: int) -> str:
    """Lay out a UUIDv7: 48 bits of Unix milliseconds, version, 12 random bits, variant, 62 random bits."""
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= (random_bits >> 62) << 64
    value |= 0b10 << 62
    value |= random_bits & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))
