"""The runbooks of ledger, projections and lost coordinators, followed to the letter in the trouble they are for."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest
import uuid_utils

from activities.messages import TableRef
from springline import names, paths
from springline.client.files import append_payload
from springline.delta.request import Mode
from springline.ledger.compose import compose_event, payload_from
from springline.ledger.event_ids import new_event_id
from springline.local.binaries import temporal_cli
from springline.local.stack import TEMPORAL, EmbeddedStack
from springline.rebuild.sources import from_index
from springline.storage.local import LocalStore
from springline.storage.port import IfAbsent
from springline.storage.scoped import ScopedStore
from tests.recovery.rounds import Rounds
from tests.rows import adding
from tests.server.runbook import ROOT, RUNBOOKS, SCOPE, blocks_of, follow

RUNS = 4
PAGES = {
    name: RUNBOOKS / f"{name}.md"
    for name in (
        "projections-lost",
        "rebuild-stopped",
        "ledger-gap",
        "damaged-object",
        "temporal-lost",
        "coordinator-lost",
    )
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """A stack with a ledger of some runs, which each page brings back to health."""
    with EmbeddedStack(tmp_path_factory.mktemp("stack"), scope=SCOPE, workers=1) as running:
        for number in range(1, RUNS + 1):
            append(running, number)
        yield running


def append(stack: EmbeddedStack, number: int) -> None:
    run = f"run-{number}"
    task = {"run_id": run, "task_key": "a", "attempt": 1, "attempt_id": f"{run}-a", "worker_id": "w"}
    events: list[dict[str, object]] = [
        {"type": "run_triggered", "run_id": run, "plan_id": f"plan-{run}", "root_assets": []}
        | {"trigger": {"type": "manual", "user_id": "ada"}},
        {"type": "plan_created", "run_id": run, "plan_id": f"plan-{run}", "tasks": [{"key": "a", "depends_on": []}]},
        {"type": "task_started"} | task,
        {"type": "task_finished", "outcome": "succeeded"} | task,
    ]
    answer = httpx.post(
        f"{stack.api_url}/api/v1/ledger/events",
        json={"request_id": str(uuid_utils.uuid7()), "events": [{"data": event} for event in events]},
        headers={"Authorization": f"Bearer {stack.token()}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text


def rebuild(stack: EmbeddedStack, manifest: str) -> None:
    answer = httpx.post(
        f"{stack.api_url}/api/v1/rebuild?wait=60",
        json={"rebuild_manifest_path": manifest, "mode": "full"},
        headers={"Authorization": f"Bearer {stack.token()}"},
        timeout=90,
    )
    assert answer.status_code == 200, answer.text


def folder_of(stack: EmbeddedStack) -> Path:
    return Path(stack.store_url.removeprefix("file://")) / SCOPE.prefix


def files(stack: EmbeddedStack, *parts: str) -> list[Path]:
    return sorted(
        one for one in folder_of(stack).rglob("*") if one.is_file() and all(p in one.as_posix() for p in parts)
    )


def in_store(stack: EmbeddedStack, work: Callable[[ScopedStore], Awaitable[None]]) -> None:
    async def run() -> None:
        store = LocalStore(Path(stack.store_url.removeprefix("file://")))
        await work(ScopedStore(store, SCOPE))
        await store.aclose()

    asyncio.run(run())


def operator(tmp_path: Path) -> Path:
    folder = tmp_path / "operator"
    folder.mkdir()
    return folder


def test_projections_that_are_gone_come_back(stack: EmbeddedStack, tmp_path: Path) -> None:
    for file in files(stack, ".parquet"):
        file.unlink()
    follow(PAGES["projections-lost"], stack, operator(tmp_path))


def test_a_rebuild_that_stopped_is_brought_to_its_end(stack: EmbeddedStack, tmp_path: Path) -> None:
    first, manifest = paths.orchestration_rebuild("first"), paths.orchestration_rebuild("stopped")
    listed: list[paths.ObjectPath] = []

    async def list_everything(store: ScopedStore) -> None:
        listed.extend((await from_index(store, objects=True)).event_paths)
        await store.put(first, orjson.dumps({"event_paths": listed}), IfAbsent())
        # What another rebuild has read of the same list would not be read again.
        await store.put(manifest, orjson.dumps({"event_paths": listed[::-1]}), IfAbsent())

    in_store(stack, list_everything)
    # From here on the events are in a segment, too.
    rebuild(stack, first)
    gone = folder_of(stack) / listed[1]
    body = gone.read_bytes()
    gone.unlink()
    follow(PAGES["rebuild-stopped"], stack, operator(tmp_path), MANIFEST=manifest)
    gone.write_bytes(body)


def test_a_gap_is_found_and_closed(stack: EmbeddedStack, tmp_path: Path) -> None:
    event_id = new_event_id(None, 1_736_899_200_000, 7)
    run = {"type": "run_triggered", "run_id": "foreign", "plan_id": "p", "root_assets": []}
    body = compose_event(
        payload_from(run | {"trigger": {"type": "manual", "user_id": "bob"}}),
        event_id=event_id,
        timestamp_ms=1_736_899_200_000,
        tenant=SCOPE.tenant,
        workspace=SCOPE.workspace,
    )
    path = paths.canonical_ulid_event(event_id)

    async def put(store: ScopedStore) -> None:
        await store.put(path, body, IfAbsent())

    in_store(stack, put)
    follow(PAGES["ledger-gap"], stack, operator(tmp_path), EVENT=path)


def test_a_damaged_object_is_replaced(stack: EmbeddedStack, tmp_path: Path) -> None:
    pointer = folder_of(stack) / paths.orchestration_pointer()
    pointer.write_bytes(b"\x00 damaged")
    follow(PAGES["damaged-object"], stack, operator(tmp_path))


def test_commits_and_answers_survive_a_lost_coordinator(stack: EmbeddedStack, tmp_path: Path) -> None:
    created = httpx.post(
        f"{stack.api_url}/api/v1/delta/tables",
        json={"name": "flights", "columns": [{"name": "id", "type": "long"}]},
        headers={"Authorization": f"Bearer {stack.token()}"},
        timeout=60,
    )
    assert created.is_success, created.text
    table_id = created.json()["table"]["table_id"]
    keys = [str(uuid_utils.uuid7()) for _ in range(2)]

    async def commit() -> None:
        store = LocalStore(Path(stack.store_url.removeprefix("file://")))
        process = Rounds(store, TableRef(tenant=SCOPE.tenant, workspace=SCOPE.workspace, table_id=table_id))
        for key in keys:
            payload = append_payload([], key, []) + adding(f"part-{key}.parquet")
            (outcome,) = await process.commit(await process.stage(payload, key=key, mode=Mode.APPEND))
            assert outcome.result is not None
        await store.aclose()

    asyncio.run(commit())
    (folder_of(stack) / paths.delta_coordinator(table_id)).write_bytes(b"{")
    for file in files(stack, f"/idempotency/{table_id}/"):
        file.unlink()
    follow(PAGES["coordinator-lost"], stack, operator(tmp_path), TABLE_ID=table_id, KEY=keys[0])


def test_a_new_namespace_goes_on(stack: EmbeddedStack, tmp_path: Path) -> None:
    request_id = str(uuid_utils.uuid7())
    data: dict[str, object] = {"type": "run_triggered", "run_id": "after", "plan_id": "p", "root_assets": []}
    data |= {"trigger": {"type": "manual", "user_id": "ada"}}
    stack.wipe_temporal()
    for name in stack.worker_names:
        stack.restart(name)
    follow(
        PAGES["temporal-lost"], stack, operator(tmp_path), REQUEST_ID=request_id, EVENT_DATA=orjson.dumps(data).decode()
    )
    assert stack.child(TEMPORAL).exit_code is None


def test_pages_name_workflows_and_queues_that_exist() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES.values())
    for name in (names.REBUILD_WORKFLOW, names.REBUILD_QUEUE, names.LEDGER_WORKFLOW, names.LEDGER_QUEUE):
        assert name in text
    assert all(blocks_of(page) for page in PAGES.values())


def test_the_index_links_every_page() -> None:
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    for page in RUNBOOKS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
    assert subprocess.run([str(temporal_cli()), "--version"], check=True, capture_output=True, cwd=ROOT).returncode == 0
