"""Writing rebuild manifests: one object, or parts and an object that names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from springline.errors import Code, refused
from springline.paths import InvalidPath, ObjectPath, check_rebuild_manifest, orchestration_rebuild
from springline.rebuild.manifest import AS_OF_ROUND
from springline.rebuild.request import checked_manifest_path
from springline.storage.parallel import each
from springline.storage.port import ObjectStore
from springline.storage.resolve import Other, put_once

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
