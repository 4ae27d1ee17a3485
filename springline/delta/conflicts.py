"""What a committed version means to those who did not see it: the facts an append is checked against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from springline.errors import Code, CommitSince, Refusal

ABANDONED_OPERATION = "ABANDONED"
MAX_COMMITS_SINCE = 100
LONGEST_SHOWN = 200
"""Characters of another writer's operation or key in an answer."""


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One log file, reduced to what conflict rules ask of it."""

    version: int
    operation: str | None
    key: str | None
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None
    txn_apps: frozenset[str]
    readable: bool = True


def facts_of_log(version: int, data: bytes) -> VersionFacts:
    """Read the facts of version `version` from its log bytes, which may be any writer's.

    A line that cannot be read makes the version unreadable; it then counts as a change of metadata, because
    nothing can be said about it.
    """
    operation = key = None
    protocol = metadata = None
    txn_apps: set[str] = set()
    try:
        for line in data.split(b"\n"):
            if not line.strip():
                continue
            # Depth is bounded by the parser. A line of several actions is not ours, but readers take them all.
            actions = orjson.loads(line)
            if actions.get("commitInfo") is not None:
                info = actions["commitInfo"]
                operation, key = _text(info.get("operation")), _text(info.get("txnId"))
            if actions.get("protocol") is not None:
                protocol = _object(actions["protocol"])
            if actions.get("metaData") is not None:
                metadata = _object(actions["metaData"])
            if actions.get("txn") is not None:
                txn_apps.add(str(actions["txn"]["appId"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return VersionFacts(version, None, None, None, None, frozenset(), readable=False)
    return VersionFacts(version, operation, key, protocol, metadata, frozenset(txn_apps))


def _text(value: Any) -> str | None:
    """Return a foreign writer's word as it is shown to others, None if it is no text."""
    return value[:LONGEST_SHOWN] if isinstance(value, str) else None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("the action is not an object")
    return value


def append_conflict(
    read_version: int, txn_apps: frozenset[str], later: Iterable[VersionFacts]
) -> tuple[Code, str] | None:
    """Say why a blind append computed from `read_version` may not follow the `later` versions, or None.

    See docs/protocol.md#commits.

    Only a change of metadata or protocol, or a use of the same `txn` application id, stands in its way.
    """
    for facts in later:
        if facts.version <= read_version:
            continue
        if not facts.readable or facts.metadata is not None or facts.protocol is not None:
            return (
                Code.METADATA_CHANGED,
                f"version {facts.version} changed the table's metadata or protocol after read_version {read_version}",
            )
        shared = txn_apps & facts.txn_apps
        if shared:
            return (
                Code.TXN_CONFLICT,
                f"version {facts.version} already carries a txn of application {min(shared)!r}",
            )
    return None


def version_conflict(
    code: Code, message: str, *, read_version: int, latest: int, since: Iterable[VersionFacts]
) -> Refusal:
    """Build the refusal that tells a loser what it lost to: the latest version and the newest 100 commits since."""
    newest = sorted((facts for facts in since if facts.version > read_version), key=lambda f: f.version)
    return Refusal(
        code=code,
        message=message,
        field="read_version",
        value=read_version,
        remedy=(
            f"Read the table at version {latest}, compute the commit again and send it with a new key "
            f"and read_version {latest}."
        ),
        latest_version=latest,
        commits_since=[
            CommitSince(version=facts.version, operation=facts.operation, key=facts.key)
            for facts in newest[-MAX_COMMITS_SINCE:]
        ],
    )
