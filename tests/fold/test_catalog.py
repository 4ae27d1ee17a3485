"""Catalog rows are derived, and yet those that the reference writes with every event (docs/events.md#fold-catalog)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from springline.projection.catalog import target_of
from springline.projection.fold.loop import EventOutcome
from springline.projection.schema import CATALOG_RUN_INDEX, Row
from springline.projection.state import State
from tests.fold.history import (
    T0,
    Object,
    cancel,
    dispatched,
    event,
    finished,
    folded,
    heartbeat,
    planned,
    retry_timer,
    started,
    triggered,
    ulid,
)
from tests.fold.model import FoldModel
from tests.fold.support import empty_state, tables_of, tables_of_model
from tests.support.ledgers import SECRET

STAMP, TIME = CATALOG_RUN_INDEX.index("row_version"), CATALOG_RUN_INDEX.index("updated_at")
FIRE_AT = "2025-01-15T10:05:00Z"


def stamps(state: State) -> dict[str, tuple[object, object]]:
    """Return second of stamp and of update of each task's catalog row, counted from the first event."""
    task = CATALOG_RUN_INDEX.index("task_key")
    seconds = {ulid(T0 + 1_000 * second): second for second in range(20)}

    def times(row: Row) -> tuple[object, object]:
        return seconds[str(row[STAMP])], (int(row[TIME] or 0) - T0) // 1_000

    return {str(row[task]): times(row) for row in state.rows("catalog_run_index")}


WAITING = [triggered(), planned("a", "b"), started("a"), finished("a", "failed")]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([triggered(), planned("a", "b")], {"a": (1, 1), "b": (1, 1)}),
        ([planned("a", "b"), triggered()], {"a": (1, 1), "b": (1, 1)}),
        ([planned("a"), started("a"), triggered()], {"a": (2, 2)}),
        ([planned("a", "b")], {}),
        ([triggered(), planned("a", "b"), started("a")], {"a": (2, 2), "b": (1, 1)}),
        (WAITING, {"a": (3, 3), "b": (1, 1)}),
        # A timer stamps the task, but the row follows with the run's next event only, and gets that one's time.
        ([*WAITING, retry_timer("a", FIRE_AT)], {"a": (3, 3), "b": (1, 1)}),
        ([*WAITING, retry_timer("a", FIRE_AT), started("b")], {"a": (4, 5), "b": (5, 5)}),
        ([*WAITING, retry_timer("a", FIRE_AT), dispatched("x")], {"a": (4, 5), "b": (1, 1)}),
        ([*WAITING, retry_timer("a", FIRE_AT), started("x"), dispatched("x")], {"a": (4, 6), "b": (1, 1)}),
        ([*WAITING, retry_timer("a", FIRE_AT), cancel()], {"a": (5, 5), "b": (5, 5)}),
        ([*WAITING, retry_timer("a", FIRE_AT), dispatched("a", 2)], {"a": (5, 5), "b": (1, 1)}),
        # The end of a task stamps the run, and with it all rows.
        ([triggered(), planned("a", "b"), started("a"), finished("a")], {"a": (3, 3), "b": (3, 3)}),
    ],
)
def test_rows_are_stamped_by_what_refreshes_them(history: list[Object], expected: dict[str, object]) -> None:
    assert stamps(folded(*history)) == expected


def test_a_task_without_an_asset_gets_its_row_when_it_ends() -> None:
    plan = planned("a", "b")
    for task in plan["tasks"]:
        task.pop("asset_key")
    begun = [triggered(), plan, started("a"), heartbeat("a")]
    assert stamps(folded(*begun)) == {}
    named = finished("a", "failed", asset_key="raw/x")
    assert stamps(folded(*begun, named)) == {"a": (4, 4)}
    assert stamps(folded(*begun, named, retry_timer("a", FIRE_AT))) == {"a": (4, 4)}


@pytest.mark.parametrize(
    ("asset", "target"),
    [
        ("raw/a.b", ("raw", "a.b")),
        ("raw.a.b", ("raw", "a.b")),
        ("a.b/c/d", ("a.b", "c/d")),
        ("plain", (None, "plain")),
        ("/a", (None, "a")),
        ("a.", ("a", None)),
        ("", (None, None)),
    ],
)
def test_assets_name_their_target(asset: str, target: tuple[str | None, str | None]) -> None:
    assert target_of(asset) == target


def random_event(rnd: Random) -> Object:
    task = rnd.choice("abcd")
    number = rnd.choice((1, 1, 2))
    return rnd.choice(
        [
            triggered(),
            planned("a", "b", "c<a", "d"),
            cancel(),
            started(task, number),
            started(task, number),
            heartbeat(task, number=number),
            finished(task, rnd.choice(("succeeded", "failed", "failed", "skipped")), number),
            finished(task, "failed", number, asset_key="raw/x"),
            dispatched(task, number),
            retry_timer(task, FIRE_AT, number),
            retry_timer(task, FIRE_AT, number),
            retry_timer(task, FIRE_AT, number),
        ]
    )


def test_every_step_leaves_the_rows_that_writing_them_all_would(record_property: Callable[[str, object], None]) -> None:
    """One run, whose rows are compared after each event; some tasks have no asset, some events are stored between."""
    applied = 0
    for seed in range(120):
        rnd = Random(seed)
        state, model = empty_state(), FoldModel(SECRET)
        for number in range(rnd.randrange(10, 60)):
            data = random_event(rnd)
            for task in data.get("tasks", []):
                if rnd.random() < 0.3:
                    task.pop("asset_key")
            at_ms = T0 + 1_000 * number
            one = event(data, at_ms, key=f"{number}")
            outcome = state.fold(one)
            model.fold(
                {
                    "data": data,
                    "event_id": one.event_id,
                    "event_type": one.event_type,
                    "idempotency_key": f"{number}",
                    "tenant_id": one.tenant_id,
                    "timestamp": one.timestamp,
                    "workspace_id": one.workspace_id,
                }
            )
            applied += outcome is EventOutcome.APPLIED
            assert tables_of(state)["catalog_run_index"] == tables_of_model(model)["catalog_run_index"], (seed, number)
    record_property("explored", f"catalog = rewritten catalog: {applied} applied events")
