"""RebuildWorkflow with its ledger: what comes of it, each step survived, bad input refused, callers undisturbed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError, CancelledError, WorkflowAlreadyStartedError

from springline import names
from springline.errors import Code
from springline.paths import (
    canonical_ulid_event,
    event_id_from_ledger_path,
    orchestration_manifest,
    orchestration_pointer,
)
from springline.ulids import nth_ulid
from tests.support.ledger_events import run_request
from tests.workflows.faults import raises, result_is_lost
from tests.workflows.rebuild_bench import RebuildBench
from tests.workflows.runs import until

STEPS = [
    names.PLAN_REBUILD,
    names.READ_SLICE,
    names.PLAN_SHARDS,
    names.FOLD_SHARD,
    names.ASSEMBLE,
    names.SWITCH_IN,
    names.SWITCH_STATE,
    names.WRITE_REPORT,
]
FAILURES = {"raises": raises, "result-lost": result_is_lost}


@pytest.fixture(autouse=True)
def small_parts(patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut small ledgers into several slices and shards, and notice a lost step soon."""
    monkeypatch.setattr("springline.rebuild.plan.LEAST_SLICE", 7)
    monkeypatch.setattr("springline.rebuild.plan.MOST_SLICE", 7)
    monkeypatch.setattr("springline.rebuild.plan.SMALL", 4)
    monkeypatch.setattr("springline.rebuild.plan.EVENTS_PER_SHARD", 8)
    monkeypatch.setattr("workflows.rebuild_steps.REBUILD_HEARTBEAT", timedelta(seconds=1))
    # The test server forgets an update that meets the end of its run: the ledger outlasts a step's first retry.
    for name in ("LEAST_PATIENCE", "MOST_PATIENCE"):
        monkeypatch.setattr(f"workflows.ledger.{name}", timedelta(seconds=5))


async def test_full_gives_the_same_state_and_says_so(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(8)
    before = await rebuilds.digest()
    result = await rebuilds.rebuild(await rebuilds.listed())
    assert (result.events_processed, result.gap_count, result.missing, result.damaged) == (24, 0, 0, 0)
    assert (result.digest_before, result.digest_after) == (before, before)
    assert result.visibility_status == "visible"
    assert await rebuilds.digest() == before
    assert result.manifest_id == (await rebuilds.head()).manifest_id
    progress = await rebuilds.progress()
    assert (progress.phase, progress.percent) == ("done", 100.0)
    phases = ["planning", "reading", "splitting", "folding", "assembling", "switching"]
    assert list(result.timings) == phases
    assert list(progress.timings) == [*phases, "reporting"]
    assert sum(result.timings.values()) == pytest.approx(result.seconds, abs=0.1)
    assert (await rebuilds.report(result))["result"]["timings"] == result.timings
    answer = await rebuilds.append_one(run_request("after"))
    assert len(answer.events) == 2


async def test_verify_publishes_nothing_and_names_differences(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(3)
    pointer = rebuilds.pointer()
    manifest = await rebuilds.listed()
    assert (await rebuilds.rebuild(manifest, "verify")).equal is True
    path = await rebuilds.put_foreign("01JHF2Z8G00000000000000001", "foreign")
    result = await rebuilds.rebuild({**manifest, "event_paths": [*manifest["event_paths"], path]}, "verify")
    assert (result.equal, result.visibility_status, result.manifest_id) == (False, "not_published", None)
    assert result.differences > 0
    comparison = (await rebuilds.report(result))["comparison"]
    digests = (comparison["published_digest"], comparison["rebuilt_digest"])
    assert (result.digest_before, result.digest_after) == digests
    assert digests[0] != digests[1]
    assert rebuilds.pointer() == pointer


async def test_catch_up_takes_in_what_the_ledger_does_not_know(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(2)
    manifest = await rebuilds.listed()
    # Counted from there, not from a clock: the test server's may be years ahead of ours.
    last = event_id_from_ledger_path(manifest["event_paths"][-1])
    assert last is not None
    ids = [nth_ulid(last, (1 << 40) + number) for number in range(20)]
    paths = [await rebuilds.put_foreign(event_id, f"foreign-{event_id}") for event_id in ids]
    assert min(paths) > manifest["event_paths"][-1]
    result = await rebuilds.rebuild({"event_paths": [*manifest["event_paths"], *paths]}, "catch-up")
    assert (result.events_processed, result.events_skipped) == (20, 6)
    assert (await rebuilds.head()).events == 26
    await rebuilds.digest()


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("step", STEPS)
async def test_window(step: str, failure: str, rebuilds: RebuildBench) -> None:
    rebuilds.faults.cold = failure == "raises"
    await rebuilds.fill(4)
    before = await rebuilds.digest()
    rebuilds.faults.after(step, FAILURES[failure])
    result = await rebuilds.rebuild(await rebuilds.listed())
    assert (result.digest_after, result.events_processed) == (before, 12)
    assert await rebuilds.digest() == before
    if step != names.SWITCH_STATE:
        assert (await rebuilds.progress()).repeated_steps == 1


async def test_a_state_that_cannot_be_opened_is_replaced_and_callers_go_on(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(4)
    before, manifest = await rebuilds.digest(), await rebuilds.listed()
    await rebuilds.finished()
    rebuilds.objects.seed(rebuilds.scope.full(orchestration_pointer()), b"nonsense")
    (stuck,) = await rebuilds.append(run_request("meanwhile"))
    assert stuck.refusal is not None
    result = await rebuilds.rebuild(manifest)
    assert result.digest_after == before
    await rebuilds.append_one(run_request("meanwhile"))
    await rebuilds.digest()


async def test_callers_append_while_a_rebuild_goes_on(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(4)
    manifest = await rebuilds.listed()
    release = asyncio.Event()
    rebuilds.faults.hold(names.ASSEMBLE, release)
    handle = await rebuilds.begin(await rebuilds.manifest(manifest))
    await until(lambda: _runs(rebuilds, names.ASSEMBLE), "the rebuild assembles")
    await rebuilds.append_one(run_request("meanwhile"))
    release.set()
    await rebuilds.append_one(run_request("at-once"))
    result = await handle.result()
    assert result.later_events >= 2
    assert (await rebuilds.head()).events == 16
    await rebuilds.digest()


async def _runs(rebuilds: RebuildBench, step: str) -> bool:
    description = await rebuilds.rebuild_handle().describe()
    return any(one.activity_type.name == step for one in description.raw_description.pending_activities)


async def test_missing_and_damaged_events_are_named_and_nothing_is_published(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(4)
    manifest, pointer = await rebuilds.listed(), rebuilds.pointer()
    gone, altered = manifest["event_paths"][1], manifest["event_paths"][8]
    rebuilds.objects.remove(rebuilds.scope.full(gone))
    rebuilds.objects.seed(rebuilds.scope.full(altered), b"{}")
    error = await rebuilds.refused(manifest)
    assert error.type == Code.LEDGER_INCOMPLETE.value
    assert gone in error.message
    assert rebuilds.pointer() == pointer
    progress = await rebuilds.progress()
    assert {one.path: one.reason.value for one in progress.bad} == {gone: "missing", altered: "unreadable"}
    assert (progress.phase, progress.stopped_in) == ("failed", "splitting")
    assert progress.percent == 52.0
    assert await rebuilds.failure_class() == Code.LEDGER_INCOMPLETE.value
    details = await rebuilds.rebuild_details()
    assert "**Now: failed** while splitting" in details
    assert gone in details
    assert altered in details
    result = await rebuilds.rebuild(manifest, allow_missing=True)
    assert (result.missing, result.damaged, result.events_processed) == (1, 1, 10)
    assert (await rebuilds.head()).events == 10
    await rebuilds.digest()


async def test_a_second_rebuild_of_the_workspace_is_refused(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(2)
    path = await rebuilds.manifest(await rebuilds.listed())
    release = asyncio.Event()
    rebuilds.faults.hold(names.PLAN_SHARDS, release)
    handle = await rebuilds.begin(path)
    await until(lambda: _runs(rebuilds, names.PLAN_SHARDS), "the rebuild is under way")
    with pytest.raises(WorkflowAlreadyStartedError) as caught:
        await rebuilds.begin(path)
    assert caught.value.run_id == handle.first_execution_run_id
    release.set()
    await handle.result()


async def test_cancelled_in_the_middle_nothing_is_published_and_the_next_goes_on(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(8)
    before, pointer = await rebuilds.digest(), rebuilds.pointer()
    path = await rebuilds.manifest(await rebuilds.listed())
    release = asyncio.Event()
    rebuilds.faults.hold(names.ASSEMBLE, release)
    handle = await rebuilds.begin(path)
    await until(lambda: _runs(rebuilds, names.ASSEMBLE), "the rebuild assembles")
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    release.set()
    progress = await rebuilds.progress()
    assert (progress.phase, progress.stopped_in, progress.percent) == ("cancelled", "assembling", 85.0)
    assert await rebuilds.failure_class() == Code.REBUILD_CANCELLED.value
    assert rebuilds.pointer() == pointer
    again = await (await rebuilds.begin(path)).result()
    assert again.digest_after == before
    assert again.reused_parts == 4 + 3


async def test_nothing_is_listed_by_any_mode(rebuilds: RebuildBench) -> None:
    from springline.storage.faults import OperationKind

    await rebuilds.fill(4)
    for mode in ("verify", "full", "catch-up"):
        await rebuilds.rebuild(await rebuilds.listed(), mode)
    assert rebuilds.faulty.count(OperationKind.LIST) == 0


EVENT = canonical_ulid_event("01JHF2Z8G00000000000000001")

BAD: dict[str, tuple[object, str, str]] = {
    "no JSON": (b"[not json", "rebuild_manifest_path", "is not JSON"),
    "a list": ([EVENT], "rebuild_manifest_path", "holds a list"),
    "another field": ({"events": [EVENT]}, "rebuild_manifest_path", "unknown field 'events'"),
    "empty": ({"event_paths": []}, "rebuild_manifest_path", "names nothing"),
    "no text": ({"event_paths": [7]}, "event_paths[0]", "is refused: 7"),
    "a string": ({"event_paths": EVENT}, "event_paths", "has text as event_paths"),
    "another tenant's": ({"event_paths": [f"tenant=x/workspace=y/{EVENT}"]}, "event_paths[0]", "is refused"),
    "not canonical": ({"event_paths": [EVENT.lower()]}, "event_paths[0]", "is refused"),
    "climbing": ({"event_paths": [f"ledger/../{EVENT}"]}, "event_paths[0]", "is refused"),
    "no segment": ({"segment_paths": [EVENT]}, "segment_paths[0]", "is refused"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_manifest_fails_the_run_with_its_message(case: str, rebuilds: RebuildBench) -> None:
    document, field, says = BAD[case]
    error = await rebuilds.refused(document)
    assert error.type == Code.INVALID_REQUEST.value
    assert says in error.message
    assert error.details[0]["field"] == field
    assert error.details[0]["remedy"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("state/orchestration/rebuilds/none.json", Code.REBUILD_MANIFEST_NOT_FOUND),
        ("state/elsewhere/r.json", Code.INVALID_REQUEST),
        ("../state/orchestration/rebuilds/r.json", Code.INVALID_REQUEST),
        ("", Code.INVALID_REQUEST),
    ],
    ids=["missing", "elsewhere", "climbing", "empty"],
)
async def test_a_bad_path_fails_the_run(path: str, code: Code, rebuilds: RebuildBench) -> None:
    handle = await rebuilds.begin(path)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert caught.value.cause.type == code.value


async def test_an_unknown_mode_fails_the_run(rebuilds: RebuildBench) -> None:
    error = await rebuilds.refused({"event_paths": [EVENT]}, "backwards")
    assert error.type == Code.INVALID_REQUEST.value
    assert error.details[0]["field"] == "mode"


async def test_a_start_that_is_none_fails_the_run(rebuilds: RebuildBench) -> None:
    handle = await rebuilds.client.start_workflow(
        names.REBUILD_WORKFLOW, {"tenant": "acme"}, id=rebuilds.rebuild_id, task_queue=names.REBUILD_QUEUE
    )
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert "rebuild_manifest_path" in str(caught.value.cause)


async def test_the_same_path_a_hundred_thousand_times_is_one_event(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(1)
    manifest = await rebuilds.listed()
    result = await rebuilds.rebuild({"event_paths": manifest["event_paths"] * 40_000})
    assert (result.events_processed, result.duplicates) == (3, 119_997)


async def test_projections_that_are_gone_come_back(rebuilds: RebuildBench) -> None:
    await rebuilds.fill(4)
    before, manifest, head = await rebuilds.digest(), await rebuilds.listed(segments=True), await rebuilds.head()
    for path in [one for one in rebuilds.objects.objects if one.endswith(".parquet")]:
        rebuilds.objects.remove(path)
    rebuilds.objects.remove(rebuilds.scope.full(orchestration_manifest(head.manifest_id)))
    result = await rebuilds.rebuild(manifest)
    assert (result.digest_after, result.digest_before) == (before, None)
    assert await rebuilds.digest() == before
