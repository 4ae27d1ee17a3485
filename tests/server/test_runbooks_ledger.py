"""The runbooks of ledger, projections, Temporal and lost coordinators, followed to the letter in their trouble."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import uuid_utils

from springline import names, paths
from springline.api.tokens import make_token
from springline.client.payloads import append_payload
from springline.config import PREFIX
from springline.delta.messages import CommitMode, TableRef
from springline.local.ports import LOOPBACK, free_ports
from springline.local.stack import EmbeddedStack
from springline.paths import ObjectPath, Scope
from springline.rebuild.sources import from_index
from springline.storage.local import LocalStore
from springline.storage.port import IfAbsent
from springline.storage.scoped import ScopedStore
from springline.ulids import new_ulid
from tests.server.runbook import RUNBOOKS, SCOPE, blocks_of, follow
from tests.support.commit_rounds import Rounds
from tests.support.forked_stack import ForkedStack
from tests.support.ledger_events import put_foreign
from tests.support.rows import adding
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import NOW_MS, ask, linear_run, triggered
from tests.support.sequencer_world import SCOPE as RUNS_SCOPE

RUNS = 3
EVENTS_OF_A_RUN = 4
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
    with ForkedStack(tmp_path_factory.mktemp("stack"), scope=SCOPE, workers=1) as running:
        yield running


class Lake:
    """One workspace of the stack, with a ledger of some runs, that a page brings back to health."""

    def __init__(self, stack: EmbeddedStack, scope: Scope, folder: Path) -> None:
        self.stack, self.scope = stack, scope
        self.token = make_token(stack.child_environment()[f"{PREFIX}JWT_SECRET"], scope, subject="operator", ttl_s=3600)
        self.root = Path(stack.store_url.removeprefix("file://")) / scope.prefix
        self._operator = folder / "operator"
        self._operator.mkdir()

    def post(self, path: str, body: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        """Ask the API, which must do it."""
        answer = httpx.post(
            f"{self.stack.api_url}/api/v1/{path}",
            json=body,
            params=parameters,
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=240,
        )
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def append(self, *runs: str) -> None:
        for run in runs:
            events = [{"data": event} for event in linear_run(run, ["a"])]
            assert len(events) == EVENTS_OF_A_RUN
            self.post("ledger/events", {"request_id": str(uuid_utils.uuid7()), "events": events})

    def rebuild(self, manifest: str, **parameters: Any) -> None:
        self.post("rebuild", {"rebuild_manifest_path": manifest, "mode": "full"}, **parameters)

    def files(self, part: str) -> list[Path]:
        """Return the objects in whose path `part` is, by name."""
        return sorted(file for file in self.root.rglob("*") if file.is_file() and part in file.as_posix())

    def in_store(self, work: Callable[[ScopedStore], Awaitable[None]]) -> None:
        async def run() -> None:
            store = self.store()
            await work(ScopedStore(store, self.scope))
            await store.aclose()

        asyncio.run(run())

    def store(self) -> LocalStore:
        return LocalStore(Path(self.stack.store_url.removeprefix("file://")))

    def accepted(self, *more: ObjectPath, name: str = "all") -> tuple[str, list[ObjectPath]]:
        """Write a rebuild manifest of every accepted event by its object, and `more`; return its path and theirs."""
        manifest, listed = paths.orchestration_rebuild(name), list[ObjectPath]()

        async def write(store: ScopedStore) -> None:
            listed.extend((await from_index(store, objects=True)).event_paths)
            await store.put(manifest, orjson.dumps({"event_paths": [*listed, *more]}), IfAbsent())

        self.in_store(write)
        return manifest, listed

    def follow(self, page: str, **variables: str) -> dict[str, list[str]]:
        known = {"TENANT": self.scope.tenant, "WORKSPACE": self.scope.workspace, "SPRINGLINE_TOKEN": self.token}
        return follow(PAGES[page], self.stack, self._operator, **(known | variables))


@pytest.fixture
def lake(stack: EmbeddedStack, tmp_path: Path, request: pytest.FixtureRequest) -> Lake:
    """A workspace of its own with three runs of four events."""
    workspace = re.sub(r"[^a-z]+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    made = Lake(stack, Scope(SCOPE.tenant, workspace), tmp_path)
    made.append(*(f"run-{number}" for number in range(1, RUNS + 1)))
    return made


def test_projections_that_are_gone_come_back(lake: Lake) -> None:
    for file in lake.files(".parquet"):
        file.unlink()
    lake.follow("projections-lost")


def test_a_rebuild_that_stopped_is_brought_to_its_end(lake: Lake) -> None:
    """Nobody works on it, the object of an event is gone, and an event is listed that never was."""
    never = paths.canonical_ulid_event(new_ulid(None, NOW_MS, 7))
    manifest, listed = lake.accepted(never)
    gone = lake.root / listed[1]
    body = gone.read_bytes()
    gone.unlink()
    (worker,) = lake.stack.worker_names
    lake.stack.child(worker).stop(20)
    lake.rebuild(manifest, wait=0)
    try:
        lake.follow("rebuild-stopped", MANIFEST=manifest)
    finally:
        lake.stack.start_child(worker)
    assert gone.read_bytes() == body


def test_a_gap_is_found_and_closed(lake: Lake) -> None:
    _, listed = lake.accepted()
    gone = lake.root / listed[1]
    body = gone.read_bytes()
    gone.unlink()

    async def put() -> ObjectPath:
        store = lake.store()
        path = await put_foreign(store, lake.scope, new_ulid(None, NOW_MS, 7), triggered("foreign"))
        await store.aclose()
        return path

    lake.follow("ledger-gap", EVENT=asyncio.run(put()))
    assert gone.read_bytes() == body


def test_damaged_objects_are_replaced(lake: Lake) -> None:
    manifest, _ = lake.accepted()
    lake.rebuild(manifest, wait=60)
    lake.append("run-4")
    event, (segment,) = lake.files("/ledger/orchestration/20")[-1], lake.files("/segments/")
    bodies = {file: file.read_bytes() for file in (event, segment)}
    event.write_bytes(b"{}")
    segment.write_bytes(bodies[segment][:-5])
    (lake.root / paths.orchestration_pointer()).write_bytes(b"\x00 damaged")
    lake.follow("damaged-object")
    assert event.read_bytes() == bodies[event]


def test_commits_and_answers_survive_a_lost_coordinator(lake: Lake) -> None:
    table_id = lake.post("delta/tables", {"name": "flights", "columns": [{"name": "id", "type": "long"}]})["table"][
        "table_id"
    ]
    keys = [str(uuid_utils.uuid7()) for _ in range(2)]

    async def commit() -> None:
        store = lake.store()
        process = Rounds(store, TableRef(tenant=lake.scope.tenant, workspace=lake.scope.workspace, table_id=table_id))
        for key in keys:
            payload = append_payload([], key, []) + adding(f"part-{key}.parquet")
            (outcome,) = await process.commit(await process.stage(payload, key=key, mode=CommitMode.APPEND))
            assert outcome.result is not None
        await store.aclose()

    asyncio.run(commit())
    (lake.root / paths.delta_coordinator(table_id)).write_bytes(b"{")
    for file in lake.files(f"/idempotency/{table_id}/"):
        file.unlink()
    lake.follow("coordinator-lost", TABLE_ID=table_id, KEY=keys[0])


def test_a_new_namespace_goes_on(stack: EmbeddedStack, tmp_path: Path) -> None:
    """An append is kept and not visible, a commit is reserved, and of Temporal there is an empty server."""
    lake = Lake(stack, RUNS_SCOPE, tmp_path)
    waiting = ask(9, triggered("run-9"))
    table_id = lake.post("delta/tables", {"name": "flights", "columns": [{"name": "id", "type": "long"}]})["table"][
        "table_id"
    ]

    async def leave() -> None:
        store = lake.store()
        run = Run(store)
        for number, payload in enumerate(linear_run("run-1", ["a"])):
            await run.append(ask(number, payload))
        assert run.head is not None
        admitted = await run.step("admit", run.admit_order(run.head, [waiting]))
        assert admitted.kind == "admitted"
        process = Rounds(store, TableRef(tenant=lake.scope.tenant, workspace=lake.scope.workspace, table_id=table_id))
        key = str(uuid_utils.uuid7())
        staged = await process.stage(append_payload([], key, []) + adding("part.parquet"), key=key)
        reserved = await process.reserve([staged], None)
        assert reserved.reservation is not None
        await store.aclose()

    asyncio.run(leave())
    (port,) = free_ports(1)
    lake.follow(
        "temporal-lost",
        TABLE="flights",
        REQUEST_ID=waiting.request_id,
        EVENT_DATA=orjson.dumps(waiting.events[0].data).decode(),
        TEMPORAL_NAMESPACE="springline-again",
        SPRINGLINE_API_PORT=str(port),
        SPRINGLINE_API_URL=f"http://{LOOPBACK}:{port}",
    )


def test_pages_name_what_exists() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES.values())
    for name in (names.REBUILD_WORKFLOW, names.REBUILD_QUEUE, names.LEDGER_WORKFLOW, names.LEDGER_QUEUE):
        assert name in text
    for name in names.SEARCH_ATTRIBUTES:
        assert name in text
    metrics = {value for key, value in vars(names).items() if key.startswith("METRIC_")}
    assert set(re.findall(r"springline_[a-z_]+", text)) <= metrics
    for workflow in set(re.findall(r"\b\w+Workflow\b", text)):
        assert workflow in vars(names).values()
    assert all(blocks_of(page) for page in PAGES.values())


def test_links_lead_to_pages_and_the_index_has_them_all() -> None:
    for page in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
            target, _, anchor = link.partition("#")
            assert (RUNBOOKS / target).is_file(), f"{page.name}: {link}"
            assert not anchor or f'<a id="{anchor}"></a>' in (RUNBOOKS / target).read_text("utf-8"), link
    index = (RUNBOOKS / "README.md").read_text("utf-8")
    for page in RUNBOOKS.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
