"""Conflicts: what was committed since a request's `read_version`, and whether the request may follow it.

See docs/protocol.md#commits. A step reads the versions that `versions_in_question` names; this module decides the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from springline import paths
from springline.delta.messages import CommitMode
from springline.errors import Code, CommitSince, Refusal

ABANDONED_OPERATION = "ABANDONED"
MAX_READ_LAG = 10_000
"""Versions an append may lie behind: each later one must be checked for changes of metadata and txn."""
MAX_COMMITS_SINCE = 100
LONGEST_SHOWN = 200
"""Characters of another writer's operation or key in an answer."""


@dataclass(frozen=True, slots=True)
class CommittedVersion:
    """One log file, reduced to the facts that conflict rules need."""

    version: int
    operation: str | None
    key: str | None
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None
    txn_apps: frozenset[str]
    readable: bool = True


def committed_version(version: int, data: bytes) -> CommittedVersion:
    """Return the facts of version `version` from its log bytes, which may be any writer's.

    A line that cannot be parsed makes the version unreadable; it then counts as a change of metadata, because it may
    be one.
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
        return CommittedVersion(version, None, None, None, None, frozenset(), readable=False)
    return CommittedVersion(version, operation, key, protocol, metadata, frozenset(txn_apps))


def _text(value: Any) -> str | None:
    """Return a foreign writer's text shortened for answers, None if it is not a text."""
    return value[:LONGEST_SHOWN] if isinstance(value, str) else None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("the action is not an object")
    return value


def versions_in_question(mode: CommitMode, read_version: int, latest: int) -> range:
    """Return the versions that decide whether a request may follow `latest`, or that its refusal names."""
    if mode is CommitMode.APPEND:
        return range(read_version + 1, latest + 1) if latest - read_version <= MAX_READ_LAG else range(0)
    return range(max(read_version, latest - MAX_COMMITS_SINCE) + 1, latest + 1)


def version_refusal(
    mode: CommitMode,
    read_version: int,
    txn_apps: frozenset[str],
    latest: int,
    later: Sequence[CommittedVersion],
    root: str,
) -> Refusal | None:
    """Judge `read_version` against `latest`: equal for a strict commit, no conflict in between for an append.

    `later`: the versions in question; `txn_apps`: the application ids of the request's `txn` actions; `root`: the
    table's.
    """

    def refusal(code: Code, message: str) -> Refusal:
        return _refusal(code, message, read_version=read_version, latest=latest, since=later)

    if read_version > latest:
        return refusal(
            Code.FUTURE_READ_VERSION,
            f"read_version {read_version} is in the future: the table's latest version is {latest}",
        )
    if mode is CommitMode.STRICT:
        if read_version == latest:
            return None
        return refusal(
            Code.STALE_READ_VERSION, f"read_version {read_version} is stale: the table's latest version is {latest}"
        )
    if latest - read_version > MAX_READ_LAG:
        return refusal(
            Code.STALE_READ_VERSION,
            f"read_version {read_version} lies more than {MAX_READ_LAG} versions behind the latest, {latest}",
        )
    conflict = append_conflict(read_version, txn_apps, later)
    if conflict is None:
        return None
    code, message = conflict
    unreadable = [paths.delta_log(root, one.version) for one in later if not one.readable]
    if unreadable and code is Code.METADATA_CHANGED:
        message += f"; {unreadable[0]} cannot be read, or is gone, and counts as such a change"
    return refusal(code, message)


def append_conflict(
    read_version: int, txn_apps: frozenset[str], later: Iterable[CommittedVersion]
) -> tuple[Code, str] | None:
    """Return why a blind append computed from `read_version` may not follow the `later` versions, or None.

    See docs/protocol.md#commits.

    Only a change of metadata or protocol, or a use of the same `txn` application id, is a conflict.
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


def _refusal(code: Code, message: str, *, read_version: int, latest: int, since: Iterable[CommittedVersion]) -> Refusal:
    """Return the refusal of a request that lost: with the latest version and the newest 100 commits since."""
    newest = sorted((one for one in since if one.version > read_version), key=lambda found: found.version)
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
            CommitSince(version=one.version, operation=one.operation, key=one.key)
            for one in newest[-MAX_COMMITS_SINCE:]
        ],
    )
