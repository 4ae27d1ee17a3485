"""Objects of events come back byte for byte from segments and round records, and nothing else is ever written."""

from __future__ import annotations

import pytest

from springline.paths import ObjectPath, orchestration_pointer
from springline.rebuild.restore import Restored, RestoreOutcome, restore_events
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.support.ledger_workspaces import appended, foreign, listed
from tests.support.sequencer_world import SCOPE, ask, scoped, triggered

POINTER = SCOPE.full(orchestration_pointer())


@pytest.fixture
async def store() -> MemoryStore:
    """A workspace with 260 events in a segment, and two in objects alone."""
    store, run = await appended([])
    await run.append(*(ask(number, triggered(f"s-{number}")) for number in range(260)))
    for number in (300, 301):
        await run.append(ask(number, triggered(f"s-{number}")))
    return store


@pytest.fixture
async def paths(store: MemoryStore) -> list[ObjectPath]:
    return (await listed(store))["event_paths"]


async def restored(store: MemoryStore, *paths: str, replace: bool = False) -> list[Restored]:
    return await restore_events(scoped(store), paths, replace=replace)


def outcomes(found: list[Restored]) -> list[RestoreOutcome]:
    return [one.outcome for one in found]


def damaged(store: MemoryStore, part: str) -> None:
    """Truncate every object in whose path `part` is."""
    paths = [path for path in store.objects if part in path]
    for path in paths:
        store.seed(path, store.objects[path].data[:-3])
    assert paths


async def test_what_is_missing_comes_back_and_what_is_whole_is_left(
    store: MemoryStore, paths: list[ObjectPath]
) -> None:
    bodies = {path: store.objects[SCOPE.full(path)].data for path in paths}
    for path in (paths[3], paths[-1]):
        store.remove(SCOPE.full(path))
    found = await restored(store, paths[3], paths[-1], paths[0])
    assert outcomes(found) == [RestoreOutcome.RESTORED, RestoreOutcome.RESTORED, RestoreOutcome.WHOLE]
    assert "/segments/" in str(found[0].found_in)
    assert "/rounds/" in str(found[1].found_in)
    assert {path: store.objects[SCOPE.full(path)].data for path in paths} == bodies
    ids = [path.rpartition("/")[2].removesuffix(".json") for path in paths]
    assert set(outcomes(await restored(store, *ids))) == {RestoreOutcome.WHOLE}


async def test_what_was_altered_is_replaced_only_if_asked(store: MemoryStore, paths: list[ObjectPath]) -> None:
    path = SCOPE.full(paths[5])
    body = store.objects[path].data
    store.seed(path, b'{"another": "event"}')
    assert outcomes(await restored(store, paths[5])) == [RestoreOutcome.ALTERED]
    assert store.objects[path].data == b'{"another": "event"}'
    assert outcomes(await restored(store, paths[5], replace=True)) == [RestoreOutcome.REPLACED]
    assert store.objects[path].data == body


@pytest.mark.parametrize(("part", "found_in"), [("/segments/", "/rounds/"), ("/rounds/", "/segments/")])
async def test_one_of_both_is_enough(part: str, found_in: str, store: MemoryStore, paths: list[ObjectPath]) -> None:
    body = store.objects[SCOPE.full(paths[0])].data
    store.remove(SCOPE.full(paths[0]))
    damaged(store, part)
    (one,) = await restored(store, paths[0])
    assert (one.outcome, found_in in str(one.found_in)) == (RestoreOutcome.RESTORED, True)
    assert store.objects[SCOPE.full(paths[0])].data == body


@pytest.mark.parametrize("part", [POINTER, "/manifests/", "/index/"])
async def test_it_works_without_what_is_published(part: str, store: MemoryStore, paths: list[ObjectPath]) -> None:
    store.remove(SCOPE.full(paths[0]))
    damaged(store, part)
    assert outcomes(await restored(store, paths[0])) == [RestoreOutcome.RESTORED]


async def test_what_is_lost_and_what_was_never_accepted_is_told_apart(
    store: MemoryStore, paths: list[ObjectPath]
) -> None:
    (unknown,) = foreign(store, 900, 1)
    for path in (paths[0], paths[-1]):
        store.remove(SCOPE.full(path))
    damaged(store, "/segments/")
    damaged(store, "/rounds/")
    before = dict(store.objects)
    found = await restored(store, paths[-1], paths[0], unknown, "ledger/orchestration/x.json", paths[-1].upper())
    assert outcomes(found) == [
        RestoreOutcome.LOST,
        RestoreOutcome.UNCLEAR,
        RestoreOutcome.UNCLEAR,
        RestoreOutcome.NO_EVENT,
        RestoreOutcome.NO_EVENT,
    ]
    assert "/rounds/" in str(found[1].unread) or "/segments/" in str(found[1].unread)
    assert store.objects == before


async def test_nothing_is_listed(store: MemoryStore, paths: list[ObjectPath]) -> None:
    watched = FaultyStore(store)
    store.remove(SCOPE.full(paths[-1]))
    await restore_events(ScopedStore(watched, SCOPE), [*paths], replace=True)
    assert watched.count(Kind.LIST) == 0
    assert watched.count(Kind.PUT) == 1
