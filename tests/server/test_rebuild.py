"""Rebuilds against a real server: every disaster healed or named, whoever is killed, whoever appends meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable

import pytest

from bench.ledgers import realistic_ledger
from springline import names, paths
from springline.errors import Code, Refused
from springline.rebuild.messages import RebuildMode
from tests.server.appends import Appends
from tests.server.cluster import Cluster, until
from tests.server.rebuilds import Rebuilds

RUNS = 8
EVENTS = 3 * RUNS


@pytest.fixture
async def rebuilds(cluster: Cluster, appends: Appends) -> AsyncIterator[Rebuilds]:
    two_workers(cluster)
    await cluster.ready(*cluster.workers)
    yield Rebuilds(appends)


def two_workers(cluster: Cluster) -> None:
    while len(cluster.workers) < 2:
        cluster.start_killable()


def _no_pointer(at: Rebuilds) -> None:
    at.pointer.unlink()


def _garbage_for_a_pointer(at: Rebuilds) -> None:
    at.pointer.write_bytes(b"\x00 no pointer")


def _no_manifests(at: Rebuilds) -> None:
    for file in at.files("/state/orchestration/manifests/"):
        file.unlink()


def _no_projections(at: Rebuilds) -> None:
    for file in at.files(".parquet"):
        file.unlink()


def _truncated_projections(at: Rebuilds) -> None:
    for file in at.files(".parquet"):
        os.truncate(file, file.stat().st_size // 2)


def _one_byte_of_each(at: Rebuilds) -> None:
    for file in at.files(".parquet"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))


def _no_index(at: Rebuilds) -> None:
    for file in at.files("/index/"):
        file.unlink()


def _orphans_in_the_way(at: Rebuilds) -> None:
    last = int(at.files("/state/orchestration/manifests/")[-1].stem)
    for number in range(last + 1, last + 40):
        file = at.folder / paths.orchestration_manifest(paths.orchestration_manifest_id(number))
        file.write_bytes(b"an orphan")
    at.pointer.unlink()


def _all_state_but_rounds(at: Rebuilds) -> None:
    for file in at.files("/state/"):
        if "/rounds/" not in file.as_posix() and "/rebuilds/" not in file.as_posix():
            file.unlink()


DISASTERS: dict[str, Callable[[Rebuilds], None]] = {
    "pointer gone": _no_pointer,
    "pointer garbage": _garbage_for_a_pointer,
    "manifests gone": _no_manifests,
    "projections gone": _no_projections,
    "projections truncated": _truncated_projections,
    "projections altered": _one_byte_of_each,
    "index gone": _no_index,
    "orphans in the way": _orphans_in_the_way,
    "state gone": _all_state_but_rounds,
}


@pytest.mark.parametrize("disaster", DISASTERS)
async def test_a_disaster_is_healed(disaster: str, rebuilds: Rebuilds) -> None:
    await rebuilds.fill(RUNS)
    before, manifest = await rebuilds.digest(), await rebuilds.listed()
    # Delayed and out of order: a list has no order, and repeats itself.
    manifest["event_paths"] = [*reversed(manifest["event_paths"]), *manifest["event_paths"][:5]]
    DISASTERS[disaster](rebuilds)
    result = await rebuilds.rebuild(manifest)
    assert (result["digest_after"], result["events_processed"], result["duplicates"]) == (before, EVENTS, 5)
    assert await rebuilds.digest() == before
    await rebuilds.appends.append(rebuilds.appends.caller(), rebuilds.appends.request())


async def test_events_that_are_gone_altered_or_not_listed_are_named(rebuilds: Rebuilds) -> None:
    await rebuilds.fill(RUNS)
    manifest, pointer = await rebuilds.listed(), rebuilds.pointer.read_bytes()
    gone, altered, unlisted = manifest["event_paths"][3], manifest["event_paths"][7], manifest["event_paths"][11]
    body = (rebuilds.folder / altered).read_bytes()
    (rebuilds.folder / gone).unlink()
    (rebuilds.folder / altered).write_bytes(body.replace(b"arco-flow", b"arco_flow"))
    manifest["event_paths"].remove(unlisted)
    run_id = await rebuilds.begin(manifest)
    with pytest.raises(Refused) as caught:
        await rebuilds.result(run_id)
    refusal = caught.value.refusal
    assert refusal.code is Code.LEDGER_INCOMPLETE
    view = await rebuilds.port.view(rebuilds.scope, run_id)
    assert view is not None
    assert view.progress is not None
    assert {one["path"]: one["reason"] for one in view.progress["bad"]} == {gone: "missing", altered: "other_body"}
    assert view.progress["gaps"] == 1
    # The same from what the server keeps, which needs no worker, and names those that are not listed.
    assert {one.path for one in view.missing_or_damaged} == {gone, altered}
    assert [paths.canonical_ulid_event(one) for one in view.accepted_and_not_listed] == [unlisted]
    assert rebuilds.pointer.read_bytes() == pointer


@pytest.mark.parametrize("events", [3_500, pytest.param(100_000, marks=[pytest.mark.full, pytest.mark.timeout(600)])])
async def test_a_compactor_that_fell_behind_is_caught_up_with(events: int, rebuilds: Rebuilds) -> None:
    scope = rebuilds.scope
    bodies = realistic_ledger(3, 500 + events, tenant=scope.tenant, workspace=scope.workspace)
    event_paths = rebuilds.write_events(bodies)
    first = await rebuilds.rebuild({"event_paths": event_paths[:500]})
    assert first["events_processed"] == 500
    behind = await rebuilds.rebuild({"event_paths": event_paths}, RebuildMode.VERIFY)
    assert (behind["equal"], behind["visibility_status"]) == (False, "not_published")
    assert behind["differences"] > 0
    caught_up = await rebuilds.rebuild({"event_paths": event_paths}, RebuildMode.CATCH_UP)
    assert (caught_up["events_processed"], caught_up["events_skipped"]) == (events, 500)
    by_catching_up = await rebuilds.digest()
    whole = await rebuilds.rebuild({"event_paths": event_paths})
    assert whole["digest_after"] == by_catching_up
    assert (await rebuilds.rebuild({"event_paths": event_paths}, RebuildMode.VERIFY))["equal"] is True
    by_id = {
        path.rsplit("/", 1)[-1].removesuffix(".json"): body for path, body in zip(event_paths, bodies, strict=True)
    }
    assert by_catching_up == rebuilds.appends.folded(by_id).partition(":")[0]


KILLS = [
    pytest.param(names.PLAN_REBUILD, "after", marks=pytest.mark.full),
    (names.READ_SLICE, "before"),
    pytest.param(names.PLAN_SHARDS, "after", marks=pytest.mark.full),
    pytest.param(names.FOLD_SHARD, "before", marks=pytest.mark.full),
    pytest.param(names.ASSEMBLE, "after", marks=pytest.mark.full),
    pytest.param(names.SWITCH_STATE, "before", marks=pytest.mark.full),
    (names.SWITCH_STATE, "after"),
    pytest.param(names.WRITE_REPORT, "after", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("activity", "phase"), KILLS)
async def test_a_worker_killed_in_a_step_does_no_harm(activity: str, phase: str, rebuilds: Rebuilds) -> None:
    cluster = rebuilds.appends.cluster
    await rebuilds.fill(RUNS)
    before = await rebuilds.digest()
    cluster.order(activity, phase)
    run_id = await rebuilds.begin(await rebuilds.listed())
    await cluster.a_death()
    two_workers(cluster)
    result = await rebuilds.result(run_id)
    assert (result["digest_after"], result["events_processed"]) == (before, EVENTS)
    assert await rebuilds.digest() == before


async def test_a_second_rebuild_is_refused_and_a_cancelled_one_is_gone_on_from(rebuilds: Rebuilds) -> None:
    scope, cluster = rebuilds.scope, rebuilds.appends.cluster
    bodies = realistic_ledger(5, 12_000, tenant=scope.tenant, workspace=scope.workspace)
    manifest = {"event_paths": rebuilds.write_events(bodies)}
    run_id = await rebuilds.begin(manifest)

    async def some_parts_are_read() -> bool:
        view = await rebuilds.port.view(scope)
        return view is not None and view.progress is not None and view.progress["parts_done"] >= 1

    await until(some_parts_are_read, "a part is read")
    with pytest.raises(Refused) as caught:
        await rebuilds.begin(manifest)
    assert caught.value.refusal.code is Code.REBUILD_UNDER_WAY
    assert run_id in caught.value.refusal.message
    cancelled = rebuilds.temporal("workflow", "cancel", "--workflow-id", rebuilds.workflow_id)
    assert cancelled.returncode == 0, cancelled.stderr
    with pytest.raises(Refused) as caught:
        await rebuilds.result(run_id)
    assert caught.value.refusal.code is Code.REBUILD_CANCELLED
    assert not rebuilds.pointer.exists()
    again = await rebuilds.rebuild(manifest)
    assert again["reused_parts"] >= 1
    assert again["events_processed"] == 12_000
    assert cluster.workers


async def test_callers_append_and_tables_commit_while_a_rebuild_goes_on(rebuilds: Rebuilds) -> None:
    cluster, appends = rebuilds.appends.cluster, rebuilds.appends
    await rebuilds.fill(RUNS)
    manifest = await rebuilds.listed()
    caller = appends.caller()
    table = await cluster.open()
    writer = table.caller()
    ended = asyncio.Event()

    async def keep_appending() -> int:
        count = 0
        while not ended.is_set():
            await appends.append(caller, appends.request())
            count += 1
        return count

    async def keep_committing() -> int:
        count = 0
        while not ended.is_set():
            await table.commit(writer, await table.request())
            count += 1
        return count

    work = [asyncio.create_task(keep_appending()) for _ in range(64)]
    commits = asyncio.create_task(keep_committing())
    try:
        for _ in range(3):
            result = await rebuilds.rebuild(manifest)
            assert result["visibility_status"] == "visible"
            assert result["later_events"] > 0
    finally:
        ended.set()
        counts = await asyncio.gather(*work)
    assert sum(counts) >= 64
    assert await commits > 0
    await appends.check()
    await table.check()
    await table.aclose()


async def test_a_million_of_the_same_path_is_one_event(rebuilds: Rebuilds) -> None:
    await rebuilds.fill(1)
    (path, *_) = event_paths = (await rebuilds.listed())["event_paths"]
    result = await rebuilds.rebuild({"event_paths": [*event_paths, *[path] * 999_997]})
    assert (result["events_processed"], result["duplicates"]) == (3, 999_997)


BAD_BY_HAND: dict[str, tuple[object, dict[str, object], str]] = {
    "elsewhere": (None, {"rebuild_manifest_path": "state/x.json"}, "cannot be the path of a rebuild manifest"),
    "missing": (
        None,
        {"rebuild_manifest_path": paths.orchestration_rebuild("no")},
        "there is no rebuild manifest",
    ),
    "not JSON": (b"{", {}, "is not JSON"),
    "empty": ({"event_paths": []}, {}, "names nothing"),
    "other tenant": ({"event_paths": ["tenant=x/workspace=y/ledger/e.json"]}, {}, "is refused"),
    "unknown mode": ({"event_paths": ["x"]}, {"mode": "sideways"}, "is none that a rebuild knows"),
    "no input": (None, {}, "rebuild_manifest_path"),
}


@pytest.mark.parametrize("case", BAD_BY_HAND)
async def test_bad_input_of_the_temporal_cli_fails_the_run_with_its_message(case: str, rebuilds: Rebuilds) -> None:
    document, fields, says = BAD_BY_HAND[case]
    if document is not None:
        fields = {"rebuild_manifest_path": await rebuilds.manifest(document), "mode": "full", **fields}
    printed, ended = await asyncio.to_thread(rebuilds.start_by_hand, **fields)
    assert ended.returncode != 0
    assert says in printed
    assert "FAILED" in printed.upper()


async def test_an_unreadable_object_is_named_to_the_temporal_cli(rebuilds: Rebuilds) -> None:
    await rebuilds.fill(1)
    manifest = await rebuilds.listed()
    file = rebuilds.folder / manifest["event_paths"][0]
    file.unlink()
    file.mkdir()
    path = await rebuilds.manifest(manifest)
    printed, ended = await asyncio.to_thread(rebuilds.start_by_hand, rebuild_manifest_path=path, mode="full")
    assert ended.returncode != 0
    assert manifest["event_paths"][0] in printed
    shutil.rmtree(file)
