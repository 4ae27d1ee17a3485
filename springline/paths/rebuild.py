"""Paths of a rebuild's work folder: objects that its steps write for each other and for the next attempt.

See docs/protocol.md#rebuild.
"""

from __future__ import annotations

import re
from typing import Final

from springline.paths.components import made_by, short_hash
from springline.paths.orchestration import ORCHESTRATION_TABLES
from springline.paths.scope import InvalidPath, ObjectPath, count, relative_path, segment

_WORK: Final = "state/orchestration/rebuild-work"
REBUILD_REPORT_PATTERN: Final = rf"^{_WORK}/[0-9a-f]{{26}}/reports/[^/\u0000]+[.]json$"
"""The pattern of reports' paths, for JSON schemas; `parse_rebuild_report` checks more."""
_WORK_ID = re.compile(r"[0-9a-f]{26}")
_MOST_PARTS: Final = 999_999
_SHARD_TABLES: Final = (*ORCHESTRATION_TABLES, "catalog_run_index")
_OF_WORK = re.compile(r"state/orchestration/rebuild-work/([0-9a-f]{26})/.+")
_REPORT = re.compile(r"state/orchestration/rebuild-work/([0-9a-f]{26})/reports/([^/]+)\.json")


def rebuild_work_prefix() -> ObjectPath:
    """Return the folder of all rebuilds' work, without a trailing slash."""
    return ObjectPath(_WORK)


def rebuild_work_dir(work_id: str) -> ObjectPath:
    """Return the work folder of one rebuild, without a trailing slash; `work_id` is 26 hex digits."""
    if not isinstance(work_id, str) or not _WORK_ID.fullmatch(work_id):
        raise InvalidPath("work_id", work_id, "give 26 lower-case hex digits")
    return ObjectPath(f"{_WORK}/{work_id}")


def rebuild_work_of(path: str) -> str | None:
    """Return the work id in the path of an object in a work folder, or None for another path."""
    match = _OF_WORK.fullmatch(path)
    if match is None:
        return None
    try:
        relative_path(path)
    except InvalidPath:
        return None
    return match[1]


def rebuild_slice(work_id: str, number: int) -> ObjectPath:
    """Return the name of the list of event paths that slice `number` (from 0) reads."""
    return ObjectPath(f"{rebuild_work_dir(work_id)}/slices/{_number(number)}.json")


def rebuild_slice_receipt(work_id: str, number: int, content_hash: str | None = None) -> ObjectPath:
    """Return the name of the record of what slice `number` read and wrote.

    Without `content_hash` that of a slice with nothing missing or damaged; others are named by their bytes.
    """
    return ObjectPath(f"{rebuild_work_dir(work_id)}/slices/{_number(number)}{_variant(content_hash)}.receipt.json")


def rebuild_segment_receipt(work_id: str, number: int, content_hash: str | None = None) -> ObjectPath:
    """Return the name of the record of what listed segment `number` holds; `content_hash` as for slices."""
    return ObjectPath(f"{rebuild_work_dir(work_id)}/segments/{_number(number)}{_variant(content_hash)}.receipt.json")


def rebuild_section(work_id: str, part: int, shard: int, content_hash: str) -> ObjectPath:
    """Return the name of the events of part `part` that shard `shard` folds; parts are slices, then segments."""
    name = f"{_number(part)}-{_number(shard)}.{short_hash(content_hash)}"
    return ObjectPath(f"{rebuild_work_dir(work_id)}/sections/{name}.msgpack.lz4")


def rebuild_segments(work_id: str) -> ObjectPath:
    """Return the name of the list of segments that are read as they are."""
    return ObjectPath(f"{rebuild_work_dir(work_id)}/segments.json")


def rebuild_accepted(work_id: str, content_hash: str) -> ObjectPath:
    """Return the name of a list of events accepted by round records, or of the list of these lists."""
    return ObjectPath(f"{rebuild_work_dir(work_id)}/accepted/{short_hash(content_hash)}.json")


def rebuild_shards(work_id: str, content_hash: str) -> ObjectPath:
    """Return the name of the record of how the fold is split, by the hash of its bytes."""
    return ObjectPath(f"{_shards_dir(work_id, content_hash)}.json")


def rebuild_shard_table(work_id: str, split: str, number: int, table: str, content_hash: str) -> ObjectPath:
    """Return the name of the rows of `table` that shard `number` folded; `split` is the hash of the split's record."""
    if table not in _SHARD_TABLES:
        raise InvalidPath("table", table, f"give one of {', '.join(_SHARD_TABLES)}")
    folder = f"{_shards_dir(work_id, split)}/{_number(number)}"
    return ObjectPath(f"{folder}/{table}.{short_hash(content_hash)}.arrow")


def rebuild_shard_receipt(work_id: str, split: str, number: int) -> ObjectPath:
    """Return the name of the record of what shard `number` folded and wrote; `split` as above."""
    return ObjectPath(f"{_shards_dir(work_id, split)}/{_number(number)}.receipt.json")


def rebuild_base(work_id: str, snapshot_id: str) -> ObjectPath:
    """Return the name of the description of a rebuilt base."""
    return ObjectPath(f"{rebuild_work_dir(work_id)}/bases/{segment('snapshot_id', snapshot_id)}.json")


def rebuild_report(work_id: str, name: str) -> ObjectPath:
    """Return the name of a rebuild's report; `name` is one segment, without `.json`."""
    return ObjectPath(f"{rebuild_work_dir(work_id)}/reports/{segment('report name', name)}.json")


def parse_rebuild_report(path: str) -> tuple[str, str] | None:
    """Return work id and name in a report's path, or None for another path."""
    match = _REPORT.fullmatch(path)
    if match is None or not made_by(path, rebuild_report, match[1], match[2]):
        return None
    return match[1], match[2]


def _shards_dir(work_id: str, content_hash: str) -> str:
    return f"{rebuild_work_dir(work_id)}/shards/{short_hash(content_hash)}"


def _variant(content_hash: str | None) -> str:
    return "" if content_hash is None else f".{short_hash(content_hash)}"


def _number(number: int) -> str:
    return f"{count('part number', number, most=_MOST_PARTS):06}"
