"""Paths of control-plane transactions: idempotency, records, receipts, handles (docs/formats.md#reserved-names)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from springline.paths.components import MAX_U64, canonical_ulid, made_by
from springline.paths.scope import InvalidPath, ObjectPath, count, segment, sha256_of

_NAMESPACE: Final = "transactions"
_HANDLE_PREFIX: Final = "hdl_"
_ROOT_MANIFEST_SUFFIX: Final = ".manifest"
_RECORD = re.compile(r"transactions/(catalog|orchestration|root)/([^/]+)\.json")
_HANDLE_STEP = re.compile(r"transactions/handles/([^/]+)/(mutations|identities)/([0-9]{20})\.json")


class TransactionDomain(StrEnum):
    """The domain that a transaction changes."""

    CATALOG = "catalog"
    ORCHESTRATION = "orchestration"
    ROOT = "root"


class HandleStep(StrEnum):
    """The two kinds of numbered records of a handle."""

    MUTATION = "mutations"
    IDENTITY = "identities"


def transaction_idempotency(domain: TransactionDomain, key: str) -> ObjectPath:
    """Return the name of the record of a transaction under the raw idempotency `key`."""
    digest = sha256_of("idempotency_key", key)
    return ObjectPath(f"{_NAMESPACE}/idempotency/{domain.value}/{digest[:2]}/{digest}.json")


def transaction_record(domain: TransactionDomain, tx_id: str) -> ObjectPath:
    """Return the name of a transaction's record."""
    if segment("tx_id", tx_id).endswith(_ROOT_MANIFEST_SUFFIX):
        raise InvalidPath("tx_id", tx_id, f"{_ROOT_MANIFEST_SUFFIX} at its end would name a super-manifest")
    return ObjectPath(f"{_NAMESPACE}/{domain.value}/{tx_id}.json")


def parse_transaction_record(path: str) -> tuple[TransactionDomain, str] | None:
    """Return domain and transaction id in a record's path, or None for another path."""
    match = _RECORD.fullmatch(path)
    if match is None:
        return None
    domain = TransactionDomain(match[1])
    return (domain, match[2]) if made_by(path, transaction_record, domain, match[2]) else None


def root_super_manifest(tx_id: str) -> ObjectPath:
    """Return the name of the super-manifest of a root transaction."""
    return ObjectPath(f"{_NAMESPACE}/root/{segment('tx_id', tx_id)}{_ROOT_MANIFEST_SUFFIX}.json")


def orchestration_commit_receipt(commit_id: str) -> ObjectPath:
    """Return the name of the receipt of an orchestration commit."""
    return ObjectPath(f"commits/orchestration/{segment('commit_id', commit_id)}.json")


def root_commit_receipt(commit_id: str) -> ObjectPath:
    """Return the name of the receipt of a root commit."""
    return ObjectPath(f"commits/root/{segment('commit_id', commit_id)}.json")


def handle_record(handle_id: str) -> ObjectPath:
    """Return the name of a handle's record; `handle_id` is `hdl_` and a canonical ULID."""
    return ObjectPath(f"{_handle_dir(handle_id)}/handle.json")


def handle_step(handle_id: str, step: HandleStep, ordinal: int) -> ObjectPath:
    """Return the name of a handle's numbered mutation or identity; `ordinal` counts from 1."""
    number = count("ordinal", ordinal, least=1, most=MAX_U64)
    return ObjectPath(f"{_handle_dir(handle_id)}/{step.value}/{number:020}.json")


def parse_handle_step(path: str) -> tuple[str, HandleStep, int] | None:
    """Return handle id, kind and ordinal in the path of a mutation or identity, or None for another path."""
    match = _HANDLE_STEP.fullmatch(path)
    if match is None:
        return None
    step, ordinal = HandleStep(match[2]), int(match[3])
    return (match[1], step, ordinal) if made_by(path, handle_step, match[1], step, ordinal) else None


def _handle_dir(handle_id: str) -> str:
    remedy = f"give {_HANDLE_PREFIX} and a ULID of 26 upper-case symbols"
    if not isinstance(handle_id, str) or not handle_id.startswith(_HANDLE_PREFIX):
        raise InvalidPath("handle_id", handle_id, remedy)
    try:
        canonical_ulid("handle_id", handle_id.removeprefix(_HANDLE_PREFIX))
    except InvalidPath:
        raise InvalidPath("handle_id", handle_id, remedy) from None
    return f"{_NAMESPACE}/handles/{handle_id}"
