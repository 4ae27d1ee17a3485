"""How the partitions of assets stand, from rows of the published state and the deployed definitions.

Keys of partitions are computed by position, and rows are read for some positions at a time, so that an asset may have a
million of them. Which table says what was made: `partition_status`; an asset without partitions has no row there, and
the last of its tasks that succeeded counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from springline.definitions.manifest import DeployedAsset, DeployedManifest
from springline.definitions.mappings import MappingKind, PartitionMapping, is_multi, needed_places
from springline.definitions.partitions import Partitions
from springline.projection.rows import AttemptRow, PartitionRow
from springline.projection.schema import PARTITION_STATUS, SUCCEEDED, TASKS, X_ATTEMPTS
from springline.published.snapshot import StateSnapshot
from springline.staleness.judging import Materialization, StalenessVerdict, UpstreamPart, judge
from springline.staleness.needs import NeedsOfAssets

TABLES: Final = (PARTITION_STATUS.name, TASKS.name, X_ATTEMPTS.name)
"""What a snapshot must hold."""
STEP: Final = 500
"""Partitions that are judged at once."""
_STEP_OF_WINDOWS: Final = 50
"""Where each needs many others: so many days of hours are read at once."""


@dataclass(frozen=True, slots=True)
class PartitionStand:
    """A partition, or an asset without partitions (`key` None): how it stands, and what its row says."""

    key: str | None
    verdict: StalenessVerdict
    made: Materialization | None = None
    run_id: str | None = None
    row: PartitionRow | None = None


@dataclass(slots=True)
class AssetCounts:
    """How many partitions of an asset stand how. `counted` are the latest of `partitions`."""

    asset: str
    partitions: int
    counted: int = 0
    stale: int = 0
    states: Counter[str] = field(default_factory=Counter)
    latest_ms: int | None = None


@dataclass(frozen=True, slots=True)
class _Whole:
    """An asset as one thing: of one without partitions its last materialization."""

    made: Materialization | None
    missing: bool
    run_id: str | None = None


class AssetStands:
    """How the partitions of a workspace's assets stand at an instant.

    Args:
        snapshot: the tables `TABLES` of one revision.
        manifest: the definitions that count.
        now_ms: the present, in epoch milliseconds.
    """

    def __init__(self, snapshot: StateSnapshot, manifest: DeployedManifest, now_ms: int) -> None:
        self.assets = {one.key: one for one in manifest.assets}
        self._needs = NeedsOfAssets(manifest)
        self.now_ms = now_ms
        self._now = datetime.fromtimestamp(now_ms / 1_000, UTC)
        self._rows = snapshot[PARTITION_STATUS.name]
        self._snapshot = snapshot
        self._last_tasks: dict[str, _Whole] | None = None
        self._wholes: dict[str, _Whole] = {}

    def count(self, asset: str) -> int:
        """Return how many partitions an asset has whose time has begun; 1 for an asset without partitions."""
        partitions = self.assets[asset].partitions
        return 1 if partitions is None else partitions.begun_by(self._now)

    def stands(self, asset: str, first: int, behind: int) -> Iterator[PartitionStand]:
        """Yield how the partitions at the positions from `first` to before `behind` stand, in that order."""
        definition = self.assets[asset]
        step = _STEP_OF_WINDOWS if self._has_windows(definition) else STEP
        while first < behind:
            yield from self._some(definition, first, min(behind, first + step))
            first += step

    def latest_first(self, asset: str, behind: int) -> Iterator[PartitionStand]:
        """Yield how the partitions before the position `behind` stand, the last one first."""
        step = _STEP_OF_WINDOWS if self._has_windows(self.assets[asset]) else STEP
        while behind > 0:
            yield from reversed(list(self.stands(asset, max(0, behind - step), behind)))
            behind -= step

    def counts(self, asset: str, most: int) -> AssetCounts:
        """Return how many of the latest partitions of an asset, at most so many, stand how."""
        total = self.count(asset)
        found = AssetCounts(asset, total)
        for one in self.stands(asset, max(0, total - most), total):
            found.counted += 1
            found.stale += one.verdict.stale
            found.states[one.verdict.state.value] += 1
            if one.made is not None and (found.latest_ms is None or one.made.at_ms > found.latest_ms):
                found.latest_ms = one.made.at_ms
        return found

    def _some(self, asset: DeployedAsset, first: int, behind: int) -> Iterator[PartitionStand]:
        partitions = asset.partitions
        if partitions is None:
            whole = self._whole_of(asset.key)
            verdict = self._judge(asset, None, whole.made, (self._all_of(one) for one in self._needs.of(asset.key)))
            yield PartitionStand(None, verdict, whole.made, whole.run_id)
            return
        keys = [partitions.key_at(position) for position in range(first, behind)]
        rows = self._rows_of(asset.key, partitions, keys)
        needed = [self._needed_by(asset, upstream, keys) for upstream in self._needs.of(asset.key)]
        for key in keys:
            row = rows.get(key)
            made = _made(row)
            verdict = self._judge(asset, key, made, (parts[key] for parts in needed))
            yield PartitionStand(key, verdict, made, None if row is None else row.last_materialization_run_id, row)

    def _judge(
        self, asset: DeployedAsset, key: str | None, made: Materialization | None, upstream: Iterable[UpstreamPart]
    ) -> StalenessVerdict:
        window = None if asset.partitions is None or key is None else asset.partitions.window(key)
        return judge(
            made,
            code_version=asset.code_version,
            upstream=upstream,
            freshness_ms=asset.freshness_ms,
            ends_ms=None if window is None else _ms(window[1]),
            now_ms=self.now_ms,
        )

    def _rows_of(self, asset: str, partitions: Partitions, keys: list[str]) -> dict[str, PartitionRow]:
        if not keys:
            return {}
        if partitions.by_time:
            rows: Any = self._rows.among((asset, keys[0]), (asset, keys[-1]))
        else:
            rows = [row for row in (self._rows.get((asset, key)) for key in keys) if row is not None]
        return {one.partition_key: one for one in (PartitionRow(*row) for row in rows)}

    def _needed_by(self, asset: DeployedAsset, upstream: str, keys: list[str]) -> dict[str, UpstreamPart]:
        """Return for each of an asset's keys the part of another asset that it needs."""
        above = self.assets[upstream]
        mapping = self._needs.of(asset.key)[upstream]
        partitions = above.partitions
        if partitions is None or mapping.kind is MappingKind.ALL:
            return dict.fromkeys(keys, self._all_of(upstream))
        if is_multi(partitions) or is_multi(asset.partitions):
            return self._in_dimensions(asset, above, mapping, keys)
        if mapping.kind is MappingKind.LATEST:
            return dict.fromkeys(keys, self._latest_of(above, partitions))
        if mapping.kind is MappingKind.IDENTITY:
            rows = self._rows_of(upstream, partitions, keys)
            return {key: self._identical(upstream, partitions, key, _made(rows.get(key))) for key in keys}
        return self._windows(asset, above, mapping, keys)

    def _in_dimensions(
        self, asset: DeployedAsset, above: DeployedAsset, mapping: PartitionMapping, keys: list[str]
    ) -> dict[str, UpstreamPart]:
        """Return the parts that are needed where one of the two lies in two dimensions: place by place."""
        partitions = above.partitions
        assert partitions is not None
        across, time = partitions.across, partitions.time
        first_keys = len((partitions if partitions.dimensions is None else partitions.dimensions[0].partitions).keys)
        ended = first_keys if time is None else time.ended_by(self._now)
        begun = first_keys if time is None else time.begun_by(self._now)
        times: dict[int, int | None] = {}

        def at(position: int) -> int | None:
            if position not in times:
                row: Any = self._rows.get((above.key, partitions.key_at(position)))
                times[position] = None if row is None else PartitionRow(*row).last_materialization_at
            return times[position]

        found: dict[str, UpstreamPart] = {}
        for key in keys:
            along, wanted = needed_places(mapping, partitions, asset.partitions, key, ended - 1)
            lines = range(begun) if along is None else along
            if mapping.kind is not MappingKind.IDENTITY:
                lines = range(lines.start, min(lines.stop, ended))
            columns = range(across) if wanted is None else wanted
            needed = [at(line * across + column) for line in lines if line >= 0 for column in columns]
            made = [one for one in needed if one is not None]
            nothing = mapping.kind is MappingKind.LATEST and not ended
            found[key] = UpstreamPart(above.key, max(made, default=None), nothing or len(made) < len(needed))
        return found

    def _identical(self, upstream: str, partitions: Partitions, key: str, made: Materialization | None) -> UpstreamPart:
        if made is None:
            # A key that the other asset does not have is not needed of it.
            return UpstreamPart(upstream, None, partitions.problem_of_key(key) is None)
        return UpstreamPart(upstream, made.at_ms, False)

    def _windows(
        self, asset: DeployedAsset, above: DeployedAsset, mapping: PartitionMapping, keys: list[str]
    ) -> dict[str, UpstreamPart]:
        """Return the parts that windows need: of those partitions of the other asset that have ended."""
        partitions = above.partitions
        assert partitions is not None
        assert asset.partitions is not None
        ended = partitions.ended_by(self._now)
        spans: dict[str, range] = {}
        for key in keys:
            window = asset.partitions.window(key)
            assert window is not None
            overlap = partitions.overlapping(*window)
            first = max(0, overlap.start + mapping.start_offset)
            spans[key] = range(first, max(first, min(ended, overlap.stop + mapping.end_offset)))
        lowest = min((one.start for one in spans.values() if one), default=0)
        behind = max((one.stop for one in spans.values() if one), default=0)
        times = self._times(above.key, partitions, lowest, behind)
        found: dict[str, UpstreamPart] = {}
        for key, span in spans.items():
            at = times[span.start - lowest : span.stop - lowest] if span else []
            made = [one for one in at if one is not None]
            found[key] = UpstreamPart(above.key, max(made, default=None), len(made) < len(at))
        return found

    def _times(self, asset: str, partitions: Partitions, first: int, behind: int) -> list[int | None]:
        """Return when the partitions by time at some positions were last made."""
        if first >= behind:
            return []
        keys = [partitions.key_at(position) for position in range(first, behind)]
        known: dict[str, int | None] = {}
        for piece in self._rows.scan([_AT], first=(asset, keys[0]), last=(asset, keys[-1])):
            known.update(zip(_texts(piece, "partition_key"), piece.column(_AT).to_pylist(), strict=True))
        return [known.get(key) for key in keys]

    def _latest_of(self, above: DeployedAsset, partitions: Partitions) -> UpstreamPart:
        ended = partitions.ended_by(self._now)
        if not ended:
            return UpstreamPart(above.key, None, True)
        found: Any = self._rows.get((above.key, partitions.key_at(ended - 1)))
        made = None if found is None else _made(PartitionRow(*found))
        return UpstreamPart(above.key, None if made is None else made.at_ms, made is None)

    def _all_of(self, asset: str) -> UpstreamPart:
        whole = self._whole_of(asset)
        return UpstreamPart(asset, None if whole.made is None else whole.made.at_ms, whole.missing)

    def _whole_of(self, asset: str) -> _Whole:
        """Return an asset as one thing: with partitions, when one was last made and whether one is missing."""
        partitions = self.assets[asset].partitions
        if partitions is None:
            if self._last_tasks is None:
                self._last_tasks = self._read_last_tasks()
            return self._last_tasks.get(asset, _Whole(None, True))
        if asset not in self._wholes:
            self._wholes[asset] = self._read_whole(asset, partitions)
        return self._wholes[asset]

    def _read_whole(self, asset: str, partitions: Partitions) -> _Whole:
        ended = partitions.ended_by(self._now)
        if partitions.dimensions is not None:
            return self._read_whole_of_two(asset, partitions, ended)
        among = None if partitions.by_time else set(partitions.keys)
        made, latest = 0, None
        if ended:
            last = partitions.key_at(ended - 1)
            span = (partitions.key_at(0), last) if among is None else (min(partitions.keys), max(partitions.keys))
            for piece in self._rows.scan([_AT], first=(asset, span[0]), last=(asset, span[1])):
                times = piece.column(_AT)
                if among is not None:
                    times = times.filter(pc.is_in(_plain(piece, "partition_key"), value_set=pa.array(sorted(among))))
                made += len(times) - times.null_count
                here = pc.max(times).as_py()
                latest = here if latest is None else max(latest, here or latest)
        return _Whole(None if latest is None else Materialization(latest), made < ended)

    def _read_whole_of_two(self, asset: str, partitions: Partitions, ended: int) -> _Whole:
        made, latest = 0, None
        for piece in self._rows.scan(["partition_key", _AT], first=(asset, ""), last=(asset, _BEHIND_ALL)):
            for key, at in zip(_texts(piece, "partition_key"), piece.column(_AT).to_pylist(), strict=True):
                if at is None or partitions.problem_of_key(key) is not None or partitions.position(key) >= ended:
                    continue
                made, latest = made + 1, max(latest or at, at)
        return _Whole(None if latest is None else Materialization(latest), made < ended)

    def _read_last_tasks(self) -> dict[str, _Whole]:
        """Return the last materializations of all assets without partitions, in one pass over the tasks."""
        wanted = pa.array(sorted(key for key, one in self.assets.items() if one.partitions is None), pa.string())
        last: dict[str, tuple[int, str, str, str]] = {}
        for piece in self._snapshot[TASKS.name].scan(_OF_TASKS):
            is_one = pc.and_(
                pc.is_in(_plain(piece, "asset_key"), value_set=wanted), pc.equal(_plain(piece, "state"), SUCCEEDED)
            )
            found = piece.filter(pc.fill_null(is_one, False))
            columns = zip(*(found.column(name).to_pylist() for name in _OF_TASKS), strict=True)
            for run_id, task_key, asset, _, completed_at, attempt_id in columns:
                if completed_at is not None and (asset not in last or (completed_at, run_id) > last[asset][:2]):
                    last[asset] = (completed_at, run_id, task_key, attempt_id or "")
        return {asset: self._whole_by(*found) for asset, found in last.items()}

    def _whole_by(self, at_ms: int, run_id: str, task_key: str, attempt_id: str) -> _Whole:
        found: Any = self._snapshot[X_ATTEMPTS.name].get((run_id, task_key, attempt_id))
        version = None if found is None else AttemptRow(*found).code_version
        return _Whole(Materialization(at_ms, version), False, run_id)

    def _has_windows(self, asset: DeployedAsset) -> bool:
        return any(one.kind is MappingKind.WINDOW for one in self._needs.of(asset.key).values())


_BEHIND_ALL: Final = "\U0010ffff"
"""No key of a partition lies behind it: it cannot be printed."""
_AT: Final = "last_materialization_at"
_OF_TASKS: Final = ("run_id", "task_key", "asset_key", "state", "completed_at", "attempt_id")


def _made(row: PartitionRow | None) -> Materialization | None:
    if row is None or row.last_materialization_at is None:
        return None
    return Materialization(row.last_materialization_at, row.last_materialization_code_version)


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1_000)


def _plain(piece: pa.Table, name: str) -> pa.ChunkedArray:
    values = piece.column(name)
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _texts(piece: pa.Table, name: str) -> list[str]:
    found: list[str] = piece.column(name).to_pylist()
    return found
