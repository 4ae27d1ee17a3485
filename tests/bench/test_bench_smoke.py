"""`make bench` in small: it runs, tells what it measured, and notices a wrong result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from bench import commit
from bench.matrix import Metric, Target, chosen
from bench.measure import Done, Window, completed_in, percentile
from bench.peer import batch_of
from bench.verify import WrongResult, file_of_key, verify_rows, verify_table
from springline import paths
from springline.delta.coordinator import Coordinator
from springline.delta.markers import Marker
from springline.delta.table_request import TableEntry
from springline.storage.memory import MemoryStore

TABLE_ID = "01946b1c-0000-7000-8000-0000000000aa"
TABLE = TableEntry(table_id=TABLE_ID, name="t", root=paths.default_table_root(TABLE_ID), created_at_ms=0, properties={})
KEYS = [f"01946b1c-0000-7000-8000-00000000000{number}" for number in range(4)]


def test_every_kind_of_cell_runs_is_verified_and_is_written_down(tmp_path: Path) -> None:
    out = tmp_path / "commit.json"
    names = ["5ms-16", "quota-5ms-1", "fsync-1", "peer-1"]
    arguments = ["--seconds", "1", "--out", str(out), *(word for name in names for word in ("--only", name))]
    assert commit.main(arguments) == 0
    document = json.loads(out.read_text())
    assert document["machine"]["cores"] > 0
    cells = {cell["name"]: cell for cell in document["cells"]}
    assert sorted(cells) == sorted(names)
    for cell in cells.values():
        assert cell["versions"] > 0, cell
        assert "versions" in cell["verified"], cell
    shared = cells["5ms-16"]
    assert shared["commits"] >= shared["members_per_round"] > 1
    assert shared["p50_ms"] > shared["p50_unstaged_ms"] > 5 * 5, "five calls one after the other, at least"
    assert shared["store_calls"]["put log"] > 0


def test_an_unknown_cell_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert commit.main(["--only", "6ms-*"]) == 2
    assert "'6ms-*'" in capsys.readouterr().out


def test_targets_and_window() -> None:
    assert Target(Metric.RATE, 30).met(30) and not Target(Metric.RATE, 30).met(29.9)
    assert Target(Metric.P99_MS, 1000).met(999) and not Target(Metric.P99_MS, 1000).met(1000)
    # Bursts of three every second; a window from 0.5 to 2.5 s cuts none and holds two.
    done = [Done("", f"{second}-{n}", 1, 0, 0, second + n / 1000) for second in range(5) for n in range(3)]
    counted, seconds = completed_in(Window(0.5, 2.5), done)
    assert (len(counted), seconds) == (6, 2.0)
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert [cell.name for cell in chosen(["30ms-1", "peer-*"])] == ["30ms-1", "peer-1", "peer-16", "peer-64"]


async def a_table_with_two_commits() -> tuple[MemoryStore, list[Done]]:
    """Return versions 1, with keys 0 and 1, and 2, with key 2, as two rounds would leave them."""
    store = MemoryStore()
    done: list[Done] = []
    for version, keys in ((1, KEYS[:2]), (2, KEYS[2:3])):
        adds = [orjson.dumps({"add": {"path": file_of_key(key)}}) for key in keys]
        store.seed(paths.delta_log(TABLE.root, version), b"\n".join(adds))
        for key in keys:
            write_marker(store, key, version)
            done.append(Done(TABLE_ID, key, version, 0, 0, 0))
    path = paths.delta_coordinator(TABLE_ID)
    store.seed(path, Coordinator(2).encode(path))
    return store, done


def write_marker(store: MemoryStore, key: str, version: int) -> None:
    marker = Marker(key, "hash", "hash", version, paths.delta_log(TABLE.root, version), 0)
    path = paths.delta_marker(TABLE_ID, key)
    store.seed(path, marker.encode(path))


async def test_a_right_table_is_accepted() -> None:
    store, done = await a_table_with_two_commits()
    assert await verify_table(store, TABLE, done) == 2


@pytest.mark.parametrize("wrong", ["lost", "double", "moved", "unasked", "gap", "beyond", "in flight", "marker"])
async def test_a_wrong_table_is_noticed(wrong: str) -> None:
    store, done = await a_table_with_two_commits()
    first, second = (paths.delta_log(TABLE.root, version) for version in (1, 2))
    match wrong:
        case "lost":
            done.append(Done(TABLE_ID, KEYS[3], 2, 0, 0, 0))
        case "double":
            store.seed(second, store.objects[first].data)
        case "moved":
            done[0] = replace(done[0], version=2)
        case "unasked":
            done.pop()
        case "gap":
            store.remove(first)
        case "beyond":
            store.seed(paths.delta_log(TABLE.root, 3), b"")
        case "in flight":
            held = b'"commit_id":"k","read_version":2,"version":3,"staged_path":"s","staged_version":"1"'
            times = b'"started_at_ms":0,"expires_at_ms":0'
            store.seed(
                paths.delta_coordinator(TABLE_ID), b'{"latest_version":2,"inflight":{' + held + b"," + times + b"}}"
            )
        case "marker":
            write_marker(store, KEYS[0], 2)
    with pytest.raises(WrongResult):
        await verify_table(store, TABLE, done)


def test_rows_that_are_lost_double_or_unasked_are_noticed(tmp_path: Path) -> None:
    import deltalake

    folder = str(tmp_path / "table")
    for key in ("a", "b", "b"):
        deltalake.write_deltalake(folder, batch_of(key), mode="append")
    with pytest.raises(WrongResult, match="1 are double"):
        verify_rows(folder, ["a", "b"])
    deltalake.write_deltalake(folder, batch_of("a"), mode="overwrite")
    assert verify_rows(folder, ["a"]) == 3
    assert verify_rows(folder, [], maybe=["a"]) == 3
    with pytest.raises(WrongResult, match="1 are lost"):
        verify_rows(folder, ["a", "c"])
    with pytest.raises(WrongResult, match="1 are unasked"):
        verify_rows(folder, [])


def test_frames_of_the_append_bench_are_what_they_say() -> None:
    from bench.append import CELLS
    from bench.append_writer import SCHEMA, frame, large, partitioned, stream

    assert frame(10).schema == SCHEMA
    assert frame(10).equals(frame(10))
    assert partitioned(5, 3)["part"].value_counts().to_pylist() == [{"values": n, "counts": 3} for n in range(5)]
    assert 0.5e8 < large(0.1).nbytes < 1.1e8
    assert len(list(stream(0.1))) == large(0.1).num_rows // 100_000
    assert len(CELLS) == 7
