"""A workspace as large as one likes, published by the product's own code: some seconds for each 10,000 runs.

A run has five tasks, 14 events in all: requested under a run key, triggered, planned, a timer, and each task started
and finished. The events of all runs are those of one, with ids and instants of their own; runs are folded some
thousand at a time, as nothing links them, and their rows are put together.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from springline import paths
from springline.ledger import events as e
from springline.ledger.envelope import compose_event, parse_event
from springline.ledger.nested import ManualRef, ManualTrigger, TaskDefinition, TaskOutput
from springline.ledger.timestamps import format_ms
from springline.paths import Scope, StateLayer, canonical_ulid_event, orchestration_manifest
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_event
from springline.projection.parquet import arrow_columns, encode_arrow, sorted_by_key
from springline.projection.schema import CATALOG_RUN_INDEX, OWN_TABLES, TABLES
from springline.projection.state import State
from springline.published.bases import base_of
from springline.published.files import Artifact, EncodedTable, WrittenTable, write_table
from springline.published.head import write_manifest
from springline.published.index import EventsIndex
from springline.published.index_files import AcceptedEvent, extend_index
from springline.published.manifest import (
    NO_MANIFEST,
    SCHEMA_VERSION,
    ConfigSection,
    DigestSection,
    EventsSection,
    Manifest,
    Pointer,
    SpringlineSection,
    Watermarks,
    encode,
)
from springline.published.merge import limits_for
from springline.storage.port import IfAbsent, ObjectStore, Stored
from springline.ulids import RANDOM_BITS, new_ulid

TASKS_OF_A_RUN: Final = 5
EVENTS_OF_A_RUN: Final = 4 + 2 * TASKS_OF_A_RUN
RUNS_AT_ONCE: Final = 5_000
START_MS: Final = 1_760_000_000_000
GAP_MS: Final = 1_000
"""From one run to the next."""
_RUN, _KEY, _MATERIALIZATION = "run_RRRRRRRRRRRRRRRRRRRRRRRRRR", "bench:KKKKKKKKKK", "mat_MMMMMMMMMMMMMMMMMMMM"
_EVENT_ID, _INSTANT_MS = "01EVENT{:019}", 4_000_000_000_000


def run_id_of(number: int) -> str:
    """Return the id of a run; they come in no order, as those that follow from run keys."""
    return "run_" + hashlib.sha256(b"%d" % number).hexdigest()[: len(_RUN) - 4]


async def publish_workspace(
    store: ObjectStore, scope: Scope, runs: int, *, under_way: int = 100, seed: int = 1
) -> Manifest:
    """Publish a workspace with so many runs in `store`, which is scoped to it and holds nothing of it yet.

    The last runs, `under_way` of them, have not ended: of each the last task has begun.
    """
    config = FoldConfig(scope.tenant, scope.workspace)
    templates = _templates(scope)
    rnd = random.Random(seed)
    digest, index, last = Digest(), EventsIndex(), ""
    artifact: Artifact | None = None
    tables: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    for start in range(0, runs, RUNS_AT_ONCE):
        state, accepted = State(config), list[AcceptedEvent]()
        for event_id, body in _bodies(
            templates, range(start, min(runs, start + RUNS_AT_ONCE)), runs - under_way, last, rnd
        ):
            fold_event(state, parse_event(body))
            accepted.append(AcceptedEvent(event_id, hashlib.sha256(body).hexdigest(), body))
            last = event_id
        for name, table in TABLES.items():
            rows = list(state.rows(name))
            digest.add(name, rows)
            tables[name].append(arrow_columns(table, rows))
        extended = await extend_index(store, index, accepted)
        index, artifact = extended.index, extended.artifact
    written: list[WrittenTable] = []
    snapshot_id = new_ulid(None, START_MS, 1)
    for name, table in TABLES.items():
        if name in OWN_TABLES and not digest.rows(name):
            continue
        data = encode_arrow(table, sorted_by_key(table, pa.concat_tables(tables.pop(name))))
        org = scope.tenant if name == CATALOG_RUN_INDEX.name else None
        written.append(await write_table(store, StateLayer.BASE, snapshot_id, EncodedTable(name, org, data)))
    published_ms = START_MS + runs * GAP_MS
    base = await base_of(store, snapshot_id, written, digest, published_ms=published_ms)
    at = format_ms(published_ms)
    template = Manifest(
        manifest_id=NO_MANIFEST,
        schema_version=SCHEMA_VERSION,
        revision_ulid=new_ulid(None, START_MS, 2),
        published_at=at,
        watermarks=Watermarks(last, last, last, canonical_ulid_event(last), at),
        base_snapshot=base,
        l0_deltas=[],
        l0_count=0,
        l0_limits=limits_for(sum(digest.rows(name) for name in TABLES)),
        springline=SpringlineSection(
            config=ConfigSection(config.fingerprint, config.retention_days),
            digest=DigestSection.of(digest.tables()),
            events=EventsSection(index.count, artifact),
            rounds_folded=0,
        ),
    )
    found = await write_manifest(store, template, is_base=True)
    pointer = Pointer(
        manifest_id=found.manifest.manifest_id,
        manifest_path=orchestration_manifest(found.manifest.manifest_id),
        updated_at=at,
    )
    assert isinstance(await store.put(paths.orchestration_pointer(), encode(pointer), IfAbsent()), Stored)
    return found.manifest


def _bodies(
    templates: list[str], numbers: range, ended: int, last: str, rnd: random.Random
) -> Iterator[tuple[str, bytes]]:
    """Yield the events of some runs with their ids, ascending; those from the number `ended` on are under way."""
    for number in numbers:
        run_id, key = run_id_of(number), f"bench:{number:010}"
        at_ms = START_MS + number * GAP_MS
        for place, template in enumerate(templates if number < ended else templates[:-1]):
            now = at_ms + 40 * place
            last = new_ulid(last or None, now, rnd.getrandbits(RANDOM_BITS))
            body = (
                template.replace(_RUN, run_id)
                .replace(_KEY, key)
                .replace(_MATERIALIZATION, f"mat_{rnd.getrandbits(80):020x}")
                .replace(_EVENT_ID.format(place), last)
                .replace(format_ms(_INSTANT_MS + place), format_ms(now))
            )
            yield last, body.encode()


def _templates(scope: Scope) -> list[str]:
    """Return the bodies of one run's events, with texts that stand for what is every run's own."""
    plan = f"plan_{_RUN}"
    keys = [f"task_{place:03}" for place in range(TASKS_OF_A_RUN)]
    tasks = [
        TaskDefinition(
            key=key,
            depends_on=keys[:place][-1:],
            asset_key=f"mart.table_{place:02}",
            partition_key=_KEY if place == 1 else None,
            max_attempts=3,
            requires_visible_output=place % 2 == 0,
        )
        for place, key in enumerate(keys)
    ]
    payloads: list[e.Payload] = [
        e.RunRequested(
            run_key=_KEY,
            request_fingerprint=f"fp:{_KEY}",
            asset_selection=["mart.table_00"],
            trigger_source_ref=ManualRef(user_id="bench", request_id=_KEY),
        ),
        e.RunTriggered(
            run_id=_RUN,
            plan_id=plan,
            trigger=ManualTrigger(user_id="bench"),
            root_assets=["mart.table_00"],
            run_key=_KEY,
            labels={"kind": "refresh", "team": "bench"},
            code_version="git-1",
        ),
        e.PlanCreated(run_id=_RUN, plan_id=plan, tasks=tasks),
        e.TimerRequested(
            timer_id=f"timer:heartbeat:{_RUN}:task_000:1:1760000000",
            timer_type="heartbeat_check",
            fire_at=format_ms(START_MS),
            run_id=_RUN,
            task_key="task_000",
            attempt=1,
        ),
    ]
    for task in tasks:
        own = f"att_{_RUN}:{task.key}"
        payloads.append(e.TaskStarted(run_id=_RUN, task_key=task.key, attempt=1, attempt_id=own, worker_id="worker-1"))
        payloads.append(
            e.TaskFinished(
                run_id=_RUN,
                task_key=task.key,
                attempt=1,
                attempt_id=own,
                worker_id="worker-1",
                outcome="succeeded",
                materialization_id=_MATERIALIZATION,
                output=TaskOutput(
                    materialization_id=_MATERIALIZATION,
                    row_count=1_000,
                    byte_size=1_000_000,
                    delta_table=task.asset_key,
                    delta_version=7,
                ),
                asset_key=task.asset_key,
                partition_key=task.partition_key,
            )
        )
    return [
        compose_event(
            payload,
            event_id=_EVENT_ID.format(place),
            timestamp_ms=_INSTANT_MS + place,
            tenant=scope.tenant,
            workspace=scope.workspace,
        ).decode()
        for place, payload in enumerate(payloads)
    ]
