"""`springline doctor` of a workspace: what is damaged is named, and what has vanished is found by listing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from springline.cli.doctor_workspace import workspace_findings
from springline.cli.findings import FindingState
from springline.deployed.deploying import deploy
from springline.paths import ObjectPath, deployed_manifest, orchestration_pointer, orchestration_round
from springline.storage.faults import FaultyStore, OperationKind
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.cli.conftest import Cli
from tests.support.definitions import asset, ids, part
from tests.support.ledger_workspaces import appended
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import SCOPE, ask, triggered

POINTER = SCOPE.full(orchestration_pointer())


async def said(store: MemoryStore, *, deep: bool = False) -> list[str]:
    """Return what is wrong with the workspace."""
    findings = await workspace_findings(store, SCOPE, deep=deep)
    assert findings
    assert all(one.name == "workspace acme/prod" for one in findings)
    assert all(one.remedy for one in findings if one.state is FindingState.WRONG)
    return [one.what for one in findings if one.state is FindingState.WRONG]


@pytest.mark.parametrize("deep", [False, True])
async def test_what_is_well_is_well(deep: bool) -> None:
    assert await said(MemoryStore(), deep=deep) == []
    store, run = await appended(["r"])
    assert await said(store, deep=deep) == []
    await run.step("admit", run.admit_order(await run._ready(), [ask(90, triggered("pending"))]))
    (finding,) = await workspace_findings(store, SCOPE, deep=deep)
    assert (finding.ok, "1 round(s) are accepted and not visible" in finding.what) == (True, True)


async def test_nothing_is_listed_but_the_tables_unless_asked() -> None:
    store, _ = await appended(["r"])
    watched = FaultyStore(store)
    await workspace_findings(watched, SCOPE, deep=False)
    assert watched.count() == watched.count(OperationKind.GET) + watched.count(OperationKind.LIST)
    assert watched.count(OperationKind.LIST) == 1


async def test_a_deployed_manifest_is_looked_at() -> None:
    store = MemoryStore()
    scoped = ScopedStore(store, SCOPE)
    outcome = await deploy(scoped, part("flights", asset("raw")), ids())
    name = "definitions of acme/prod"
    findings = {one.name: one for one in await workspace_findings(store, SCOPE, deep=False)}
    assert findings[name].what == f"manifest {outcome.manifest_id} is deployed: 1 asset(s) of 1 code location(s)"
    assert outcome.manifest_id is not None
    path = deployed_manifest(outcome.manifest_id)
    store.remove(SCOPE.full(path))
    findings = {one.name: one for one in await workspace_findings(store, SCOPE, deep=False)}
    assert findings[name].state is FindingState.WRONG
    assert path in findings[name].what
    assert "deploy every code location again" in str(findings[name].remedy)


def _remove(path: ObjectPath) -> Callable[[MemoryStore], None]:
    return lambda store: store.remove(path)


def _cut(part: str) -> Callable[[MemoryStore], None]:
    def cut(store: MemoryStore) -> None:
        path = max(path for path in store.objects if part in path)
        store.seed(path, store.objects[path].data[:-3])

    return cut


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (_remove(POINTER), "manifest.pointer.json is missing"),
        (_cut("manifest.pointer"), "manifest.pointer.json is no pointer"),
        (_cut("/manifests/"), "/manifests/"),
        (_cut("/index/"), "/index/"),
    ],
)
async def test_what_is_damaged_is_named(damage: Callable[[MemoryStore], None], named: str) -> None:
    store, _ = await appended(["r", "s"])
    damage(store)
    (what,) = await said(store)
    assert named in what


async def test_a_record_that_is_gone_is_found_by_reading_all() -> None:
    store, _ = await appended(["r", "s"])
    store.remove(SCOPE.full(orchestration_round(4)))
    assert await said(store) == []
    (what,) = await said(store, deep=True)
    assert orchestration_round(4) in what


async def test_what_has_vanished_together_is_found_by_listing() -> None:
    """The pointer is an old one, and every record that is newer is gone: all looks as it did then."""
    store = MemoryStore()
    run, pointer = Run(store), b""
    for number in range(12):
        await run.append(ask(number + 1, triggered(f"r-{number}")))
        pointer = store.objects[POINTER].data if number == 3 else pointer
    store.seed(POINTER, pointer)
    for number in range(5, 13):
        store.remove(SCOPE.full(orchestration_round(number)))
    assert await said(store) == []
    (what,) = await said(store, deep=True)
    assert "8 event(s) lie in the ledger" in what


async def test_records_far_behind_a_gap_are_found_by_listing() -> None:
    store = MemoryStore()
    run, pointer = Run(store), b""
    for number in range(15):
        await run.append(ask(number + 1, triggered(f"r-{number}")))
        pointer = store.objects[POINTER].data if number == 3 else pointer
    store.seed(POINTER, pointer)
    for number in range(5, 15):
        store.remove(SCOPE.full(orchestration_round(number)))
    found = await said(store, deep=True)
    assert "there is a record of round 15, and 4 is the last" in found[0]


def test_a_workspace_is_named_by_two_options(cli: Cli, tmp_path: Path) -> None:
    store = ["--store", tmp_path.as_uri()]
    ended = cli("doctor", *store, "--tenant", "acme", "--workspace", "prod", "--deep")
    assert '"workspace acme/prod"' in ended.stdout
    for options in (["--tenant", "acme"], ["--workspace", "prod"]):
        assert cli("doctor", *store, *options).code == 2
    assert cli("doctor", *store, "--deep").code == 0
