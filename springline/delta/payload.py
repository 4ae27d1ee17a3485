"""Staged payloads: newline-delimited Delta actions, checked before a reservation (Delta protocol, Actions)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from springline.delta.identity import sha256_hex
from springline.errors import Code, Refused, refused

MAX_PAYLOAD_BYTES = 5 * 1024 * 1024

ACTIONS = frozenset(
    {
        "add",
        "remove",
        "metaData",
        "protocol",
        "txn",
        "commitInfo",
        "cdc",
        "domainMetadata",
    }
)
_OPERATION = re.compile(r"[a-z0-9_]{1,32}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
BLIND_APPEND_ACTIONS = frozenset({"add", "txn", "commitInfo"})

_REQUIRED: dict[str, dict[str, type]] = {
    "add": {"path": str},
    "remove": {"path": str},
    "cdc": {"path": str},
    "metaData": {"id": str, "schemaString": str},
    "protocol": {"minReaderVersion": int, "minWriterVersion": int},
    "txn": {"appId": str, "version": int},
    "domainMetadata": {"domain": str},
    "commitInfo": {},
}


@dataclass(frozen=True, slots=True)
class Payload:
    """The actions of one staged payload.

    `data_lines` are the raw lines of `add` and `txn` actions in order: what a merged round takes over.
    """

    data: bytes
    sha256: str
    kinds: frozenset[str]
    data_lines: tuple[bytes, ...]
    paths: frozenset[str]
    txn_apps: frozenset[str]
    commit_info: dict[str, Any] | None
    protocol: dict[str, Any] | None
    metadata: dict[str, Any] | None

    @property
    def request_fingerprint(self) -> str | None:
        """Return what the writer says its request is, whatever files carry it; None if it says nothing."""
        return fingerprint_of(self.commit_info)


def fingerprint_of(commit_info: Mapping[str, Any] | None) -> str | None:
    """Return `operation:fingerprint` of `commitInfo.springline.request`, None if there is no such member.

    It stands for the caller's request (its rows, their order, the operation), so that the same request may come with
    other bytes: other file names, another version of the table. Raises `ValueError` if the member is malformed.
    """
    ours = (commit_info or {}).get("springline")
    request = ours.get("request") if isinstance(ours, Mapping) else None
    if request is None:
        return None
    operation, fingerprint = (
        (request.get("operation"), request.get("fingerprint")) if isinstance(request, Mapping) else (None, None)
    )
    if not isinstance(operation, str) or not _OPERATION.fullmatch(operation):
        raise ValueError("commitInfo.springline.request.operation is not a word of 1 to 32 letters, digits and _")
    if not isinstance(fingerprint, str) or not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError("commitInfo.springline.request.fingerprint is not 64 lower-case hex digits")
    return f"{operation}:{fingerprint}"


def read_actions(data: bytes) -> Iterator[tuple[int, bytes, str, dict[str, Any]]]:
    """Yield (line number from 1, raw line, action name, action) of each line; raises `Refused` on the first bad one."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(1, f"byte {error.start} is not UTF-8", None) from error
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            parsed = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise _bad(number, "is not JSON", line) from error
        if not isinstance(parsed, dict) or len(parsed) != 1:
            raise _bad(number, "is not an object with exactly one action", line)
        ((kind, action),) = parsed.items()
        if kind not in ACTIONS:
            raise _bad(number, f"holds {kind!r}, which is no Delta action", line)
        if not isinstance(action, dict):
            raise _bad(number, f"action {kind!r} is not an object", line)
        for name, expected in _REQUIRED[kind].items():
            value = action.get(name)
            if not isinstance(value, expected) or isinstance(value, bool) or value == "":
                raise _bad(number, f"action {kind!r} lacks a valid {name!r}", line)
        yield number, line, kind, action


def parse_payload(data: bytes, *, field: str = "payload") -> Payload:
    """Parse staged bytes; raises `Refused` (INVALID_PAYLOAD, PAYLOAD_TOO_LARGE) naming line, value and remedy."""
    if len(data) > MAX_PAYLOAD_BYTES:
        raise refused(
            Code.PAYLOAD_TOO_LARGE,
            f"{field} has {len(data)} bytes; the limit is {MAX_PAYLOAD_BYTES}",
            field=field,
            value=len(data),
            remedy="Write fewer, larger files, or split the write into several commits.",
        )
    kinds: set[str] = set()
    data_lines: list[bytes] = []
    paths: set[str] = set()
    txn_apps: set[str] = set()
    single: dict[str, dict[str, Any]] = {}
    for number, line, kind, action in read_actions(data):
        kinds.add(kind)
        if kind in ("commitInfo", "protocol", "metaData"):
            if kind in single:
                raise _bad(number, f"repeats {kind!r}, which a commit may hold once", line)
            single[kind] = action
            if kind == "commitInfo":
                try:
                    fingerprint_of(action)
                except ValueError as error:
                    raise _bad(number, f"is malformed: {error}", line) from error
        elif kind == "add":
            if action["path"] in paths:
                raise _bad(number, f"adds the path {action['path']!r} twice", line)
            paths.add(action["path"])
            data_lines.append(line.strip())
        elif kind == "txn":
            if action["appId"] in txn_apps:
                raise _bad(number, f"repeats the txn of application {action['appId']!r}", line)
            txn_apps.add(action["appId"])
            data_lines.append(line.strip())
    if not kinds:
        raise refused(
            Code.INVALID_PAYLOAD,
            f"{field} holds no Delta action",
            field=field,
            value="",
            remedy="Stage at least one action, one JSON object a line.",
        )
    return Payload(
        data=data,
        sha256=sha256_hex(data),
        kinds=frozenset(kinds),
        data_lines=tuple(data_lines),
        paths=frozenset(paths),
        txn_apps=frozenset(txn_apps),
        commit_info=single.get("commitInfo"),
        protocol=single.get("protocol"),
        metadata=single.get("metaData"),
    )


def check_blind_append(payload: Payload) -> None:
    """Raise `Refused` (NOT_AN_APPEND) unless the payload holds nothing but add, txn and commitInfo (design 3.1)."""
    others = sorted(payload.kinds - BLIND_APPEND_ACTIONS)
    if others:
        raise refused(
            Code.NOT_AN_APPEND,
            f"mode 'append' takes only add, txn and commitInfo actions; the payload holds {', '.join(others)}",
            field="mode",
            value="append",
            remedy="Commit this payload with mode 'strict' and the read_version it was computed from.",
        )


def _bad(number: int, problem: str, line: bytes | None) -> Refused:
    shown = None if line is None else line[:200].decode("utf-8", errors="replace")
    return refused(
        Code.INVALID_PAYLOAD,
        f"payload line {number} {problem}",
        field=f"payload line {number}",
        value=shown,
        remedy="Stage newline-delimited JSON with one Delta action per line: " + ", ".join(sorted(ACTIONS)) + ".",
    )
