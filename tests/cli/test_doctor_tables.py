"""`springline doctor` finds workspaces and tables by itself, and says which are damaged, and what it left out."""

from __future__ import annotations

import pytest

from springline.cli import doctor_workspace
from springline.cli.doctor_workspace import all_workspaces_findings, workspace_findings
from springline.cli.findings import State
from springline.cli.presence import find_workspaces
from springline.paths import ObjectPath, Scope
from springline.storage.faults import FaultyStore, Kind
from springline.storage.memory import MemoryStore
from tests.damage.tables import Tables, committed, kind_of
from tests.support.rows import SCOPE


async def _wrong(store: MemoryStore, *, deep: bool = False) -> list[str]:
    findings = await workspace_findings(store, SCOPE, deep=deep)
    return [one.what for one in findings if one.state is State.WRONG]


def _of_kind(made: Tables, kind: str) -> list[ObjectPath]:
    return [path for path in sorted(made.objects) if made.is_mine(path) and kind_of(path) == kind]


async def test_whole_tables_are_well() -> None:
    made = await committed()
    for deep in (False, True):
        findings = await workspace_findings(made.store(), SCOPE, deep=deep)
        assert [one.state for one in findings] == [State.OK, State.OK], findings
        assert "2 table(s)" in findings[-1].what


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", ["entry", "root claim", "name claim", "coordinator", "checkpoint", "log", "marker"])
async def test_a_damaged_object_of_a_table_is_named(kind: str, deep: bool) -> None:
    made = await committed()
    store, path = made.store(), _of_kind(made, kind)[-1]
    store.rot(path, b"{")
    if kind in ("log", "marker") and not deep:
        assert await _wrong(store) == []
        return
    found = await _wrong(store, deep=deep)
    assert found
    assert all(SCOPE.relative(path) in one for one in found)


async def test_workspaces_are_found_past_what_lies_in_them() -> None:
    store = MemoryStore()
    scopes = [
        Scope(tenant, workspace) for tenant in ("a", "a-b", "b") for workspace in ("dev", "dev-2", "dev_2", "prod")
    ]
    for scope in scopes:
        for number in range(50):
            store.seed(scope.full(ObjectPath(f"some/{number}")), b"")
    store.seed(ObjectPath("elsewhere"), b"")
    store.seed(ObjectPath("zebra"), b"")
    watched = FaultyStore(store)
    found = await find_workspaces(watched, 100)
    assert {(one.tenant, one.workspace) for one in found} == {(one.tenant, one.workspace) for one in scopes}
    assert len(found) == len(scopes)
    assert watched.count() == watched.count(Kind.LIST) == len(scopes) + 1
    assert len(await find_workspaces(store, 5)) == 5


async def test_all_workspaces_are_looked_at_and_named_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    made = await committed()
    store = made.store()
    other = Scope("acme", "zoo")
    store.seed(other.full(ObjectPath("some/object")), b"")
    store.rot(_of_kind(made, "coordinator")[0], b"{")
    findings = await all_workspaces_findings(store, deep=False)
    assert [one.name for one in findings if one.state is State.WRONG] == ["table acme/prod/rows"]
    assert "workspace acme/zoo" in [one.name for one in findings]
    monkeypatch.setattr(doctor_workspace, "MOST_WORKSPACES", 1)
    findings = await all_workspaces_findings(store, deep=False)
    assert "acme/zoo" in findings[-1].what
    assert "workspace acme/zoo" not in [one.name for one in findings]
    assert [one.what for one in await all_workspaces_findings(MemoryStore(), deep=False)] == [
        "there is none in the store yet"
    ]
