"""A small workspace with every kind of object that runs, evaluators and pipelines store, and older versions of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from springline import paths
from springline.backfills import keys, requests
from springline.control.runs.messages import FoundByCheck, TakenOutput
from springline.deployed.deploying import deploy
from springline.deployed.pools import PoolSetting, set_pool
from springline.deployed.register import register
from springline.ledger.identifiers import run_id_of_key
from springline.paths import ObjectPath
from springline.published.reader import PublishedReader
from springline.runs.attempt_logs import LogLine, chunk_object
from springline.storage.identity import store_id
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from springline.work.frames import ValueForm
from springline.work.outputs import Output, store_output
from springline.work.seals import Seal, SealedWrite, sealed_object
from tests.backfills.place import DAILY, Place
from tests.control.payloads import started
from tests.damage.workspaces import Remembering
from tests.support.definitions import asset, ids, part
from tests.support.local_api import ACME
from tests.support.local_ledger import LocalLedger
from tests.work.conftest import order

KINDS: dict[str, str] = {
    "manifest": r"manifests/[0-9A-Z]{26}\.json",
    "index": r"manifests/_index\.json",
    "note of deploys": r"manifests/_deployed\.json",
    "note of a replaced manifest": r"manifests/replaced/[0-9A-Z]{26}\.json",
    "sizes of pools": r"manifests/_pools\.json",
    "note of sizes": r"manifests/_pools_set\.json",
    "note of replaced sizes": r"manifests/replaced/pools-.*",
    "list of keys": r"orchestration/backfills/keys/.*",
    "log chunk": r"logs/.*",
    "output": r"outputs/.*",
    "seal": r"effects/.*\.json",
    "entry of the register": r"orchestration/workspaces/.*",
    "store's identity": r"canary/store-id\.json",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}

UNDER_WAY, FIRST, SECOND = "k-under-way", "k-first", "k-second"
"""Keys of a run that is under way and two that wait; of the first manifest is the run under way and one that waits."""
TASK = "raw[2024-01-01]"
LOGS = 3
OUTPUTS = (order("raw", keeps_output=True), order("whole", keeps_output=True))
SEALS = ("raw", "whole")


def run_id_of(run_key: str) -> str:
    """Return the id of the run that is asked for under a key."""
    return run_id_of_key(ACME.tenant, ACME.workspace, run_key, b"")


def relative(path: ObjectPath) -> ObjectPath:
    """Return a path in the workspace, or that of an object of the whole store."""
    return ACME.relative(path) if path.startswith(ACME.prefix) else path


@cache
def kind_of(path: ObjectPath) -> str | None:
    """Return the kind of an object; None for those of the ledger and its projections."""
    found = [kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(relative(path))]
    assert len(found) <= 1
    return found[0] if found else None


class Tracing(MemoryStore):
    """A store that knows which objects were asked for; a list asks for all below its prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[ObjectPath] = set()

    async def get(self, path: ObjectPath) -> Any:
        self.asked.add(path)
        return await super().get(path)

    async def head(self, path: ObjectPath) -> Any:
        self.asked.add(path)
        return await super().head(path)

    async def list(self, prefix: ObjectPath, **more: Any) -> Any:
        self.asked |= {path for path in self.objects if path.startswith(prefix)}
        async for info in super().list(prefix, **more):
            yield info


class RunPlace(Place):
    """A workspace over a store, as a process finds it that has just started."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self.store = store
        self.ledger = LocalLedger(store)
        self.reader = PublishedReader(store)

    @property
    def own(self) -> ScopedStore:
        """The workspace's part of the store."""
        return ScopedStore(self.store, ACME)


@dataclass(eq=False)
class Workspace:
    """The workspace: its objects, and the older versions of each."""

    whole: MemoryStore
    objects: dict[ObjectPath, bytes]
    older: dict[ObjectPath, list[bytes]]
    backfill_id: str

    def store(self) -> Tracing:
        """Return a store of its own with the workspace."""
        twin = Tracing()
        twin._objects = dict(self.whole._objects)
        twin._writes = self.whole._writes
        return twin


def asked(run_key: str, manifest_id: str, *assets: str, **more: Any) -> dict[str, Any]:
    """Return a request for a run by a manifest."""
    return {
        "type": "run_requested",
        "run_key": run_key,
        "request_fingerprint": "f",
        "asset_selection": list(assets),
        "trigger_source_ref": {"type": "manual", "user_id": "ada", "request_id": run_key},
        "code_version": manifest_id,
        **more,
    }


def taken(number: int) -> TakenOutput:
    """Return how a task takes one of the outputs."""
    made = OUTPUTS[number]
    return TakenOutput(task_key=made.task_key, attempt_id=made.attempt_id, scope=made.scope)


def _seal(task: str) -> Seal:
    made = order(task)
    write = SealedWrite(number=1, table=task, operation="append", key="k", staged="effects/x", sha256="s", rows=3)
    return Seal(
        scope=made.scope,
        task=task,
        run_id=made.run_id,
        attempt=1,
        attempt_id=made.attempt_id,
        worker_id="w1",
        sealed_at_ms=1_000,
        metadata={"rows": 3},
        checks=[FoundByCheck(name="c", severity="error", passed=True)],
        writes=[write],
    )


async def make() -> Workspace:
    """Make the workspace."""
    store = Remembering()
    place = RunPlace(store)
    own = place.own
    await store_id(store, "a-store")
    await register(store, ACME)
    raw, whole = asset("raw", partitions=DAILY, pool="p"), asset("whole", "raw")
    new_id = ids()
    first = await deploy(own, part("flights", raw, whole, pools={"p": 3}), new_id)
    await deploy(own, part("other", asset("b")), new_id)
    assert first.manifest_id is not None
    key = {"partition_selection": ["2024-01-01"]}
    await place.append(asked(UNDER_WAY, first.manifest_id, "raw", **key))
    await place.launch()
    await place.append(started(TASK, run=run_id_of(UNDER_WAY)))
    second = await deploy(own, part("flights", raw, whole, asset("late"), pools={"p": 3}), new_id)
    assert second.manifest_id is not None
    await place.append(asked(FIRST, first.manifest_id, "raw", **key), asked(SECOND, second.manifest_id, "late"))
    for number, slots in enumerate((5, 2, 1)):
        await set_pool(own, "p", PoolSetting(slots=slots, set_by="ada", set_at_ms=number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "MOST_LISTED", 2)
        patch.setattr(keys, "PAGE_KEYS", 2)
        days = [f"2024-02-0{day}" for day in (3, 1, 2, 5, 4)]
        created = await place.create(partitions=days, chunk_size=1, max_concurrent_runs=5)
    for number in range(1, LOGS + 1):
        lines = [LogLine(1_000 + number, f"line {number}"), LogLine(1_000 + number, "end")]
        data = chunk_object(run_id_of(UNDER_WAY), TASK, 1, number, "w1", lines)
        store.seed(ACME.full(paths.log_chunk(run_id_of(UNDER_WAY), TASK, 1, number)), data)
    for number, made in enumerate(OUTPUTS):
        await store_output(own, made, Output(ValueForm("json"), b'["value", %d]' % number))
    for task in SEALS:
        store.seed(ACME.full(paths.write_seal(order(task).scope, task)), sealed_object(_seal(task)))
    objects = {path: stored.data for path, stored in store.objects.items()}
    older = {path: versions[:-1] for path, versions in store.versions.items() if len(versions) > 1}
    mine = {path: data for path, data in objects.items() if kind_of(path) is not None}
    return Workspace(store.copy(), mine, older, created.backfill_id)


def of_kind(made: Workspace, kind: str) -> Sequence[ObjectPath]:
    """Return the objects of a kind."""
    return [path for path in sorted(made.objects) if kind_of(path) == kind]
