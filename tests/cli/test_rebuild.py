"""`springline rebuild plan | start | watch | verify | explain | cancel`: from the store, and over the API."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from springline.cli.rebuild_progress import Bar, summary
from springline.errors import Code, Refusal
from springline.ledger.request import RefusalReason
from springline.paths import canonical_ulid_event, rebuild_report, relative_path
from springline.rebuild.manifest import parse_manifest
from springline.rebuild.messages import BadEvent, RebuildView, RunStatus, Step
from springline.rebuild.sources import from_index, from_rounds
from springline.storage.faults import FaultyStore, OperationKind
from springline.storage.local import LocalStore
from springline.storage.scoped import ScopedStore
from tests.cli.conftest import Cli, Served
from tests.support.ledger_workspaces import appended
from tests.support.local_api import ACME
from tests.support.sequencer_world import SCOPE, ask, triggered

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
    assert said["as_of_round"] > 0
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
    folder = tmp_path / "tenant=acme" / "workspace=prod" / "delta"
    folder.mkdir(parents=True)
    (folder / "note.json").write_text("{}")
    ended = cli("rebuild", "plan", *WHERE, "--store", tmp_path.as_uri())
    assert ended.error["code"] == Code.NOT_FOUND.value
    assert "--from-rounds" in ended.error["remedy"]


@pytest.mark.parametrize(
    ("options", "listed"), [([], 0), (["--objects"], 0), (["--from-rounds"], 0), (["--from-listing"], 1)]
)
def test_only_the_option_that_says_so_lists_the_store(
    options: list[str], listed: int, lake: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    list_ = LocalStore.list

    def counted(store: LocalStore, *arguments: Any, **named: Any) -> Any:
        calls.append(str(arguments))
        return list_(store, *arguments, **named)

    monkeypatch.setattr(LocalStore, "list", counted)
    assert cli("rebuild", "plan", *WHERE, "--store", lake, *options).document["events"] == 266
    assert bool(calls) == bool(listed), calls


async def test_planning_lists_no_bucket() -> None:
    memory, _ = await appended(["r"])
    watched = FaultyStore(memory)
    await from_index(ScopedStore(watched, SCOPE))
    await from_rounds(ScopedStore(watched, SCOPE))
    assert watched.count(OperationKind.LIST) == 0


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
    api.rebuilds.looks = 3
    ended = cli("rebuild", "watch")
    assert ended.document["events_processed"] == 2
    assert "springline: reading, 12 %: 0 of 2 events" in ended.stderr
    assert "springline: done, 100 %" in ended.stderr


def test_watch_and_explain_work_without_any_worker(api: Served, cli: Cli) -> None:
    seed(api)
    api.rebuilds.worker = False
    api.rebuilds.held = True
    cli("rebuild", "start", MANIFEST, "--mode", "full", "--no-watch")
    account = cli("rebuild", "explain").document
    assert (account["phase"], account["percent"]) == ("reading", 12.0)
    assert "springline doctor" in account["next_step"]
    api.rebuilds.looks = 3
    ended = cli("rebuild", "watch")
    assert ended.code == 0
    assert ended.hints[0] == "reading, 12 %: no worker answers at the moment, read_slice is repeated: a worker died"
    assert ended.hints[-1] == "done, 100 %"
    assert "springline rebuild verify" in cli("rebuild", "explain").document["next_step"]


def test_a_step_that_fails_again_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    view = RebuildView(workflow_id="w", run_id="r", status=RunStatus.RUNNING, phase="reading", percent=3.0, progress={})
    failing = Step(name="read_slice", attempt=3, started=False, last_failure="the store is away")
    with Bar() as bar:
        bar.show(view)
        for _ in range(3):
            bar.show(view.model_copy(update={"steps": [failing]}))
        bar.show(view)
    assert capsys.readouterr().err.splitlines() == [
        "springline: reading, 3 %",
        "springline: reading, 3 %: read_slice is repeated: the store is away",
    ]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    progress = {"phase": "folding", "percent": 61.0, "events": 600, "events_listed": 600, "rate": 1200.0, "damaged": 1}
    with Bar() as bar:
        bar.show(RebuildView(workflow_id="w", run_id="r", status=RunStatus.RUNNING, progress=progress))
    shown = terminal.getvalue()
    assert "folding" in shown
    assert "61%" in shown
    assert "600 of 600 events, 1,200/s, 1 damaged" in shown
    assert "springline:" not in shown


def test_to_interrupt_the_watching_does_not_end_the_rebuild(
    api: Served, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(api)
    api.rebuilds.held = True

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("springline.cli.rebuild.time.sleep", interrupted)
    ended = cli("rebuild", "start", MANIFEST, "--mode", "full")
    assert (ended.code, ended.stdout) == (130, "")
    assert "the rebuild goes on" in ended.hints[-1]
    assert cli("rebuild", "explain").document["status"] == "running"


def test_an_incomplete_ledger_is_a_conflict_and_explained(api: Served, cli: Cli) -> None:
    seed(api)
    api.rebuilds.failure = Refusal(
        code=Code.LEDGER_INCOMPLETE,
        message=f"1 listed event(s) are missing; nothing was published. First: {EVENTS[0]}",
        field="rebuild_manifest_path",
        value=MANIFEST,
        remedy="Restore it.",
    )
    bad = BadEvent(path=EVENTS[0], reason=RefusalReason.MISSING, message="there is no object")
    api.rebuilds.found = {"missing_or_damaged": [bad], "accepted_and_not_listed": ["01KHZKCWZ80000000000000009"]}
    ended = cli("rebuild", "start", MANIFEST, "--mode", "full")
    assert ended.code == 3
    assert EVENTS[0] in ended.error["message"]
    account = cli("rebuild", "explain").document
    assert account["status"] == "failed"
    assert account["failure"]["code"] == Code.LEDGER_INCOMPLETE.value
    assert account["missing_or_damaged"] == [bad.model_dump(mode="json")]
    assert account["accepted_and_not_listed"] == ["01KHZKCWZ80000000000000009"]


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
    printed = json.loads(ended.stdout)
    assert printed["equal"] is equal
    assert printed["comparison"] == {"problem": None, "counts": {}, "differences": []}
    assert any("report" in hint for hint in ended.hints) is not equal


REPORT = rebuild_report("0" * 26, "one")
DIFFERENCES = [
    {"table": "runs", "key": ["r-1"], "column": "state", "published": "RUNNING", "rebuilt": "SUCCEEDED"},
    {"table": "runs", "key": ["r-1"], "column": "labels", "published": None, "rebuilt": "x" * 200},
    {"table": "tasks", "key": ["r-1", "a"], "column": None, "published": None, "rebuilt": {"task_key": "a"}},
    {"table": "tasks", "key": ["r-2", "a"], "column": None, "published": {"task_key": "a"}, "rebuilt": None},
]


def differing(api: Served, comparison: dict[str, Any] | None, count: int = 2) -> None:
    seed(api)
    api.rebuilds.outcome = {"equal": False, "differences": count, "report_path": REPORT}
    if comparison is not None:
        api.store.seed(ACME.full(REPORT), json.dumps({"comparison": comparison}).encode())


def test_verify_prints_the_differences_by_table_key_and_column(api: Served, cli: Cli) -> None:
    counts = {"runs": 2, "tasks": 1_200}
    differing(api, {"problem": None, "counts": counts, "differences": DIFFERENCES}, count=1_202)
    ended = cli("rebuild", "verify", MANIFEST)
    assert ended.code == 3
    printed = json.loads(ended.stdout)
    assert printed["differences"] == 1_202
    assert printed["comparison"] == {"problem": None, "counts": counts, "differences": DIFFERENCES}
    assert ended.hints[-6:] == [
        "differences: runs 2, tasks 1,200",
        'runs r-1 state: published "RUNNING", rebuilt "SUCCEEDED"',
        f'runs r-1 labels: published null, rebuilt "{"x" * 99}...',
        "tasks r-1/a: rebuilt, and not published",
        "tasks r-2/a: published, and not rebuilt",
        "and 1,198 more; the first 100 are printed, and in the report",
    ]
    # Whoever looks later, by another command, is told the same.
    assert json.loads(cli("rebuild", "watch").stdout) == printed
    account = cli("rebuild", "explain").document
    assert (account["differences_by_table"], account["differences"]) == (counts, DIFFERENCES)


def test_verify_says_why_the_published_state_cannot_be_read(api: Served, cli: Cli) -> None:
    differing(api, {"problem": "x.parquet is gone", "counts": {}, "differences": []}, count=0)
    ended = cli("rebuild", "verify", MANIFEST, "--field", "comparison.problem")
    assert (ended.code, ended.stdout) == (3, "x.parquet is gone\n")
    assert ended.hints[-1] == "the published state cannot be read: x.parquet is gone"


def test_verify_tells_what_is_known_when_its_report_is_gone(api: Served, cli: Cli) -> None:
    differing(api, None)
    ended = cli("rebuild", "verify", MANIFEST)
    assert ended.code == 3
    assert json.loads(ended.stdout)["comparison"]["differences"] == []
    assert any("there is no report" in hint for hint in ended.hints)


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
    assert summary(progress, ended=True) == "1,200 of 5,000 events, 812/s, 2 missing"
    assert summary({"events": 0, "events_listed": 0, "rate": 0.0}) == ""
    assert summary({}) == ""
