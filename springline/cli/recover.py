"""Recovering one table from storage alone (design 3.3 rule 2)."""

from __future__ import annotations

from typing import Any

from springline.commit.bootstrap import rebuild_coordinator
from springline.commit.finish import settle
from springline.commit.registry import Registry, is_table_id
from springline.commit.table import Held, Table
from springline.storage.port import ObjectStore


async def find_table(store: ObjectStore, id_or_name: str) -> Table:
    """Return a table of the workspace whose part of the store `store` is.

    By id, a coordinator is enough: the table of a bucket whose registry is lost is found too. Raises `Refused`
    (TABLE_NOT_FOUND).
    """
    registry = Registry(store)
    if is_table_id(id_or_name):
        return Table(store, id_or_name, await registry.root_of(id_or_name))
    entry = await registry.entry(id_or_name)
    return Table(store, entry.table_id, entry.root)


async def recover_table(store: ObjectStore, id_or_name: str) -> dict[str, Any]:
    """Complete or abandon whatever the table has in flight and return a report of it.

    A registered table whose coordinator is lost gets a new one from its log, with the markers that the newest
    log file calls for (design 3.2). The report holds `table_id`, `root`, `before` and `after` (`latest_version`
    by the coordinator, null if there is none, and `inflight`), `rebuilt_coordinator`, and `done`, one entry for
    each reservation that was brought to an end.
    """
    table = await find_table(store, id_or_name)
    before = await table.read_coordinator()
    rebuilt = False
    if before is None:
        # Should somebody else create it first, theirs counts and this write fails.
        rebuilt = await table.swap((await rebuild_coordinator(table)).state, None) is not None
    done = await settle(table, before)
    after = await table.read_coordinator()
    return {
        "table_id": table.table_id,
        "root": table.root,
        "before": _state(before),
        "rebuilt_coordinator": rebuilt,
        "done": [
            {
                "kind": one.kind.value,
                "commit_id": one.commit_id,
                "version": one.version,
                "keys": list(one.keys),
            }
            for one in done
        ],
        "after": _state(after),
    }


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
