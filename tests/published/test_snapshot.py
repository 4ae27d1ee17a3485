"""Pages of a table in memory: every row once, in order, whatever the page size, also while the table changes."""

from __future__ import annotations

import random

import pytest

from springline.projection.schema import RUNS, TABLES, TASKS, Key
from springline.published.lists import all_of, between, equals, labelled, status_of
from springline.published.snapshot import LatestPage, TableRows, Where, keys_of
from tests.published.rows import row

RUN_IDS = [f"run_{number:03}" for number in range(57)]


def runs() -> TableRows:
    shuffled = random.Random(1).sample(RUN_IDS, len(RUN_IDS))
    states = ("RUNNING", "FAILED", "SUCCEEDED")
    return TableRows.of(
        RUNS,
        [
            row(
                "runs",
                run_id=run_id,
                state=states[int(run_id[-3:]) % 3],
                triggered_at=int(run_id[-3:]) * 1000,
                labels='{"team":"sales"}' if int(run_id[-3:]) % 2 else None,
            )
            for run_id in shuffled
        ],
    )


@pytest.mark.parametrize("limit", [1, 2, 7, 56, 57, 1000])
def test_pages_give_every_row_once_and_in_order(limit: int) -> None:
    table, after, seen = runs(), None, []
    while True:
        page = table.page(limit=limit, after=after)
        assert len(page.rows) <= limit
        seen += [one[0] for one in page.rows]
        after = page.last
        if after is None:
            break
        assert after == seen[-1]
    assert seen == RUN_IDS


def test_a_page_behind_a_key_that_is_gone_goes_on_behind_it() -> None:
    table = runs().changed([], ["run_010"])
    assert [one[0] for one in table.page(limit=2, after="run_010").rows] == ["run_011", "run_012"]
    assert table.get("run_010") is None
    assert len(table) == 56


@pytest.mark.parametrize("limit", [1, 2, 7, 56, 57, 1000])
@pytest.mark.parametrize("where", [None, equals(RUNS, "state", ["FAILED"])])
def test_the_latest_come_first_and_every_row_once(limit: int, where: Where | None) -> None:
    """Runs of one moment are told apart by their ids, so that a page may end between them."""
    moments = {run_id: 1_000 * random.Random(run_id).randrange(12) for run_id in RUN_IDS}
    table = runs()
    for some in (RUN_IDS[::2], RUN_IDS[1::3]):
        rows = [row("runs", run_id=one, state="FAILED", triggered_at=moments[one]) for one in some]
        table = table.changed(rows, ["run_007"])
    whole = [one for one in table if where is None or one[2] == "FAILED"]
    at = RUNS.index("triggered_at")
    expected = [one[0] for one in sorted(whole, key=lambda one: (one[at], one[0]), reverse=True)]
    seen: list[object] = []
    after: tuple[int, str] | None = None
    while True:
        page = table.latest("triggered_at", limit=limit, after=after, where=where)
        assert len(page.rows) <= limit
        seen += [one[0] for one in page.rows]
        if page.last is None:
            break
        after = page.last
        assert after == (page.rows[-1][at], seen[-1])
    assert seen == expected


def test_of_no_rows_none_is_the_latest() -> None:
    assert TableRows(RUNS, []).latest("triggered_at", limit=3) == LatestPage([], None)


def test_filters_hold_together() -> None:
    wheres = [
        equals(RUNS, "state", ["FAILED", "SUCCEEDED"]),
        between(RUNS, "triggered_at", 10_000, 20_000),
        labelled(RUNS, "labels", [("team", "sales")]),
    ]
    found = [one[0] for one in runs().page(limit=100, where=all_of(wheres)).rows]
    numbers = [number for number in range(10, 20) if number % 2 and number % 3]
    assert found == [f"run_{number:03}" for number in numbers]
    assert not runs().page(limit=1, where=labelled(RUNS, "labels", [("team", "sales"), ("x", "y")])).rows
    assert all_of([]) is None


def test_spans_take_their_beginning_and_leave_out_their_end() -> None:
    assert len(runs().page(limit=100, where=between(RUNS, "triggered_at", 1000, 2000)).rows) == 1
    assert len(runs().page(limit=100, where=between(RUNS, "triggered_at", None, 2000)).rows) == 2
    assert len(runs().page(limit=100, where=between(RUNS, "triggered_at", 55_000, None)).rows) == 2
    assert not runs().page(limit=100, where=between(RUNS, "completed_at", None, None)).rows, "rows without a time"


def test_statuses_are_looked_for_in_their_json() -> None:
    ticks = TableRows.of(
        TABLES["schedule_ticks"],
        [
            row("schedule_ticks", tick_id="a", status='{"reason":"paused","status":"skipped"}'),
            row("schedule_ticks", tick_id="b", status='{"status":"triggered"}'),
        ],
    )
    where = status_of(TABLES["schedule_ticks"], "status", ["skipped", "failed"])
    assert [one[2] for one in ticks.page(limit=9, where=where).rows] == ["a"]


def test_prefixes_are_whole_values() -> None:
    keys = [("a", "x"), ("a", "y"), ("a\0", "x"), ("ab", "x"), ("b", ""), ("b", "x")]
    table = TableRows.of(TASKS, [row("tasks", run_id=run_id, task_key=task) for run_id, task in keys])
    assert [one[:2] for one in table.below(("a",))] == [("a", "x"), ("a", "y")]
    assert [one[:2] for one in table.below(("b",))] == [("b", ""), ("b", "x")]
    assert table.below(("c",)) == []
    assert [one[:2] for one in table.page(limit=9, prefix=("a",), after=("a", "x")).rows] == [("a", "y")]
    assert [one[:2] for one in table.page(limit=1, prefix=("a",)).rows] == [("a", "x")]
    assert table.page(limit=2, prefix=("a",)).last is None, "nothing of this prefix is left"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_keys_are_those_of_the_schema(name: str) -> None:
    table = TABLES[name]
    one = row(name, **{column: f"value of {column}" for column in table.key})
    assert keys_of(table)(one) == table.key_of(one)


def test_an_older_snapshot_stays_as_it_was() -> None:
    before = runs()
    assert before.keys == RUN_IDS
    after = before.changed([row("runs", run_id="run_000", state="CANCELLED"), row("runs", run_id="zzz")], ["run_001"])
    assert before.keys == RUN_IDS
    assert before.get("run_000") != after.get("run_000")
    expected: list[Key] = [RUN_IDS[0], *RUN_IDS[2:], "zzz"]
    assert after.keys == expected
    assert sorted(one[0] for one in after if isinstance(one[0], str)) == expected


def test_rows_are_replaced_before_others_are_deleted() -> None:
    assert runs().changed([row("runs", run_id="run_000")], ["run_000"]).get("run_000") is None
