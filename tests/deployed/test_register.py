"""The register of workspaces: entered before anything is deployed there, once, and by nothing that is refused."""

from __future__ import annotations

from functools import partial

import orjson
import pytest

from springline.checked import verify
from springline.deployed.deploying import deploy
from springline.deployed.reading import read_latest
from springline.deployed.register import register, registered
from springline.errors import Refused
from springline.paths import Scope, latest_manifest_index, workspace_entry
from springline.storage.faults import Decision, FaultyStore, Operation, OperationKind, ProcessDied
from springline.storage.memory import MemoryStore
from springline.storage.port import IfAbsent
from springline.storage.scoped import ScopedStore
from tests.deployed.test_deploying import A, no_pause
from tests.support.definitions import asset, ids, part

SCOPE = Scope("acme", "prod")


async def deployed(store: MemoryStore | FaultyStore, first_id: int = 0, *, dry_run: bool = False) -> None:
    entered = partial(register, store, SCOPE)
    await deploy(ScopedStore(store, SCOPE), A, ids(first_id), dry_run=dry_run, register=entered, pause=no_pause)


async def test_workspaces_are_listed_by_name() -> None:
    store = MemoryStore()
    for scope in (SCOPE, Scope("a", "b-1"), SCOPE):
        await register(store, scope)
    await store.put(workspace_entry(SCOPE).replace("prod", "Not.A.Name"), b"{}", IfAbsent())  # type: ignore[arg-type]
    assert await registered(store) == [Scope("a", "b-1"), SCOPE]
    data = store.objects[workspace_entry(SCOPE)].data
    assert verify(data, name=workspace_entry(SCOPE))
    found = orjson.loads(data)
    assert (found["tenant"], found["workspace"], found["format"]) == ("acme", "prod", 1)


async def test_a_deploy_enters_its_workspace() -> None:
    store = MemoryStore()
    await deployed(store)
    assert await registered(store) == [SCOPE]


async def test_a_deploy_that_changes_nothing_enters_a_workspace_of_an_older_build() -> None:
    store = MemoryStore()
    await deploy(ScopedStore(store, SCOPE), A, ids(), pause=no_pause)
    assert await registered(store) == []
    await deployed(store, 5)
    assert await registered(store) == [SCOPE]


async def test_what_is_refused_or_tried_dry_enters_nothing() -> None:
    store = MemoryStore()
    await deployed(store, dry_run=True)
    with pytest.raises(Refused):
        await deploy(
            ScopedStore(store, SCOPE),
            part("b", asset("b1", "unknown")),
            ids(),
            register=partial(register, store, SCOPE),
            pause=no_pause,
        )
    assert not store.objects


async def test_nothing_is_deployed_before_its_workspace_is_entered() -> None:
    inner = MemoryStore()

    async def dies_at_the_swap(operation: Operation) -> Decision:
        swaps = operation.kind is OperationKind.PUT and operation.path == SCOPE.full(latest_manifest_index())
        return Decision.DIE_BEFORE if swaps else Decision.PROCEED

    with pytest.raises(ProcessDied):
        await deployed(FaultyStore(inner, hook=dies_at_the_swap))
    assert await read_latest(ScopedStore(inner, SCOPE)) is None
    assert await registered(inner) == [SCOPE]
