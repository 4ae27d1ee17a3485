"""Rebuild manifests: what is taken, and what is refused by name.

See docs/formats.md#rebuild-manifest, docs/protocol.md#rebuild.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from springline.errors import Code, Refused
from springline.paths import ObjectPath
from springline.rebuild.manifest import RebuildManifest, check_parts, judge, parse_manifest, work_id_of, write_manifest
from springline.storage.memory import MemoryStore

PATH = ObjectPath("state/orchestration/rebuilds/2026.json")
ID_A, ID_B = "01JHMP8000000000000000000A", "01JHMP8000000000000000000B"
EVENT_A = f"ledger/orchestration/2025-01-15/{ID_A}.json"
EVENT_B = f"ledger/orchestration/2025-01-15/{ID_B}.json"
SEGMENT = f"ledger/orchestration/segments/v1/{ID_A}_{ID_B}.5ff35106357c.jsonl.zst"


def manifest(**lists: Any) -> RebuildManifest:
    return parse_manifest(PATH, json.dumps(lists).encode())


def test_a_manifest_of_events_is_taken_in_any_order_and_repetition() -> None:
    listed = judge([(PATH, manifest(event_paths=[EVENT_B, EVENT_A, EVENT_B]))])
    assert listed.event_ids == [ID_A, ID_B]
    assert listed.duplicate_paths == 1


def test_parts_and_segments_add_up() -> None:
    first = manifest(segment_paths=[SEGMENT], parts=["state/orchestration/rebuilds/p1.json"])
    assert check_parts(PATH, first.parts) == ["state/orchestration/rebuilds/p1.json"]
    listed = judge([(PATH, first), (PATH, manifest(event_paths=[EVENT_A], segment_paths=[SEGMENT]))])
    assert (listed.event_ids, listed.segments, listed.duplicate_paths) == ([ID_A], [SEGMENT], 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[]", "a list"),
        (b"null", "null"),
        (b"7", "a number"),
        (b"{}", "names nothing"),
        (b'{"event_paths": []}', "names nothing"),
        (b'{"paths": ["x"]}', "unknown field 'paths'"),
        (b'{"event_paths": "x"}', "text as event_paths"),
        (b'{"event_paths": {}}', "an object as event_paths"),
        (b'{"event_paths": [7]}', "event_paths[0]"),
        (b'{"event_paths": [null]}', "event_paths[0]"),
        (b'{"as_of_round": 3}', "names nothing"),
        (b'{"event_paths": ["x"], "as_of_round": -1}', "'-1' as as_of_round"),
        (b'{"event_paths": ["x"], "as_of_round": 1.5}', "'1.5' as as_of_round"),
        (b'{"event_paths": ["x"], "as_of_round": true}', "'True' as as_of_round"),
        (b'{"event_paths": ["x"], "as_of_round": "3"}', "'3' as as_of_round"),
    ],
)
def test_bad_shapes_are_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_manifest(PATH, data)
    refusal = caught.value.refusal
    assert refusal.code is Code.INVALID_REQUEST
    assert said in refusal.message
    assert refusal.remedy


@pytest.mark.parametrize(
    "path",
    [
        "",
        "x",
        "/" + EVENT_A,
        "tenant=other/workspace=prod/" + EVENT_A,
        f"ledger/orchestration/2025-01-16/{ID_A}.json",
        f"ledger/orchestration/2025-01-15/{ID_A.lower()}.json",
        f"ledger/orchestration/2025-01-15/{ID_A}.JSON",
        f"ledger/orchestration/2025-01-15/x/{ID_A}.json",
        "ledger/orchestration/2025-01-15/evt-1.json",
        "ledger/orchestration/9999-12-31/7ZZZZZZZZZZZZZZZZZZZZZZZZZ.json",
        "ledger/orchestration/../orchestration/2025-01-15/" + ID_A + ".json",
        SEGMENT,
    ],
)
def test_one_bad_event_path_refuses_all(path: str) -> None:
    with pytest.raises(Refused) as caught:
        judge([(PATH, manifest(event_paths=[EVENT_A, path]))])
    refusal = caught.value.refusal
    assert refusal.field == "event_paths[1]"
    assert refusal.value == path
    assert refusal.remedy


@pytest.mark.parametrize("path", ["", EVENT_A, SEGMENT.replace("v1", "v2"), SEGMENT + "x"])
def test_one_bad_segment_path_refuses_all(path: str) -> None:
    with pytest.raises(Refused) as caught:
        judge([(PATH, manifest(segment_paths=[path]))])
    assert caught.value.refusal.field == "segment_paths[0]"


@pytest.mark.parametrize("part", ["", "x.json", "state/orchestration/rebuilds/../x.json", EVENT_A])
def test_parts_lie_where_manifests_lie(part: str) -> None:
    with pytest.raises(Refused) as caught:
        check_parts(PATH, [part])
    assert caught.value.refusal.field == "parts[0]"


@pytest.mark.parametrize(
    "data",
    [
        b'{"parts": ["state/orchestration/rebuilds/p1.json"]}',
        b'{"event_paths": ["%s"], "as_of_round": 3}' % EVENT_A.encode(),
    ],
)
def test_a_part_has_no_parts_and_no_round(data: bytes) -> None:
    with pytest.raises(Refused, match="is a part"):
        parse_manifest(PATH, data, is_part=True)
    parse_manifest(PATH, data)


async def test_a_list_says_up_to_which_round_it_goes_also_in_parts() -> None:
    store = MemoryStore()
    whole = await write_manifest(store, PATH, [ObjectPath(EVENT_A)], [], as_of_round=7)
    assert (await _read(store, whole.path)).as_of_round == 7
    other = ObjectPath("state/orchestration/rebuilds/other.json")
    events = [ObjectPath(EVENT_A), ObjectPath(EVENT_B)]
    cut = await write_manifest(store, other, events, [ObjectPath(SEGMENT)], as_of_round=0, part_size=1)
    first = await _read(store, cut.path)
    assert (first.as_of_round, first.parts) == (0, cut.parts)
    parts = [await _read(store, part, is_part=True) for part in cut.parts]
    assert [path for part in parts for path in part.event_paths] == events
    unknown = await write_manifest(store, ObjectPath("state/orchestration/rebuilds/unknown.json"), events, [])
    assert (await _read(store, unknown.path)).as_of_round is None


async def _read(store: MemoryStore, path: ObjectPath, *, is_part: bool = False) -> RebuildManifest:
    stored = await store.get(path)
    assert stored is not None
    return parse_manifest(path, stored.data, is_part=is_part)


def test_the_same_contents_and_configuration_are_the_same_work() -> None:
    assert work_id_of([b"a", b"b"], "f") == work_id_of([b"a", b"b"], "f")
    others = {work_id_of([b"ab"], "f"), work_id_of([b"a", b"b"], "g"), work_id_of([b"b", b"a"], "f")}
    assert work_id_of([b"a", b"b"], "f") not in others
    assert len(work_id_of([], "")) == 26
