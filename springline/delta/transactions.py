"""The `txn` action by which a version that another writer commits for us names our key (Delta protocol, Transaction
Identifiers)."""

from __future__ import annotations

TXN_VERSION = 1
"""A key commits once, so its application has one version only."""

_PREFIX = "springline:"


def txn_app_id(key: str) -> str:
    """Return the application id of the transaction that stands for an idempotency key."""
    return f"{_PREFIX}{key}"


def is_own(app_id: str) -> bool:
    """Say whether an application is one that only this product's own operations commit as."""
    return app_id.startswith(_PREFIX)
