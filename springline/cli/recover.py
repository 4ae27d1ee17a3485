"""Recovering one table from storage alone (docs/protocol.md#rule-2)."""

from __future__ import annotations

from typing import Any

from springline.commit.audit import AuditFinding, audit
from springline.commit.complete import rebuild_coordinator, settle
from springline.commit.registry import Registry, is_table_id
from springline.commit.repair import registry_problems, repair_markers_in_flight, repair_registry, replace_coordinator
from springline.commit.table import CommitTable, Held
from springline.storage.scoped import ScopedStore


async def find_table(store: ScopedStore, id_or_name: str) -> CommitTable:
    """Return a table of the workspace whose part of the store `store` is.

    By id, a coordinator is enough: so a table whose registry entry is lost is found, too. Raises `Refused`
    (TABLE_NOT_FOUND).
    """
    registry = Registry(store)
    if is_table_id(id_or_name):
        return CommitTable(store, id_or_name, await registry.root_of(id_or_name))
    entry = await registry.entry(id_or_name)
    return CommitTable(store, entry.table_id, entry.root)


async def recover_table(
    store: ScopedStore, id_or_name: str, *, markers: bool = False, damaged: bool = False
) -> dict[str, Any]:
    """Complete or abandon what the table has in flight and return a report of it.

    A registered table whose coordinator is lost gets a new one from its log, with the markers that the newest log
    file needs (docs/protocol.md#commit-rounds); `damaged`: unreadable objects of its registry, its coordinator and
    its markers are replaced, too; `markers`: with all markers that any log file needs. The report has `table_id`,
    `root`, `before` and `after` (`latest_version` by the coordinator, null if there is none, and `inflight`),
    `rebuilt_coordinator`, and `done`, one entry for each reservation that was brought to an end; with `damaged` the
    objects that were `replaced` besides the coordinator; with `markers` also `markers_written` and the `findings` that
    are left.
    """
    replaced = await repair_registry(store, id_or_name) if damaged else []
    table = await find_table(store, id_or_name)
    rebuilt = damaged and await replace_coordinator(table)
    replaced += await repair_markers_in_flight(table) if damaged else []
    before = await table.read_coordinator()
    if before is None:
        # If another process creates it first, that one counts and this write fails.
        rebuilt = await table.swap((await rebuild_coordinator(table)).state, None) is not None
    done = await settle(table, before)
    after = await table.read_coordinator()
    written = await audit(table, repair=True, replace=damaged) if markers else None
    report = {
        "table_id": table.table_id,
        "root": table.root,
        "before": _state(before),
        "rebuilt_coordinator": rebuilt,
        "done": [
            {
                "kind": one.kind.value,
                "commit_id": one.inflight.commit_id,
                "version": one.inflight.version,
                "keys": list(one.inflight.keys),
            }
            for one in done
        ],
        "after": _state(after),
    }
    if damaged:
        report["replaced"] = replaced
    if written is not None:
        report["markers_written"] = [one.object for one in written.findings if one.repaired]
        report["findings"] = [_finding(one) for one in written.findings if not one.repaired]
    return report


async def verify_table(store: ScopedStore, id_or_name: str, *, deep: bool = False) -> dict[str, Any]:
    """Check that a table's registry, coordinator, log and markers agree, and each log file obeys the protocol.

    Changes nothing. `ok`: whether there is no finding. `deep` lists the markers, too: each has its log file's hash.
    """
    table = await find_table(store, id_or_name)
    found = await audit(table, deep=deep)
    remedy = "Run `springline table recover --replace-damaged`: it is made anew of what else is there."
    found.findings[:0] = [
        AuditFinding(one.object, one.problem, remedy) for one in await registry_problems(store, table.table_id)
    ]
    return {
        "table_id": table.table_id,
        "root": table.root,
        "ok": found.ok,
        "first_version": found.first,
        "last_version": found.last,
        "coordinator": None if found.coordinator is None else _state(Held(found.coordinator, None)),
        "keys": found.keys,
        "answered": found.answered,
        "versions_without_key": found.nameless,
        "findings": [_finding(one) for one in found.findings],
    }


def _finding(one: AuditFinding) -> dict[str, Any]:
    return {"object": one.object, "problem": one.problem, "remedy": one.remedy}


def _state(held: Held | None) -> dict[str, Any]:
    if held is None:
        return {"latest_version": None, "inflight": None}
    inflight = held.state.inflight
    return {
        "latest_version": held.state.latest_version,
        "inflight": None
        if inflight is None
        else {
            "commit_id": inflight.commit_id,
            "version": inflight.version,
            "mode": inflight.mode.value if inflight.mode else "strict",
            "keys": list(inflight.keys),
            "staged_path": inflight.staged_path,
            "started_at_ms": inflight.started_at_ms,
        },
    }
