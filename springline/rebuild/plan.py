"""Planning a rebuild: the objects to read, cut into parts that run side by side (docs/protocol.md#rebuild)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, Literal

from springline.errors import Code, Refused, refused
from springline.paths import ObjectPath, parse_ledger_segment, rebuild_segments, rebuild_slice
from springline.projection.config import FoldConfig
from springline.projection.schema import TABLES
from springline.published.configuration import difference
from springline.published.head import PublishedHead, read_head
from springline.published.manifest import ConfigSection
from springline.rebuild.accepted import counts_of, is_whole, write_accepted
from springline.rebuild.later import index_of
from springline.rebuild.manifest import RebuildManifest, check_parts, judge, parse_manifest, work_id_of
from springline.rebuild.messages import PlanOrder, RebuildMode, RebuildPlan, checked_manifest_path
from springline.rebuild.parts import write_list
from springline.sequencer.accepted import survey
from springline.sequencer.foreign import MAX_AHEAD_MS, is_too_far_ahead
from springline.storage.damage import DamagedObject
from springline.storage.port import ObjectStore
from springline.storage.threads import in_thread
from springline.storage.together import each

SLICES: Final = 16
"""Enough that all workers read at the same time, and about equally much."""
LEAST_SLICE: Final = 1_000
MOST_SLICE: Final = 10_000
"""Events of a slice: with fewer the step's overhead would exceed its reads, with more a retry would repeat too much."""
EVENTS_PER_SHARD: Final = 12_500
"""Small enough that workers have about equally much to do, however the shards are distributed."""
MOST_SHARDS: Final = 16
"""A limit, because each part writes an object for each shard."""
SMALL: Final = 5_000
"""Below this many events there is one shard."""
SEGMENT_EVENTS: Final = 10_000
"""About how many events a sealed segment has; only progress and the number of shards depend on it."""


async def plan_rebuild(store: ObjectStore, config: FoldConfig, order: PlanOrder) -> RebuildPlan:
    """Read the manifest and its parts, judge every path, and write the lists that the parts of the work read.

    Raises `Refused` for a manifest that is missing, invalid, or names what cannot be read; nothing is written then.
    """
    manifests, contents = await _read_manifests(store, order.rebuild_manifest_path)
    listed = await in_thread(lambda: judge(manifests))
    head, problem = await _head(store)
    if head is not None and head.manifest.springline is not None:
        _check_config(config, head.manifest.springline.config, order.mode)
    marks = head.manifest.watermarks if head is not None else None
    ids, segments = listed.event_ids, listed.segments
    floor = None
    if order.mode is RebuildMode.CATCH_UP:
        if head is None:
            raise _nothing_to_catch_up(problem)
        floor = marks.last_visible_event_id or marks.events_processed_through if marks is not None else None
        if floor is not None:
            ids = ids[bisect_right(ids, floor) :]
            segments = [path for path in segments if (name := parse_ledger_segment(path)) and name.last_id > floor]
    ends = [*ids[-1:], *(name.last_id for path in segments if (name := parse_ledger_segment(path)))]
    _check_times(ends, order.now_ms)
    index = await index_of(store, None if head is None else head.manifest)
    can_be_read = index is not None and await is_whole(store, index)
    accepted_by: Literal["index", "rounds"] = "index" if can_be_read else "rounds"
    slices = slices_of(ids)
    # Parts are named by their numbers, so another cut must have another work id.
    cut = str([len(one) for one in slices]).encode()
    # A part that was read without accepted hashes is read again once there are some.
    # What a build that has other tables left of the same work is no part of this one.
    tables = ",".join(TABLES).encode()
    work_id = work_id_of([*contents, (floor or "").encode(), accepted_by.encode(), cut, tables], config.fingerprint)
    ours = head.manifest.springline if head is not None else None
    accepted_path = None
    if accepted_by == "rounds":
        folded, count = (None, None) if ours is None else (ours.rounds_folded, ours.events.count)
        accepted_path = await write_accepted(store, work_id, await survey(store, index, folded=folded, count=count))
    await each(lambda number: write_list(store, rebuild_slice(work_id, number), slices[number]), range(len(slices)))
    await write_list(store, rebuild_segments(work_id), segments)
    counts = await counts_of(store, index) if segments else {}
    listed_events = len(ids) + sum(counts.get(path, SEGMENT_EVENTS) for path in segments)
    return RebuildPlan(
        work_id=work_id,
        slices=len(slices),
        segments=len(segments),
        listed=listed_events,
        duplicate_paths=listed.duplicate_paths,
        skipped=len(listed.event_ids) - len(ids),
        shards=shards_for(listed_events, config),
        floor=floor,
        watermark=marks.last_visible_event_id if marks is not None else None,
        rounds_folded=_rounds_listed(manifests[0][1], 0 if ours is None else ours.rounds_folded),
        digest_before=ours.digest.state if ours is not None else None,
        manifest_path=head.manifest_path if head is not None else None,
        head_problem=problem,
        accepted_by=accepted_by,
        accepted_path=accepted_path,
        last_listed=max(ends, default=None),
    )


def _rounds_listed(manifest: RebuildManifest, folded: int) -> int:
    """Return the round up to which a manifest lists all events, as far as it is known; `folded` are published."""
    return folded if manifest.as_of_round is None else min(folded, manifest.as_of_round)


def slices_of(ids: Sequence[str]) -> list[Sequence[str]]:
    """Cut event ids into slices, each for one step; with a slow store a single step would take too long."""
    size = min(MOST_SLICE, max(LEAST_SLICE, -(-len(ids) // SLICES)))
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def shards_for(events: int, config: FoldConfig) -> int:
    """Return the number of shards for so many events; with retention it is one (see sharding)."""
    if config.retention_days is not None or events < SMALL:
        return 1
    return max(2, min(MOST_SHARDS, -(-events // EVENTS_PER_SHARD)))


async def _read_manifests(
    store: ObjectStore, path: str
) -> tuple[list[tuple[ObjectPath, RebuildManifest]], list[bytes]]:
    first = checked_manifest_path(path)
    data = await _get(store, first)
    manifest = await in_thread(lambda: parse_manifest(first, data))
    parts = check_parts(first, manifest.parts)
    contents = await each(lambda part: _get(store, part), parts)
    parsed = await in_thread(
        lambda: [
            (part, parse_manifest(part, content, is_part=True)) for part, content in zip(parts, contents, strict=True)
        ]
    )
    return [(first, manifest), *parsed], [data, *contents]


async def _get(store: ObjectStore, path: ObjectPath) -> bytes:
    stored = await store.get(path)
    if stored is None:
        raise refused(
            Code.REBUILD_MANIFEST_NOT_FOUND,
            f"there is no rebuild manifest at {path}",
            field="rebuild_manifest_path",
            value=str(path),
            remedy="Write it there first: `springline rebuild plan` makes one of the index of accepted events.",
        )
    return stored.data


async def _head(store: ObjectStore) -> tuple[PublishedHead | None, str | None]:
    """Return the published revision; if it cannot be read, None and why: a full rebuild does not need it."""
    try:
        head = await read_head(store)
    except DamagedObject as error:
        return None, str(error)
    return head, None if head is not None else "nothing is published"


def _check_config(config: FoldConfig, published: ConfigSection, mode: RebuildMode) -> None:
    found = difference(published, config.fingerprint, config.retention_days)
    if found is None or mode is RebuildMode.FULL:
        return
    raise refused(
        Code.INVALID_REQUEST,
        f"the published state was folded {found.folded}, and this worker {found.has}",
        field="mode",
        value=mode.value,
        remedy=found.remedy,
    )


def _check_times(last_ids: Sequence[str], now_ms: int) -> None:
    """Refuse events of the future: our own new ids must lie above all others, and could not until then."""
    for event_id in last_ids:
        if is_too_far_ahead(event_id, now_ms):
            raise refused(
                Code.INVALID_REQUEST,
                f"the rebuild manifest lists event {event_id}, whose time lies more than {MAX_AHEAD_MS // 60_000} "
                "minutes ahead",
                field="event_paths",
                value=event_id,
                remedy="Leave it out, or start the rebuild again when its time has come; check the clock that made it.",
            )


def _nothing_to_catch_up(problem: str | None) -> Refused:
    return refused(
        Code.INVALID_REQUEST,
        f"there is no published state to catch up from: {problem}",
        field="mode",
        value=RebuildMode.CATCH_UP.value,
        remedy="Rebuild in mode full.",
    )
