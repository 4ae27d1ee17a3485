"""Staged payloads: newline-delimited Delta actions, checked before a reservation (Delta protocol, Actions)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from springline.delta.actions import FIELDS, BadAction, judge_action, missing_field, vector_id
from springline.delta.datapath import BadPath, decoded_path
from springline.delta.features import judge_protocol
from springline.delta.identity import is_own, sha256_hex
from springline.delta.limits import MAX_COMMIT_INFO_BYTES, shortened, shown
from springline.delta.metadata import judge_metadata
from springline.delta.strictjson import BadJson, strict_json, texts_of
from springline.errors import Code, Refusal, Refused, refused

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
_BLANK = b" \t\r"
"""What JSON takes for blank in a line; readers stop at a line of other white space."""
_OPERATION = re.compile(r"[a-z0-9_]{1,32}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
BLIND_APPEND_ACTIONS = frozenset({"add", "txn", "commitInfo"})


class Line(NamedTuple):
    """One action of a payload: its line's number from 1, its name, its body, and a file's parsed statistics."""

    number: int
    kind: str
    action: dict[str, Any]
    stats: dict[str, Any] | None

    @property
    def place(self) -> str:
        """The action's name in refusals."""
        return f"payload line {self.number}: {self.kind}"


@dataclass(frozen=True, slots=True)
class Payload:
    """The actions of one staged payload.

    `data_lines` are the raw lines of `add` and `txn` actions in order, for a merged round. `paths` are
    decoded, so that one file has one entry for any spelling of its path.
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
    lines: tuple[Line, ...]
    removed: frozenset[tuple[str, str | None]]
    """Decoded path and deletion vector of the files that it removes."""
    incomplete: Refusal | None
    """Why a table that has a protocol or metadata refuses it: a file's action lacks a required field."""

    @property
    def request_fingerprint(self) -> str | None:
        """Return the writer's fingerprint of its request, which does not depend on files; None if there is none."""
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


def read_actions(data: bytes) -> Iterator[tuple[bytes, Line, str | None]]:
    """Yield (raw line, action, decoded path of a file) of each line, judged by itself; raises `Refused` on a bad one.

    This judges single actions; `parse_payload` judges them together, and `springline.delta.compatibility` for a table.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(1, f"byte {error.start} is not UTF-8", None) from error
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip(_BLANK):
            continue
        try:
            parsed = strict_json(line)
        except BadJson as error:
            raise _bad(number, str(error), line) from error
        if type(parsed) is not dict or len(parsed) != 1:
            raise _bad(number, "is not an object with exactly one action", line)
        ((kind, action),) = parsed.items()
        if kind not in ACTIONS:
            raise _bad(number, f"holds {shown(kind)}, which is no Delta action", line)
        if type(action) is not dict:
            raise _bad(number, f"action {kind!r} is not an object", line)
        if kind == "commitInfo" and len(line) > MAX_COMMIT_INFO_BYTES:
            raise _bad(number, f"holds a commitInfo of more than {MAX_COMMIT_INFO_BYTES} bytes", line)
        try:
            stats = judge_action(kind, action)
            path = _decoded(action["path"]) if "path" in FIELDS[kind] else None
            if b"\\u0000" in line:
                _no_nul(action)
        except BadAction as error:
            raise bad_action(Line(number, kind, action, None), error) from None
        yield line, Line(number, kind, action, stats), path


def bad_action(line: Line, error: BadAction) -> Refused:
    """Return the refusal of an action, by itself or for its table."""
    field = f"{line.place}.{error.place}" if error.place else line.place
    return refused(
        Code.INVALID_PAYLOAD,
        f"{field}: {shown(error.value)} {error.problem}",
        field=field,
        value=shortened(error.value),
        remedy=error.remedy or "Stage the action as the Delta protocol describes it.",
    )


def _decoded(path: str) -> str:
    try:
        return decoded_path(path)
    except BadPath as error:
        raise BadAction(
            "path",
            path,
            str(error),
            "Name the file relative to the table's root, percent-encoded as in a URI (RFC 2396).",
        ) from None


def _no_nul(action: dict[str, Any]) -> None:
    """Refuse NUL in an action's own texts; partition values and statistics, which hold data, may have it."""
    for name, value in action.items():
        if name != "partitionValues" and any("\0" in text for text in texts_of(value)):
            raise BadAction(name, value, "holds a NUL character")


def parse_payload(
    data: bytes,
    *,
    field: str = "payload",
    complete: bool = True,
    limit: int = MAX_PAYLOAD_BYTES,
    own: bool = False,
) -> Payload:
    """Parse staged bytes; raises `Refused` (INVALID_PAYLOAD, PAYLOAD_TOO_LARGE) naming line, value and remedy.

    Without `complete`, a file's action that lacks a required field is left to be refused by its table
    (`Payload.incomplete`): the reference system's folders without protocol and metadata take such ones. `limit` is in
    bytes; only log files of other writers may be larger than a staged payload. `own`: accept a `txn` of an application
    that stands for an idempotency key, as in log files of our own operations.
    """
    if len(data) > limit:
        raise refused(
            Code.PAYLOAD_TOO_LARGE,
            f"{field} has {len(data)} bytes; the limit is {limit}",
            field=field,
            value=len(data),
            remedy="Write fewer, larger files, or split the write into several commits.",
        )
    kinds: set[str] = set()
    data_lines: list[bytes] = []
    lines: list[Line] = []
    single: dict[str, dict[str, Any]] = {}
    added: dict[str, Line] = {}
    removed: dict[str, Line] = {}
    named: dict[tuple[str, str], Line] = {}
    incomplete: Refusal | None = None
    for raw, line, path in read_actions(data):
        kind, action = line.kind, line.action
        if incomplete is None and (missing := missing_field(kind, action)) is not None:
            refused_one = bad_action(line, missing)
            if complete:
                raise refused_one
            incomplete = refused_one.refusal
        kinds.add(kind)
        lines.append(line)
        if kind == "add":
            _once(added, path, line, "is added", "path")
            data_lines.append(raw.strip())
        elif kind == "remove":
            _once(removed, path, line, "is removed", "path")
        elif kind == "txn":
            if not own and is_own(action["appId"]):
                raise bad_action(line, _reserved(action["appId"]))
            _once(named, (kind, action["appId"]), line, "has a txn", "appId")
            data_lines.append(raw.strip())
        elif kind == "domainMetadata":
            _once(named, (kind, action["domain"]), line, "is set", "domain")
        elif kind == "cdc":
            _once(named, (kind, str(path)), line, "is added", "path")
        elif kind in single:
            raise _bad(line.number, f"repeats {kind!r}, which a commit may hold once", raw)
        else:
            single[kind] = action
        if kind == "commitInfo":
            _check_fingerprint(line, raw)
        elif kind == "metaData":
            judge_metadata(action, field=line.place)
        elif kind == "protocol":
            judge_protocol(action, field=line.place)
    _added_or_removed(added, removed)
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
        paths=frozenset(added),
        txn_apps=frozenset(name for kind, name in named if kind == "txn"),
        commit_info=single.get("commitInfo"),
        protocol=single.get("protocol"),
        metadata=single.get("metaData"),
        lines=tuple(lines),
        removed=frozenset((path, vector_id(line.action.get("deletionVector"))) for path, line in removed.items()),
        incomplete=incomplete,
    )


def _reserved(app_id: str) -> BadAction:
    return BadAction(
        "appId",
        app_id,
        "is an application that stands for an idempotency key, and only Springline's own operations commit as it",
        "Give the transaction an application id of your own, and the key as the commit's idempotency key.",
    )


def _once(seen: dict[Any, Line], name: Any, line: Line, what: str, place: str) -> None:
    before = seen.setdefault(name, line)
    if before is not line:
        raise bad_action(
            line,
            BadAction(
                place,
                line.action[place],
                f"{what} by line {before.number} already",
                "Stage each of them once in a commit: readers differ in which of two they take.",
            ),
        )


def _added_or_removed(added: dict[str, Line], removed: dict[str, Line]) -> None:
    """Refuse a file that one commit adds and removes; a new deletion vector for a file does both, and is accepted."""
    for path in added.keys() & removed.keys():
        vectors = [vector_id(one[path].action.get("deletionVector")) for one in (added, removed)]
        if vectors[0] == vectors[1]:
            raise bad_action(
                max(added[path], removed[path], key=lambda line: line.number),
                BadAction(
                    "path",
                    removed[path].action["path"],
                    "is added and removed by one commit, and readers differ in what is left",
                    "Leave out one of the two; a rewritten file needs a path of its own.",
                ),
            )


def check_blind_append(payload: Payload) -> None:
    """Raise `Refused` (NOT_AN_APPEND) unless the payload has only add, txn and commitInfo.

    See docs/protocol.md#commits.
    """
    others = sorted(payload.kinds - BLIND_APPEND_ACTIONS)
    if others:
        raise refused(
            Code.NOT_AN_APPEND,
            f"mode 'append' takes only add, txn and commitInfo actions; the payload holds {', '.join(others)}",
            field="mode",
            value="append",
            remedy="Commit this payload with mode 'strict' and the read_version it was computed from.",
        )


def _check_fingerprint(line: Line, raw: bytes) -> None:
    try:
        fingerprint_of(line.action)
    except ValueError as error:
        raise _bad(line.number, f"is malformed: {error}", raw) from error


def _bad(number: int, problem: str, line: bytes | None) -> Refused:
    shown = None if line is None else line[:200].decode("utf-8", errors="replace")
    return refused(
        Code.INVALID_PAYLOAD,
        f"payload line {number} {problem}",
        field=f"payload line {number}",
        value=shown,
        remedy="Stage newline-delimited JSON with one Delta action per line: " + ", ".join(sorted(ACTIONS)) + ".",
    )
