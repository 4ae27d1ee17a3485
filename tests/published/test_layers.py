"""Pages, filters and SQL over files that lie over each other: as a dictionary of rows has them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.projection import layers as layers_module
from springline.projection import parquet
from springline.projection.schema import RUNS, TASKS, Key, Row
from springline.published.lists import all_of, equals, labelled
from springline.published.query import Database
from springline.published.snapshot import TableRows
from tests.published.rows import row

KEYS = st.tuples(st.sampled_from("abcde"), st.sampled_from(["", "x", "y", "z"]))
STATES = ["FAILED", "READY", "RUNNING"]
CHANGES = st.lists(
    st.tuples(st.dictionaries(KEYS, st.sampled_from(STATES), max_size=12), st.sets(KEYS, max_size=4)),
    min_size=1,
    max_size=4,
)


@pytest.fixture(autouse=True)
def group_rows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(parquet, "GROUP_ROWS", 3)
    yield


def made(
    changes: list[tuple[dict[tuple[str, str], str], set[tuple[str, str]]]], *, counted: bool = False
) -> tuple[TableRows, dict[Key, Row]]:
    table, model = TableRows(TASKS, []), dict[Key, Row]()
    for number, (rows, deleted) in enumerate(changes):
        new: dict[Key, Row] = {
            key: row("tasks", run_id=key[0], task_key=key[1], state=state, attempt=number)
            for key, state in rows.items()
        }
        table = table.changed(new.values(), deleted)
        model.update(new)
        for key in deleted:
            model.pop(key, None)
        if counted:
            assert len(table) == len(model)
    return table, model


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES, limit=st.integers(1, 6), few=st.sampled_from([0, 100]), wanted=st.sets(st.sampled_from(STATES)))
def test_whatever_was_laid_over_each_other_is_read_as_it_is(
    changes: list[tuple[dict[tuple[str, str], str], set[tuple[str, str]]]], limit: int, few: int, wanted: set[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers_module, "FEW_ROWS", few)
        table, model = made(changes)
        assert len(table) == len(model)
        assert len(made(changes, counted=True)[0]) == len(model)
        for singly in (0, 3):
            patch.setattr(layers_module, "SINGLY", singly)
            asked: list[Key] = [(run, task) for run in "eadcb" for task in ["z", "x", "q", ""]]
            assert table.get_all([*asked, ("a", "x")]) == {key: model[key] for key in asked if key in model}
    ordered = [model[key] for key in sorted(model)]
    assert list(table) == ordered
    assert table.keys == sorted(model)
    assert all(table.get(key) == model.get(key) for key in {(run, task) for run in "abcde" for task in ["", "x", "q"]})
    assert [one for run in "abcdef" for one in table.below((run,))] == ordered
    where = equals(TASKS, "state", sorted(wanted))
    for prefix in ((), ("b",)):
        for condition in (None, where):
            after: Key | None = None
            seen: list[Row] = []
            while True:
                page = table.page(limit=limit, after=after, prefix=prefix, where=condition)
                assert len(page.rows) <= limit
                seen += page.rows
                after = page.last
                if after is None:
                    break
            expected = [one for one in ordered if condition is None or one[2] in wanted]
            assert seen == [one for one in expected if not prefix or one[0] == "b"]
    assert table.select(where) == [one for one in ordered if one[2] in wanted]


@settings(max_examples=25, deadline=None)
@given(changes=CHANGES)
def test_sql_reads_the_same(changes: list[tuple[dict[tuple[str, str], str], set[tuple[str, str]]]]) -> None:
    table, model = made(changes)
    database = Database({"tasks": table})
    try:
        found = database.ask("SELECT run_id, task_key, state, attempt FROM tasks ORDER BY ALL").rows
        assert found == [model[key][:4] for key in sorted(model)]
        assert database.ask("SELECT count(*) FROM tasks a JOIN tasks b USING (run_id, task_key)").rows == [
            (len(model),)
        ]
    finally:
        database.close()


def test_labels_are_looked_for_across_row_groups() -> None:
    rows = [
        row("runs", run_id=f"r{number:02}", labels='{"team":"sales"}' if number % 4 == 0 else None)
        for number in range(20)
    ]
    where = all_of([labelled(RUNS, "labels", [("team", "sales")])])
    found = TableRows.of(RUNS, rows).page(limit=3, where=where)
    assert [one[0] for one in found.rows] == ["r00", "r04", "r08"]
    assert found.last == "r08"
