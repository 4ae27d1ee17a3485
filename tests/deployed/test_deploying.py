"""Deploys to a store: once for each change, beside others, and through every fault at every operation."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.definitions.manifest import CodeLocation
from springline.deployed import deploying
from springline.deployed.deploying import DeployOutcome, deploy
from springline.deployed.reading import ManifestReader, read_latest, read_manifest
from springline.errors import Code, Refused
from springline.paths import (
    deployed_manifest,
    latest_manifest_index,
    manifest_deployed_note,
    parse_deployed_manifest,
    replaced_manifest,
)
from springline.storage.faults import Decision, FaultyStore, Operation, OperationKind, ProcessDied, plan
from springline.storage.memory import MemoryStore
from springline.storage.port import ObjectStore, StoreError
from tests.support.definitions import NOW_MS, asset, ids, part


async def no_pause(_seconds: float) -> None:
    await asyncio.sleep(0)


async def deployed(store: ObjectStore, one: CodeLocation, first_id: int = 0, *, dry_run: bool = False) -> DeployOutcome:
    return await deploy(store, one, ids(first_id), pause=no_pause, dry_run=dry_run)


async def keys(store: ObjectStore) -> dict[str, str]:
    found = await read_latest(store)
    return {} if found is None else {one.key: one.location for one in found.manifest.assets}


A, B, C = (part(name, asset(f"{name}1"), asset(f"{name}2", f"{name}1")) for name in "abc")
A2 = part("a", asset("a1", retries=1), asset("a3"))


async def test_a_deploy_is_there_for_readers() -> None:
    store = MemoryStore()
    assert await read_latest(store) is None
    outcome = await deployed(store, A)
    assert outcome.deployed
    assert outcome.changes.added == ["a1", "a2"]
    found = await read_latest(store)
    assert found is not None
    assert (found.manifest.manifest_id, found.manifest.fingerprint) == (outcome.manifest_id, outcome.fingerprint)
    assert found.manifest.deployed_at_ms == NOW_MS
    assert set(store.objects) == {
        deployed_manifest(found.manifest.manifest_id),
        latest_manifest_index(),
        manifest_deployed_note(),
    }
    index = orjson.loads(store.objects[latest_manifest_index()].data)
    # What the reference has, too, has its names and forms.
    assert index["latestManifestId"] == outcome.manifest_id
    assert index["deployedAt"] == "2025-01-15T10:00:00Z"


async def test_the_same_again_writes_nothing() -> None:
    store = MemoryStore()
    first = await deployed(store, A)
    before = dict(store.objects)
    again = await deployed(store, A, 9)
    assert (again.deployed, again.manifest_id, again.fingerprint) == (False, first.manifest_id, first.fingerprint)
    assert not again.changes
    assert dict(store.objects) == before


async def test_a_dry_run_writes_nothing() -> None:
    store = MemoryStore()
    planned = await deployed(store, A, dry_run=True)
    assert (planned.deployed, planned.manifest_id, planned.assets) == (False, None, 2)
    assert planned.changes.added == ["a1", "a2"]
    assert not store.objects
    done = await deployed(store, A)
    assert (done.fingerprint, done.changes) == (planned.fingerprint, planned.changes)


async def test_each_manifest_is_kept_and_names_the_one_before() -> None:
    store = MemoryStore()
    outcomes = [await deployed(store, one, number) for number, one in enumerate((A, B, A2))]
    before = None
    for outcome in outcomes:
        assert outcome.manifest_id is not None
        found = await read_manifest(store, outcome.manifest_id)
        assert found is not None
        assert found.manifest.previous_manifest_id == before
        before = outcome.manifest_id
    assert await keys(store) == {"a1": "a", "a3": "a", "b1": "b", "b2": "b"}


async def test_a_refused_deploy_writes_nothing() -> None:
    store = MemoryStore()
    await deployed(store, A)
    before = dict(store.objects)
    for wanted in (part("b", asset("a1")), part("b", asset("x", "nowhere")), part("b", asset("x", "x"))):
        with pytest.raises(Refused):
            await deployed(store, wanted, 5)
    assert dict(store.objects) == before


FAULTS = [one for one in Decision if one is not Decision.PROCEED]


async def count_of(base: MemoryStore, wanted: CodeLocation) -> int:
    counted = FaultyStore(base.copy())
    await deployed(counted, wanted, 50)
    return len(counted.trace)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("begun", [False, True], ids=["first deploy", "later deploy"])
async def test_any_fault_at_any_operation_is_cured_by_repeating(fault: Decision, begun: bool) -> None:
    """After it the deploy is done or not, whole; repeated it is done; nothing of others is lost."""
    base = MemoryStore()
    if begun:
        await deployed(base, A)
    before = await keys(base)
    wanted = A2 if begun else A
    operations = await count_of(base, wanted)
    assert operations >= 5
    there = {one.key: "a" for one in wanted.assets}
    for index in range(operations):
        memory = base.copy()
        store = FaultyStore(memory, hook=plan({index: fault}))
        outcome = None
        with suppress(StoreError, ProcessDied):
            outcome = await deployed(store.actor("one"), wanted, 10)
        now = await keys(memory)
        assert now in (before, there), (index, now)
        if outcome is not None:
            assert now == there
            assert outcome.deployed
            assert outcome.changes
        late = list(store.late)
        if late and index % 2:
            await late.pop().deliver()
        # Another process takes over, then somebody else deploys.
        assert (await deployed(memory, wanted, 20)).manifest_id is not None
        assert await keys(memory) == there
        await deployed(memory, B, 30)
        both = there | {"b1": "b", "b2": "b"}
        assert await keys(memory) == both
        for one in late:
            await one.deliver()
        assert await keys(memory) == both
        assert manifest_deployed_note() in memory.objects


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(FAULTS), st.integers(0, 40))
async def test_of_deploys_at_once_none_is_lost(seed: int, fault: Decision, faulty: int) -> None:
    """Of each code location one of its deploys is what is there in the end, and every other one is complete."""
    random = Random(seed)
    faults = plan({faulty: fault} if faulty < 30 else {})

    async def interleaved(operation: Operation) -> Decision:
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        return await faults(operation)

    memory = MemoryStore()
    store = FaultyStore(memory, hook=interleaved)
    wanted = [
        *(part(name, asset(f"{name}1"), asset(f"{name}{n + 2}", f"{name}1")) for name in "abcd" for n in range(2)),
        part("e", asset("e1")),
    ]

    async def one(number: int) -> DeployOutcome | None:
        actor = store.actor(str(number))
        try:
            return await deploy(actor, wanted[number], ids(100 * number), pause=no_pause)
        except (StoreError, ProcessDied):
            return None

    outcomes = await asyncio.gather(*(one(number) for number in range(len(wanted))))
    for late in store.late:
        await late.deliver()
    found = await keys(memory)
    for number, outcome in enumerate(outcomes):
        location = wanted[number].location
        rivals = [other for place, other in enumerate(wanted) if other.location == location]
        mine = {key for key, owner in found.items() if owner == location}
        complete = [{item.key for item in other.assets} for other in rivals]
        if outcome is not None:
            assert mine in complete, (location, mine)
        else:
            assert not mine or mine in complete
    manifests = [one for one in memory.objects if parse_deployed_manifest(one) is not None]
    assert len(manifests) >= len([one for one in outcomes if one is not None and one.deployed])


@pytest.mark.parametrize("begun", [False, True], ids=["first deploy", "later deploy"])
async def test_a_swap_that_arrives_late_is_known_as_this_deploys_own(begun: bool) -> None:
    memory = MemoryStore()
    if begun:
        await deployed(memory, B)

    async def late_index(operation: Operation) -> Decision:
        first = operation.kind is OperationKind.PUT and operation.path == latest_manifest_index() and not store.late
        return Decision.LATE if first else Decision.PROCEED

    async def arrives(_seconds: float) -> None:
        await store.late[0].deliver()

    store = FaultyStore(memory, hook=late_index)
    outcome = await deploy(store, A, ids(5), pause=arrives)
    assert (outcome.deployed, outcome.changes.added, outcome.manifest_id) == (True, ["a1", "a2"], ids(5)())
    assert await keys(memory) == {"a1": "a", "a2": "a"} | ({"b1": "b", "b2": "b"} if begun else {})
    assert manifest_deployed_note() in memory.objects


async def test_who_was_overtaken_after_a_lost_answer_does_not_deploy_again() -> None:
    """The swap has happened, its answer is lost, and others deploy on top, the same code location among them."""

    async def lost(operation: Operation) -> Decision:
        mine = operation.actor == "slow" and operation.kind is OperationKind.PUT
        return Decision.FAIL_AFTER if mine and operation.path == latest_manifest_index() else Decision.PROCEED

    async def overtaken(_seconds: float) -> None:
        await deployed(memory, B, 60)
        await deployed(memory, A2, 70)

    memory = MemoryStore()
    await deployed(memory, C)
    store = FaultyStore(memory, hook=lost)
    outcome = await deploy(store.actor("slow"), A, ids(5), pause=overtaken)
    assert (outcome.deployed, outcome.changes.added, outcome.manifest_id) == (True, ["a1", "a2"], ids(5)())
    assert {key for key, owner in (await keys(memory)).items() if owner == "a"} == {"a1", "a3"}


async def test_a_throttled_name_is_waited_for_without_new_manifests() -> None:
    refused = 0

    async def throttled(operation: Operation) -> Decision:
        nonlocal refused
        if operation.kind is OperationKind.PUT and operation.path == latest_manifest_index() and refused < 3:
            refused += 1
            return Decision.FAIL_BEFORE
        return Decision.PROCEED

    store = FaultyStore(MemoryStore(), hook=throttled)
    assert (await deployed(store, A)).deployed
    assert refused == 3
    puts = [one.operation.path for one in store.trace if one.operation.kind is OperationKind.PUT]
    assert sum(parse_deployed_manifest(path) is not None for path in puts) == 1


async def test_who_is_always_overtaken_is_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploying, "DEADLINE_S", 0.0)

    async def overtaken(operation: Operation) -> Decision:
        wanted = (OperationKind.PUT, latest_manifest_index())
        if operation.actor == "slow" and (operation.kind, operation.path) == wanted:
            await deploy(store.actor("quick"), B, ids(60), pause=no_pause)
        return Decision.PROCEED

    store = FaultyStore(MemoryStore(), hook=overtaken)
    with pytest.raises(Refused) as raised:
        await deploy(store.actor("slow"), A, ids(), pause=no_pause)
    assert raised.value.refusal.code is Code.UNAVAILABLE
    assert await keys(store) == {"b1": "b", "b2": "b"}


async def test_an_id_that_was_used_is_not_used_again() -> None:
    store = MemoryStore()
    await deployed(store, A)
    taken = iter([ids()(), ids()(), ids(5)()])
    outcome = await deploy(store, B, lambda: next(taken), pause=no_pause)
    assert outcome.manifest_id == ids(5)()
    assert len(await keys(store)) == 4


async def test_readers_remember_manifests_and_see_each_deploy() -> None:
    counted = FaultyStore(MemoryStore())
    reader = ManifestReader()
    assert await reader.latest(counted, "w") is None
    await deployed(counted, A)
    first = await reader.latest(counted, "w")
    assert first is not None
    counted.trace.clear()
    assert await reader.latest(counted, "w") is first
    assert [one.operation.path for one in counted.trace] == [
        latest_manifest_index(),
        replaced_manifest(first.manifest.manifest_id),
    ]
    await deployed(counted, B, 4)
    second = await reader.latest(counted, "w")
    assert second is not None
    assert len(second.manifest.assets) == 4
    # Another workspace whose manifest has the same id has a manifest of its own.
    other = MemoryStore()
    await deployed(other, C, 4)
    theirs = await reader.latest(other, "v")
    assert theirs is not None
    assert {one.location for one in theirs.manifest.assets} == {"c"}
