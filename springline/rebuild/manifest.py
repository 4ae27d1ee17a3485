"""Rebuild manifests: the operator's list of what a rebuild is to read, written and judged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from springline.errors import Code, Refused, refused
from springline.ledger.event_ids import is_canonical
from springline.paths import (
    InvalidPath,
    ObjectPath,
    canonical_ulid_event,
    canonical_ulid_events,
    check_rebuild_manifest,
    event_id_from_ledger_path,
    orchestration_rebuild,
    parse_ledger_segment,
)
from springline.rebuild.messages import checked_manifest_path
from springline.storage.parallel import each
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once

LISTS = ("event_paths", "segment_paths", "parts")
AS_OF_ROUND = "as_of_round"
FIELDS = (*LISTS, AS_OF_ROUND)
MAX_MANIFEST_BYTES = 512 * 1024 * 1024
_SHOWN = 200
_ID = slice(-len("01JHMP8000000000000000000A.json"), -len(".json"))
"""Where the path of an event has its id."""


@dataclass(frozen=True, slots=True)
class RebuildManifest:
    """One manifest object, its shape checked and its paths not yet judged."""

    event_paths: list[str]
    segment_paths: list[str]
    parts: list[str]
    as_of_round: int | None = None


def parse_manifest(path: ObjectPath, data: bytes, *, is_part: bool = False) -> RebuildManifest:
    """Read a manifest object; `path` is for messages. Raises `Refused` (INVALID_REQUEST) naming what is wrong."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise _bad(path, f"has {len(data)} bytes", f"split it into parts of at most {MAX_MANIFEST_BYTES} bytes")
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _bad(path, f"is not JSON ({error})", 'write an object such as {"event_paths": [...]}') from None
    if not isinstance(document, dict):
        raise _bad(path, f"holds {_kind(document)} and no object", 'write an object such as {"event_paths": [...]}')
    unknown = sorted(set(document) - set(FIELDS))
    if unknown:
        raise _bad(path, f"has the unknown field {unknown[0][:_SHOWN]!r}", f"use only {', '.join(FIELDS)}")
    lists = {name: _paths(path, name, document.get(name, [])) for name in LISTS}
    if not any(lists.values()):
        raise _bad(path, "names nothing: its lists are empty", "list the events, segments or parts to read")
    if is_part and lists["parts"]:
        raise _bad(path, "is a part and has parts itself", "list all parts in the manifest that the rebuild is given")
    as_of_round = document.get(AS_OF_ROUND)
    if as_of_round is not None:
        _check_round(path, as_of_round, is_part=is_part)
    return RebuildManifest(lists["event_paths"], lists["segment_paths"], lists["parts"], as_of_round)


def check_parts(path: ObjectPath, parts: Sequence[str]) -> list[ObjectPath]:
    """Return the paths of a manifest's parts, without repetitions, in order. Raises `Refused` for a bad one."""
    checked: dict[ObjectPath, None] = {}
    for position, part in enumerate(parts):
        try:
            checked[check_rebuild_manifest(part)] = None
        except InvalidPath as error:
            raise _bad_entry(path, "parts", position, part, error.remedy) from None
    return list(checked)


@dataclass(frozen=True, slots=True)
class ListedObjects:
    """What manifests list: distinct event ids ascending, distinct segments, and how often a path was repeated."""

    event_ids: list[str]
    segments: list[ObjectPath]
    duplicate_paths: int


def judge(manifests: Iterable[tuple[ObjectPath, RebuildManifest]]) -> ListedObjects:
    """Check every path of a manifest and its parts.

    One bad path refuses them all, whatever mode would have done with it (docs/protocol.md#rebuild): an event's path
    must be the one canonical path of a canonical event id, a segment's one that a segment can have. Raises `Refused`
    naming the first bad one.
    """
    ids: set[str] = set()
    segments: dict[ObjectPath, None] = {}
    total = 0
    for source, manifest in manifests:
        total += len(manifest.event_paths) + len(manifest.segment_paths)
        ids.update(_ids_of(source, manifest.event_paths))
        for position, path in enumerate(manifest.segment_paths):
            if parse_ledger_segment(path) is None:
                remedy = "give the path of a sealed segment, as `rebuild plan` writes it"
                raise _bad_entry(source, "segment_paths", position, path, remedy)
            segments[ObjectPath(path)] = None
    return ListedObjects(sorted(ids), sorted(segments), total - len(ids) - len(segments))


def _ids_of(source: ObjectPath, event_paths: list[str]) -> list[str]:
    """Return the ids in paths of events. Raises `Refused` naming the first path that is none."""
    ids = [path[_ID] for path in event_paths]
    with suppress(InvalidPath):
        if canonical_ulid_events(ids) == event_paths:
            return ids
    return [_id_of(source, position, path) for position, path in enumerate(event_paths)]


def _id_of(source: ObjectPath, position: int, path: str) -> str:
    event_id = event_id_from_ledger_path(path)
    if event_id is None:
        remedy = "give the path of an event's object as it is within the workspace, with its day and its id"
        raise _bad_entry(source, "event_paths", position, path, remedy)
    if not is_canonical(event_id):
        remedy = "give an event whose id is a ULID of 26 upper-case symbols; fold others with `state fold`"
        raise _bad_entry(source, "event_paths", position, path, remedy)
    try:
        canonical = canonical_ulid_event(event_id)
    except InvalidPath as error:
        raise _bad_entry(source, "event_paths", position, path, error.remedy) from None
    if path != canonical:
        raise _bad_entry(source, "event_paths", position, path, f"the event's one path is {canonical}")
    return event_id


def work_id_of(contents: Iterable[bytes], config_fingerprint: str) -> str:
    """Return the id of the work that manifests ask for: the same contents and configuration, the same id."""
    digest = hashlib.sha256(config_fingerprint.encode())
    for content in contents:
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:26]


def _paths(path: ObjectPath, name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _bad(path, f"has {_kind(value)} as {name}", f"make {name} a list of paths", field=name)
    for position, one in enumerate(value):
        if not isinstance(one, str):
            raise _bad_entry(path, name, position, one, "give a path as text")
    return value


def _check_round(path: ObjectPath, value: Any, *, is_part: bool) -> None:
    if is_part:
        remedy = "say it in the manifest that the rebuild is given"
        raise _bad(path, f"is a part and has {AS_OF_ROUND}", remedy, field=AS_OF_ROUND)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        remedy = "leave it out, or give the number of a round, as `rebuild plan` does"
        raise _bad(path, f"has {str(value)[:_SHOWN]!r} as {AS_OF_ROUND}", remedy, field=AS_OF_ROUND)


def _bad(path: ObjectPath, problem: str, remedy: str, *, field: str = "rebuild_manifest_path") -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"the rebuild manifest {path} {problem}",
        field=field,
        value=str(path),
        remedy=remedy[0].upper() + remedy[1:] + ".",
    )


def _bad_entry(source: ObjectPath, name: str, position: int, value: object, remedy: str) -> Refused:
    field = f"{name}[{position}]"
    shown = value[:_SHOWN] if isinstance(value, str) else value
    return refused(
        Code.INVALID_REQUEST,
        f"the rebuild manifest {source} has a path at {field} that is refused: {shown!r}",
        field=field,
        value=shown,
        remedy=remedy[0].upper() + remedy[1:] + ".",
    )


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


PART_SIZE = 250_000
"""Paths in one object: about 20 MB."""
_PUTS_TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Written:
    """Where a manifest and its parts are."""

    path: ObjectPath
    parts: list[ObjectPath]


def manifest_path(name: str) -> ObjectPath:
    """Return the path of a rebuild manifest for what an operator gives: a path, or just a name.

    Raises `Refused` (INVALID_REQUEST).
    """
    if "/" in name:
        return checked_manifest_path(name)
    stem = name[:-5] if name.lower().endswith(".json") else name
    try:
        return orchestration_rebuild(stem)
    except InvalidPath as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"{name[:200]!r} cannot be the name of a rebuild manifest",
            field="--out",
            value=name[:200],
            remedy=error.remedy[0].upper() + error.remedy[1:] + ".",
        ) from None


async def write_manifest(
    store: ObjectStore,
    path: ObjectPath,
    event_paths: Sequence[ObjectPath],
    segment_paths: Sequence[ObjectPath],
    *,
    as_of_round: int | None = None,
    part_size: int = PART_SIZE,
) -> Written:
    """Write a rebuild manifest, in parts if it names more than `part_size` paths. Safe to repeat with the same.

    `as_of_round`: up to this round all events are listed, None if nobody knows.

    Raises `Refused`: INVALID_REQUEST if there is nothing to name, NAME_TAKEN if another manifest stands there.
    """
    if not event_paths and not segment_paths:
        raise refused(
            Code.INVALID_REQUEST,
            "there is no event to be rebuilt from",
            field="--out",
            value=str(path),
            remedy="Check tenant, workspace and store; nothing was written.",
        )
    if len(event_paths) + len(segment_paths) <= part_size:
        await _put(store, path, _document(event_paths, segment_paths, as_of_round))
        return Written(path, [])
    pieces = [
        *(_document(event_paths[start : start + part_size], []) for start in range(0, len(event_paths), part_size)),
        *(_document([], segment_paths[start : start + part_size]) for start in range(0, len(segment_paths), part_size)),
    ]
    stem = path[: -len(".json")]
    parts = [check_rebuild_manifest(f"{stem}.part-{number:05}.json") for number in range(len(pieces))]
    await each(lambda number: _put(store, parts[number], pieces[number]), range(len(parts)), concurrency=_PUTS_TOGETHER)
    await _put(store, path, _encoded({"parts": list(parts)}, as_of_round))
    return Written(path, parts)


def _document(
    event_paths: Sequence[ObjectPath], segment_paths: Sequence[ObjectPath], as_of_round: int | None = None
) -> bytes:
    lists = {"event_paths": event_paths, "segment_paths": segment_paths}
    return _encoded({name: list(paths) for name, paths in lists.items() if paths}, as_of_round)


def _encoded(lists: dict[str, list[ObjectPath]], as_of_round: int | None) -> bytes:
    known = {} if as_of_round is None else {AS_OF_ROUND: as_of_round}
    return orjson.dumps(known | lists, option=orjson.OPT_INDENT_2)


async def _put(store: ObjectStore, path: ObjectPath, data: bytes) -> None:
    if isinstance(await put_once(store, path, data), Other):
        raise refused(
            Code.NAME_TAKEN,
            f"another rebuild manifest stands at {path}",
            field="--out",
            value=str(path),
            remedy="Choose another name: a manifest that a rebuild may have read is not changed.",
        )
