"""`springline rebuild plan | start | watch | verify | explain | cancel`: from the store, and over the API."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from springline.cli.rebuild_progress import summary
from springline.errors import Code, Refusal
from springline.paths import canonical_ulid_event, relative_path
from springline.rebuild.manifest import parse_manifest
from springline.rebuild.sources import from_index, from_rounds
from springline.storage.faults import FaultyStore, Kind
from springline.storage.scoped import ScopedStore
from tests.api.conftest import ACME
from tests.cli.conftest import Cli, Served
from tests.rebuild.workspaces import appended
from tests.sequencer.world import SCOPE, ask, triggered

MANIFEST = "state/orchestration/rebuilds/one.json"
EVENTS = [canonical_ulid_event(f"01KHZKCWZ8000000000000000{number}") for number in (1, 2)]
WHERE = ("--tenant", SCOPE.tenant, "--workspace", SCOPE.workspace)


def seed(api: Served, document: Any = None) -> None:
    data = json.dumps(document or {"event_paths": EVENTS}).encode()
    api.store.seed(ACME.full(relative_path(MANIFEST)), data)


@pytest.fixture(scope="module")
def ledger() -> dict[str, bytes]:
    """Return the objects of a workspace with 266 events, of which 256 are in a segment."""

    async def fill() -> dict[str, bytes]:
        memory, run = await appended(["r"])
        await run.append(*(ask(number, triggered(f"s-{number}")) for number in range(100, 350)))
        for number in range(350, 360):
            await run.append(ask(number, triggered(f"s-{number}")))
        return {path: stored.data for path, stored in memory.objects.items()}

    return asyncio.run(fill())


@pytest.fixture
def lake(ledger: dict[str, bytes], tmp_path: Path) -> str:
    """Return the URL of a local store with that workspace in it."""
    for path, data in ledger.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return tmp_path.as_uri()


def written(lake: str, path: str) -> dict[str, list[str]]:
    file = Path(lake.removeprefix("file://")) / SCOPE.full(relative_path(path))
    parsed = parse_manifest(relative_path(path), file.read_bytes())
    return {"event_paths": parsed.event_paths, "segment_paths": parsed.segment_paths}


def test_a_plan_lists_what_the_index_names(lake: str, cli: Cli) -> None:
    said = cli("rebuild", "plan", *WHERE, "--store", lake, "--out", "mine").document
    assert said["rebuild_manifest_path"] == "state/orchestration/rebuilds/mine.json"
    assert (said["source"], said["events"]) == ("index", 266)
    lists = written(lake, said["rebuild_manifest_path"])
    assert len(lists["segment_paths"]) == said["segment_paths"] == 1
    assert len(lists["event_paths"]) == said["event_paths"] == 10
    assert said["next"] == "springline rebuild start state/orchestration/rebuilds/mine.json --mode verify"


@pytest.mark.parametrize("options", [["--objects"], ["--from-rounds"], ["--from-listing"]])
def test_a_plan_can_list_every_object(options: list[str], lake: str, cli: Cli) -> None:
    said = cli("rebuild", "plan", *WHERE, "--store", lake, *options).document
    assert (said["event_paths"], said["segment_paths"], said["events"]) == (266, 0, 266)
    assert len(written(lake, said["rebuild_manifest_path"])["event_paths"]) == 266


def test_a_plan_from_an_inventory_says_what_it_passed_over(lake: str, tmp_path: Path, cli: Cli) -> None:
    names = [SCOPE.full(relative_path(path)) for path in written(lake, _all(lake, cli))["event_paths"]] + [
        "tenant=other/workspace=prod/x.json",
        SCOPE.full(relative_path("state/orchestration/manifest.pointer.json")),
    ]
    file = tmp_path / "inventory.csv"
    file.write_text("bucket,name\n" + "".join(f"b,{name}\n" for name in names))
    said = cli("rebuild", "plan", *WHERE, "--store", lake, "--from-inventory", str(file)).document
    assert said["events"] == 266
    assert said["passed_over"]["object of another workspace, or of none"] == 1
    assert said["passed_over"]["no event and no segment"] == 1


def _all(lake: str, cli: Cli) -> str:
    path: str = cli("rebuild", "plan", *WHERE, "--store", lake, "--objects").document["rebuild_manifest_path"]
    return path


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--from-rounds", "--from-listing"], "--from-listing"),
        (["--from-rounds", "--objects"], "--objects"),
        (["--segments"], "--segments"),
        (["--from-inventory", "/nowhere"], "--from-inventory"),
        (["--out", "state/elsewhere.json"], "rebuild_manifest_path"),
        (["--out", ".."], "--out"),
    ],
)
def test_a_bad_plan_is_refused(options: list[str], field: str, lake: str, cli: Cli) -> None:
    ended = cli("rebuild", "plan", *WHERE, "--store", lake, *options)
    assert ended.code == 2
    assert ended.error["field"] == field


def test_a_plan_of_nothing_is_refused(tmp_path: Path, cli: Cli) -> None:
    ended = cli("rebuild", "plan", *WHERE, "--store", tmp_path.as_uri())
    assert ended.error["code"] == Code.NOT_FOUND.value
    assert "--from-rounds" in ended.error["remedy"]


async def test_planning_lists_no_bucket() -> None:
    memory, _ = await appended(["r"])
    watched = FaultyStore(memory)
    await from_index(ScopedStore(watched, SCOPE))
    await from_rounds(ScopedStore(watched, SCOPE))
    assert watched.count(Kind.LIST) == 0


def test_start_waits_for_the_end_and_prints_the_result(api: Served, cli: Cli) -> None:
    seed(api)
    ended = cli("rebuild", "start", MANIFEST, "--mode", "full")
    assert ended.document["visibility_status"] == "visible"
    assert ended.document["events_processed"] == 2
    assert any("rebuild started: workflow rebuild/" in hint for hint in ended.hints)
    assert any("done, 100 %" in hint for hint in ended.hints)
    assert [request.mode.value for request in api.rebuilds.asked] == ["full"]


def test_start_without_watching_tells_where_it_is(api: Served, cli: Cli) -> None:
    seed(api)
    api.rebuilds.held = True
    view = cli("rebuild", "start", MANIFEST, "--mode", "full", "--no-watch").document
    assert (view["status"], view["phase"]) == ("running", "reading")
    second = cli("rebuild", "start", MANIFEST, "--mode", "full")
    assert second.code == 3
    assert second.error["code"] == Code.REBUILD_UNDER_WAY.value
    assert view["run_id"] in second.error["message"]


def test_watch_shows_how_far_it_is_until_the_end(api: Served, cli: Cli) -> None:
    seed(api)
    api.rebuilds.held = True
    cli("rebuild", "start", MANIFEST, "--mode", "full", "--no-watch")

    def end() -> None:
        api.rebuilds.held = False

    timer = threading.Timer(0.8, end)
    timer.start()
    ended = cli("rebuild", "watch")
    timer.join()
    assert ended.document["events_processed"] == 2
    assert "springline: reading, 12 %: 0 of 2 events" in ended.stderr
    assert "springline: done, 100 %" in ended.stderr


def test_watch_works_without_any_worker(api: Served, cli: Cli) -> None:
    seed(api)
    api.rebuilds.worker = False
    api.rebuilds.held = True
    cli("rebuild", "start", MANIFEST, "--mode", "full", "--no-watch")
    api.rebuilds.held = False
    assert cli("rebuild", "watch").code == 0


def test_an_incomplete_ledger_is_a_conflict_and_explained(api: Served, cli: Cli) -> None:
    seed(api)
    api.rebuilds.failure = Refusal(
        code=Code.LEDGER_INCOMPLETE,
        message=f"1 listed event(s) are missing; nothing was published. First: {EVENTS[0]}",
        field="rebuild_manifest_path",
        value=MANIFEST,
        remedy="Restore it.",
    )
    ended = cli("rebuild", "start", MANIFEST, "--mode", "full")
    assert ended.code == 3
    assert EVENTS[0] in ended.error["message"]
    account = cli("rebuild", "explain").document
    assert account["status"] == "failed"
    assert account["failure"]["code"] == Code.LEDGER_INCOMPLETE.value


def test_a_manifest_that_is_none_is_bad_input(api: Served, cli: Cli) -> None:
    ended = cli("rebuild", "start", MANIFEST)
    assert ended.code == 2
    assert ended.error["code"] == Code.REBUILD_MANIFEST_NOT_FOUND.value
    assert cli("rebuild", "start", "elsewhere.json").error["field"] == "rebuild_manifest_path"


@pytest.mark.parametrize(("equal", "code"), [(True, 0), (False, 3)])
def test_verify_tells_by_its_exit_code(equal: bool, code: int, api: Served, cli: Cli) -> None:
    seed(api)
    api.rebuilds.outcome = {"equal": equal, "differences": 0 if equal else 4}
    ended = cli("rebuild", "verify", MANIFEST)
    assert ended.code == code
    assert json.loads(ended.stdout)["equal"] is equal


def test_verify_without_a_manifest_needs_to_know_the_workspace(api: Served, cli: Cli) -> None:
    ended = cli("rebuild", "verify", "--tenant", "acme")
    assert ended.code == 2
    assert ended.error["field"] == "--workspace"


def test_cancel_and_what_is_told_after_it(api: Served, cli: Cli) -> None:
    seed(api)
    assert cli("rebuild", "cancel").error["code"] == Code.NOT_FOUND.value
    api.rebuilds.held = True
    cli("rebuild", "start", MANIFEST, "--mode", "full", "--no-watch")
    assert cli("rebuild", "cancel").document["status"] == "running"
    ended = cli("rebuild", "watch")
    assert ended.code == 3
    assert ended.error["code"] == Code.REBUILD_CANCELLED.value
    assert cli("rebuild", "explain").document["status"] == "cancelled"


def test_a_field_of_nothing_is_refused(api: Served, cli: Cli) -> None:
    seed(api)
    cli("rebuild", "start", MANIFEST, "--mode", "full")
    ended = cli("rebuild", "explain", "--field", "failure.message")
    assert ended.code == 2
    assert ended.error["field"] == "--field"


def test_nothing_to_explain_is_said(api: Served, cli: Cli) -> None:
    assert cli("rebuild", "explain").error["code"] == Code.NOT_FOUND.value


def test_the_line_of_a_bar_leaves_out_what_is_zero() -> None:
    progress = {"events": 1_200, "events_listed": 5_000, "rate": 812.4, "seconds_left": 4.6, "missing": 2, "damaged": 0}
    assert summary(progress) == "1,200 of 5,000 events, 812/s, about 5 s left, 2 missing"
    assert summary({"events": 306, "events_listed": 6}) == "306 events"
    assert summary({}) == ""
