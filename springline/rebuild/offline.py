"""One offline fold: read, fold batch by batch, and report what was folded and how fast."""

from __future__ import annotations

import gc
import gzip
import random
import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from springline.errors import Code, Refused, refused
from springline.ledger.request import EventOutcome, RefusalReason
from springline.paths import InvalidPath, ObjectPath, event_id_from_ledger_path, relative_path
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.schema import TABLES
from springline.published.golden_state import golden_state
from springline.rebuild.growing import GrowingState, Rejected
from springline.storage.port import ObjectStore

READ_TOGETHER = 4_096
"""Objects that are read at a time."""
_PARSED_ALONE = 100_000
"""At most so many events are parsed by orjson alone and timed, to compare machines."""
_MISSING = frozenset({RefusalReason.MISSING})
_DAMAGED = frozenset({RefusalReason.UNREADABLE, RefusalReason.OTHER_BODY})

Progress = Callable[[int], None]
"""Called with the number of paths that are done."""


@dataclass(frozen=True, slots=True)
class OfflineFold:
    """What an offline fold came to. Times are in seconds."""

    growing: GrowingState
    paths: int
    read_s: float
    fold_s: float

    @property
    def missing(self) -> list[Rejected]:
        """Events whose objects do not exist."""
        return [one for one in self.growing.tally.rejected if one.reason in _MISSING]

    @property
    def damaged(self) -> list[Rejected]:
        """Objects that are not events, or differ from an earlier one with the same id."""
        return [one for one in self.growing.tally.rejected if one.reason in _DAMAGED]

    @property
    def refused(self) -> list[Rejected]:
        """Objects that belong to another workspace, or have the wrong path."""
        return [one for one in self.growing.tally.rejected if one.reason not in _MISSING | _DAMAGED]

    def golden(self) -> dict[str, Any]:
        """Return the state in golden form."""
        last = self.growing.last
        event_id, path = (None, None) if last is None else last
        watermarks = {
            "events_processed_through": event_id,
            "last_committed_event_id": event_id,
            "last_processed_file": path,
            "last_visible_event_id": event_id,
        }
        return golden_state(
            self.growing.state.rows, {name: value for name, value in watermarks.items() if value is not None}
        )

    def report(self) -> dict[str, Any]:
        """Return what is printed: rates, counts, digests, and every object that was not folded, with why."""
        tally, bodies = self.growing.tally, self.growing.bodies
        state, outcomes = self.growing.state, self.growing.outcomes()
        digest = Digest.of({name: state.rows(name) for name in TABLES})
        folds = len(bodies) + tally.refolded
        alone = _parsed_per_second(list(bodies.values())[:_PARSED_ALONE])
        rate = len(bodies) / self.fold_s if self.fold_s else 0.0
        return {
            "events": len(bodies),
            "paths": self.paths,
            "repeated": tally.repeated,
            "outcomes": {one.value: outcomes[one] for one in EventOutcome if outcomes[one]},
            "missing": [_shown(one) for one in self.missing],
            "damaged": [_shown(one) for one in self.damaged],
            "refused": [_shown(one) for one in self.refused],
            "batches": tally.batches,
            "late": tally.late,
            "refolds": tally.refolds,
            "folds": folds,
            "read_seconds": round(self.read_s, 3),
            "fold_seconds": round(self.fold_s, 3),
            "events_per_second": round(rate),
            "events_per_second_with_reading": round(len(bodies) / (self.read_s + self.fold_s)) if bodies else 0,
            "orjson_events_per_second": round(alone),
            "share_of_orjson": round(rate / alone, 3) if alone else None,
            "input_bytes": sum(map(len, bodies.values())),
            "watermark": None if self.growing.last is None else self.growing.last[0],
            "digest": digest.state(),
            "own_digest": digest.own(),
            "tables": {name: {"rows": table.rows, "sum": table.sum} for name, table in digest.tables().items()},
        }


async def fold_offline(
    store: ObjectStore,
    config: FoldConfig,
    paths: Sequence[str],
    *,
    batch: int | None = None,
    progress: Progress | None = None,
) -> OfflineFold:
    """Fold the events at `paths`, delivered in this order in batches of so many, or all at once.

    A repeated path is read once. Nothing is written. Raises the store's errors.
    """
    growing = GrowingState(config)
    size = batch or max(1, len(paths))
    seen: set[str] = set()
    read_s = fold_s = 0.0
    # Events are in no reference cycles, so the collector would search millions of them in vain.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for start in range(0, len(paths), size):
            began = time.perf_counter()
            part = paths[start : start + size]
            fresh = [path for path in dict.fromkeys(part) if path not in seen]
            seen.update(fresh)
            growing.tally.repeated += len(part) - len(fresh)
            objects = await _read(store, fresh)
            between = time.perf_counter()
            growing.add(objects)
            del objects
            read_s += between - began
            fold_s += time.perf_counter() - between
            if progress is not None:
                progress(start + len(part))
    finally:
        if collecting:
            gc.enable()
    return OfflineFold(growing, len(paths), read_s, fold_s)


async def _read(store: ObjectStore, paths: list[str]) -> list[tuple[str, bytes | None]]:
    """Read objects; a path that no object can have counts as a missing object."""
    found: list[tuple[str, bytes | None]] = []
    for start in range(0, len(paths), READ_TOGETHER):
        part = paths[start : start + READ_TOGETHER]
        try:
            bodies = await store.read_many([ObjectPath(path) for path in part])
        except InvalidPath:
            good = [path for path in part if _can_be_a_name(path)]
            read = dict(zip(good, await store.read_many([ObjectPath(path) for path in good]), strict=True))
            bodies = [read.get(path) for path in part]
        found += zip(part, bodies, strict=True)
    return found


def _can_be_a_name(path: str) -> bool:
    try:
        relative_path(path)
    except InvalidPath:
        return False
    return True


def _parsed_per_second(bodies: list[bytes]) -> float:
    if not bodies:
        return 0.0
    began = time.perf_counter()
    for body in bodies:
        orjson.loads(body)
    return len(bodies) / (time.perf_counter() - began)


def _shown(one: Rejected) -> dict[str, str]:
    return {"path": one.path, "reason": one.reason.value, "message": one.message}


FIELD = "--manifest"
ORDER_FIELD = "--order"
_GZIP_MAGIC = b"\x1f\x8b"
_RANDOM = re.compile(r"random:(0|-?[1-9][0-9]{0,18})")
_REMEDY = 'Give a file with {"event_paths": ["..."]}, plain or compressed with gzip.'


def event_paths(file: Path) -> list[str]:
    """Return the paths that a file lists, in its order, repetitions included.

    Raises `Refused` (INVALID_REQUEST) if it cannot be read or holds anything else.
    """
    try:
        data = file.read_bytes()
        if data.startswith(_GZIP_MAGIC):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _wrong(f"file {str(file)!r} cannot be read: {said}", str(file)) from None
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _wrong(f"file {str(file)!r} is not JSON: {error}", str(file)) from None
    paths = content.get("event_paths") if isinstance(content, dict) else None
    if not isinstance(paths, list) or not paths:
        raise _wrong(f"file {str(file)!r} has no list `event_paths` with at least one path", str(file))
    for number, path in enumerate(paths):
        if not isinstance(path, str):
            raise _wrong(f"event_paths[{number}] is no text", path)
    return paths


def ordered(paths: list[str], order: str) -> list[str]:
    """Return `paths` in the order in which they are delivered.

    `listed`: as they are; `id`: by event id; `random:SEED`: shuffled, the same way for the same integer. Raises
    `Refused` (INVALID_REQUEST) for another order.
    """
    match = _RANDOM.fullmatch(order)
    if order == "listed":
        return list(paths)
    if order == "id":
        return sorted(paths, key=lambda path: (event_id_from_ledger_path(path) or "", path))
    if match is None:
        raise refused(
            Code.INVALID_REQUEST,
            f"{order!r} is no order",
            field=ORDER_FIELD,
            value=order,
            remedy="Give listed, id, or random:SEED with an integer, such as random:7.",
        )
    shuffled = list(paths)
    random.Random(int(match[1])).shuffle(shuffled)
    return shuffled


def _wrong(message: str, value: object) -> Refused:
    return refused(Code.INVALID_REQUEST, message, field=FIELD, value=value, remedy=_REMEDY)
