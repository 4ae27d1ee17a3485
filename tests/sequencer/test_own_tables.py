"""Tables of our own through rounds, merges, late events, and builds that had none (docs/protocol.md#own-tables)."""

from __future__ import annotations

import pytest

from springline.projection.schema import OWN_TABLES, REFERENCE_TABLES, TABLES
from springline.published import merge
from springline.published.reader import PublishedReader
from springline.rebuild.messages import Compared, RebuildMode
from springline.rebuild.sources import from_index
from springline.storage.memory import MemoryStore
from tests.support.older_builds import published_by_an_older_build
from tests.support.rebuild_driver import Rebuild
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import (
    CONFIG,
    NOW_MS,
    SCOPE,
    ask,
    body_of,
    finished,
    linear_run,
    planned,
    scoped,
    seed_event,
    started,
    triggered,
)
from tests.support.yardstick import check_state, head_of

HOLD = {"type": "springline_hold_changed", "change_id": "h1", "held": True, "changed_by": "ada"}
MESSAGE = {"type": "springline_sensor_message", "sensor_id": "s", "message_id": "m", "payload": {"a": [5, None]}}
EVALUATED = {
    "type": "sensor_evaluated",
    "sensor_id": "s",
    "eval_id": "e",
    "trigger_source": {"source": "push", "message_id": "m"},
    "status": {"status": "no_new_data"},
}


async def rows(store: MemoryStore, table: str) -> int:
    """Return how many rows of a table readers see."""
    return len((await PublishedReader(store).snapshot(SCOPE, [table]))[table])


async def worked(store: MemoryStore, rounds: int = 3) -> Run:
    """Return a run after some rounds that fill tables of our own."""
    run = Run(store)
    for number in range(rounds):
        payloads = linear_run(f"r{number}", ["a"])
        await run.append(ask(2 * number, *payloads[:2]))
        await run.append(ask(2 * number + 1, *payloads[2:]))
    await run.append(ask(90, MESSAGE))
    return run


async def test_rows_come_and_go_with_their_rounds() -> None:
    store = MemoryStore()
    run = await worked(store)
    await check_state(store)
    assert await rows(store, "x_attempts") == 3
    assert await rows(store, "x_messages") == 1
    await run.append(ask(91, EVALUATED))
    await check_state(store)
    assert await rows(store, "x_messages") == 0
    assert await rows(store, "x_keys") == 1


async def test_a_delta_without_rows_of_ours_has_no_files_of_ours() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r")))
    (delta,) = (await head_of(store)).manifest.l0_deltas
    assert delta.springline is None
    await run.append(ask(2, HOLD))
    newest = (await head_of(store)).manifest.l0_deltas[-1]
    assert newest.springline is not None
    assert sorted(newest.springline.tables) == ["x_holds", "x_keys"]
    assert sum(vars_of(newest.row_counts)) == 0


def vars_of(counts: object) -> list[int]:
    return [getattr(counts, name) for name in REFERENCE_TABLES]


async def test_a_late_event_of_ours_is_folded_where_it_belongs() -> None:
    store = MemoryStore()
    run = await worked(store)
    late = seed_event(store, body_of(1, HOLD | {"change_id": "early"}, at_ms=1_736_000_000_000))
    assert (await run.ingest(late)).late == 1
    assert run.kinds[-1] == "refold"
    await check_state(store)
    assert await rows(store, "x_holds") == 1


@pytest.mark.parametrize("again", [False, True], ids=["the same process", "another process"])
async def test_the_first_round_on_an_older_builds_revision_fills_our_tables(again: bool) -> None:
    store = MemoryStore()
    run = await worked(store)
    published_by_an_older_build(store)
    assert await rows(store, "x_attempts") == 0
    found = await PublishedReader(store).digest(SCOPE)
    assert (found.own, sorted(found.tables)) == (None, sorted(REFERENCE_TABLES))
    run = Run(store, 50)
    await run.append(ask(91, EVALUATED))
    assert run.kinds == ["refold"]
    await check_state(store)
    assert (await rows(store, "x_attempts"), await rows(store, "x_messages")) == (3, 0)
    if again:
        run = Run(store, 60)
    await run.append(ask(92, triggered("next")))
    assert run.kinds[-1] == "delta"
    await check_state(store)
    late = seed_event(store, body_of(1, HOLD, at_ms=1_736_000_000_000))
    assert (await run.ingest(late)).late == 1
    await check_state(store)


async def test_the_first_round_on_an_older_builds_revision_is_judged_with_our_tables() -> None:
    """What only they tell: a hold, a note that is there, settings of a definition, a planned chunk."""
    store = MemoryStore()
    run = await worked(store)
    note = {"run_id": "r1", "task_key": "a", "attempt": 1, "attempt_id": "x", "note": "late_end"}
    noted = {"type": "springline_attempt_noted", **note}
    await run.append(ask(92, noted))
    await run.append(ask(93, HOLD))
    published_by_an_older_build(store)
    run = Run(store, 50)
    begun, again, held = await run.append(
        ask(94, triggered("new")), ask(95, noted), ask(96, HOLD | {"change_id": "h2"})
    )
    assert begun.refusal is not None
    assert "is held" in begun.refusal.message
    assert [event.outcome for event in again.events] == ["duplicate"]
    assert held.refusal is not None
    (off,) = await run.append(ask(97, HOLD | {"change_id": "h3", "held": False}))
    assert [event.outcome for event in off.events] == ["applied"]
    assert run.kinds == ["refold"]
    await check_state(store)


async def test_checkpoints_of_an_older_build_are_not_refolded_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merge, "MIN_BASE_ROWS", 8)
    store = MemoryStore()
    await worked(store, 6)
    head = await head_of(store)
    assert head.manifest.springline is not None
    assert head.manifest.springline.checkpoints
    published_by_an_older_build(store)
    run = Run(store, 50)
    await run.append(ask(91, EVALUATED))
    bodies = await check_state(store)
    assert run.folded is not None
    assert run.folded.refolded_events == len(bodies)


async def test_an_older_builds_revision_is_verified_by_what_it_holds_and_rebuilt_with_all() -> None:
    store = MemoryStore()
    await worked(store)
    published_by_an_older_build(store)
    found = await from_index(scoped(store))
    manifest = {"event_paths": found.event_paths, "segment_paths": found.segment_paths}
    compared = await Rebuild(store, CONFIG).run(manifest, RebuildMode.VERIFY)
    assert isinstance(compared, Compared)
    assert compared.equal
    await Rebuild(store, CONFIG).run(manifest, RebuildMode.FULL)
    assert await rows(store, "x_attempts") == 3
    await check_state(store)


async def test_events_caught_up_onto_an_older_builds_revision_fill_our_tables() -> None:
    store = MemoryStore()
    await worked(store)
    found = await from_index(scoped(store), objects=True)
    published_by_an_older_build(store)
    later = seed_event(store, body_of(7, triggered("foreign"), at_ms=NOW_MS + 100_000))
    await Rebuild(store, CONFIG).run({"event_paths": [*found.event_paths, later]}, RebuildMode.CATCH_UP)
    await check_state(store)
    assert await rows(store, "x_attempts") == 3


async def test_a_rebuild_in_shards_gives_the_same_tables() -> None:
    store = MemoryStore()
    run = await worked(store, 9)
    await run.append(ask(92, HOLD), ask(93, EVALUATED))
    note = {"run_id": "r1", "task_key": "a", "attempt": 1, "attempt_id": "x", "note": "late_end"}
    await run.append(ask(94, {"type": "springline_attempt_noted", **note}))
    before = (await head_of(store)).manifest.springline
    found = await from_index(scoped(store), objects=True)
    await Rebuild(store, CONFIG).run({"event_paths": found.event_paths}, RebuildMode.FULL)
    after = (await head_of(store)).manifest.springline
    assert before is not None
    assert after is not None
    assert after.digest == before.digest
    assert set(TABLES) == set(REFERENCE_TABLES) | set(OWN_TABLES)
    await check_state(store)


async def test_a_failed_attempt_is_kept_beside_the_next() -> None:
    store = MemoryStore()
    run = Run(store)
    await run.append(ask(1, triggered("r"), planned("r", "a"), started("r", "a"), finished("r", "a", "failed")))
    await run.append(ask(2, started("r", "a", 2), finished("r", "a", attempt=2)))
    assert await rows(store, "x_attempts") == 2
    await check_state(store)
