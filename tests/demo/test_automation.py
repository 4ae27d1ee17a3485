"""The demo's judgement of its sensor and its backfill: it names whatever was lost, doubled, or is told otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from springline.demo.automation import (
    AT_ONCE,
    CHUNK_SIZE,
    SENSOR,
    ItemNote,
    MadeChunk,
    SeenFiles,
    chunks_in,
    evaluations_in,
    most_at_once,
    notes_in,
    problems_of_chunks,
    problems_of_evaluations,
    problems_of_items,
)
from springline.demo.data import MONTHS

FILES = ["2013-01.parquet", "2013-02.parquet"]
RUNS = [{"run_id": f"r{place}", "run_key": f"sensor:{SENSOR}:{file}"} for place, file in enumerate(FILES)]
NOTES = [ItemNote(place, f"r{place}", file) for place, file in enumerate(FILES)]
SEEN = [SeenFiles("error", [], "its worker is gone"), SeenFiles("triggered", FILES)]
CHUNKS = [
    MadeChunk(place, list(MONTHS[start : start + CHUNK_SIZE]), "SUCCEEDED", f"b{place}")
    for place, start in enumerate(range(0, len(MONTHS), CHUNK_SIZE))
]
OF_MONTHS = [ItemNote(chunk.place, chunk.run_id, month) for chunk in CHUNKS for month in chunk.months]


def test_what_is_right_has_no_problems() -> None:
    # An attempt that is lost with its worker is made again, in the same run.
    assert problems_of_items("file", FILES, [*NOTES, NOTES[0]]) == []
    assert problems_of_evaluations(SEEN, FILES, RUNS, NOTES) == []
    assert problems_of_chunks(CHUNKS, OF_MONTHS) == []


def test_an_item_that_is_lost_or_doubled_or_was_never_due_is_named() -> None:
    assert problems_of_items("file", FILES, NOTES[1:]) == ["file 2013-01.parquet was made by 0 runs, and not by one"]
    twice = [*NOTES, ItemNote(9, "r9", FILES[1])]
    assert problems_of_items("file", FILES, twice) == ["file 2013-02.parquet was made by 2 runs, and not by one"]
    assert problems_of_items("file", FILES[:1], NOTES) == ["file 2013-02.parquet was made, and was not due"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda: (SEEN[:1], FILES, RUNS, NOTES), id="nobody asked"),
        pytest.param(lambda: ([*SEEN, SeenFiles("triggered", FILES[1:])], FILES, RUNS, NOTES), id="asked twice"),
        pytest.param(lambda: (SEEN, FILES[:1], RUNS, NOTES), id="asked for what never came"),
        pytest.param(lambda: (SEEN, FILES, RUNS[:1], NOTES), id="a run is not on record"),
        pytest.param(lambda: (SEEN, FILES, [*RUNS, RUNS[0] | {"run_id": "r9"}], NOTES), id="another run is on record"),
        pytest.param(lambda: (SEEN, FILES, RUNS, NOTES[:1]), id="a run made nothing"),
    ],
)
def test_a_record_of_evaluations_that_differs_from_what_was_made_is_named(change: Callable[[], Any]) -> None:
    assert problems_of_evaluations(*change())


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(CHUNKS[1:], id="a chunk is missing"),
        pytest.param([*CHUNKS, CHUNKS[-1]], id="a chunk is there twice"),
        pytest.param([CHUNKS[0]._replace(months=CHUNKS[1].months), *CHUNKS[1:]], id="a chunk has other months"),
        pytest.param([CHUNKS[0]._replace(outcome="FAILED"), *CHUNKS[1:]], id="a chunk failed"),
        pytest.param([CHUNKS[0]._replace(run_id="b9"), *CHUNKS[1:]], id="another run is on record"),
    ],
)
def test_a_record_of_chunks_that_differs_from_what_was_made_is_named(chunks: list[MadeChunk]) -> None:
    assert problems_of_chunks(chunks, OF_MONTHS)


def test_runs_at_once_are_counted_by_what_functions_noted() -> None:
    assert most_at_once([]) == 0
    one_after_the_other = notes_in("1.0 a 2013-01\n2.0 a 2013-01\n2.5 b 2013-02\n3.0 b 2013-02\n")
    assert most_at_once(one_after_the_other) == 1
    assert most_at_once([*one_after_the_other, ItemNote(1.5, "c", "2013-03"), ItemNote(2.7, "c", "2013-03")]) == AT_ONCE


def test_rows_are_read_as_they_are_published() -> None:
    asked = json.dumps([{"run_key": f"sensor:{SENSOR}:{file}"} for file in FILES])
    status = json.dumps({"status": "triggered"})
    failed = json.dumps({"status": "error", "message": "its worker is gone"})
    rows: list[dict[str, Any]] = [
        {"sensor_id": SENSOR, "row_version": "2", "status": status, "run_requests": asked},
        {
            "sensor_id": SENSOR,
            "row_version": "1",
            "status": failed,
            "run_requests": None,
        },
        {"sensor_id": "another", "row_version": "3", "status": status, "run_requests": asked},
    ]
    assert evaluations_in(rows) == SEEN
    chunk = {"chunk_id": "c", "chunk_index": 0, "partition_keys": json.dumps(CHUNKS[0].months), "run_key": "k"}
    ends = [{"chunk_id": "c", "outcome": "SUCCEEDED"}]
    assert chunks_in([chunk], ends, [{"run_key": "k", "run_id": "b0"}]) == CHUNKS[:1]
    assert chunks_in([chunk], [], []) == [CHUNKS[0]._replace(outcome="not ended", run_id="none")]
