"""Reservations that do not become commits, and what their requests are told.

See docs/protocol.md#rule-2, docs/protocol.md#rule-3, docs/protocol.md#rule-4, docs/protocol.md#rule-6.
"""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError

from springline import names, paths
from springline.commit.finish import settle
from springline.commit.markers import markers_of
from springline.delta.coordinator import Inflight
from springline.delta.request import Mode
from springline.errors import Code
from springline.storage.port import IfAbsent, Stored
from tests.support.rows import adding
from tests.workflows.bench import Bench, versions

FOREIGN = b'{"commitInfo":{"operation":"WRITE"}}\n' + adding("foreign")


async def inflight(bench: Bench) -> Inflight:
    reservation = (await bench.coordinator()).state.inflight
    assert reservation is not None
    return reservation


async def test_void_a_member_that_already_has_a_marker_is_answered_from_it(bench: Bench) -> None:
    requests = [await bench.stage(f"file-{number}") for number in range(3)]
    bench.faults.cold = True

    async def somebody_committed_the_second() -> None:
        """Leave the marker of another version, as a helper does that was faster with an earlier reservation."""
        reservation = await inflight(bench)
        member = reservation.members[1]
        elsewhere = bench.table.log_path(0)
        marker = next(
            one
            for one in markers_of(reservation, elsewhere, member.staged_payload_sha256)
            if one.idempotency_key == member.key
        )
        path = paths.delta_marker(bench.table_id, member.key)
        assert isinstance(await bench.store.put(path, replace(marker, version=0).encode(path), IfAbsent()), Stored)

    bench.faults.before(names.WRITE_LOG, somebody_committed_the_second)
    outcomes = await bench.commit(*requests)
    assert versions(outcomes) == [1, 0, 1]
    assert [outcome.replayed for outcome in outcomes] == [False, True, False]
    assert bench.added(1) == ["file-0", "file-2"]
    assert [one.kind for one in (await bench.status()).recovered] == ["void"]


async def test_abandoned_a_round_whose_payload_is_gone_is_filled_and_committed_anew(bench: Bench) -> None:
    requests = [await bench.stage(f"file-{number}") for number in range(3)]
    bench.faults.cold = True

    async def lose_the_payload() -> None:
        await bench.delete((await inflight(bench)).staged_path)

    bench.faults.before(names.WRITE_LOG, lose_the_payload)
    assert versions(await bench.commit(*requests)) == [2] * 3
    assert [list(action) for action in bench.log(1)] == [["commitInfo"]]
    assert bench.added(2) == ["file-0", "file-1", "file-2"]
    assert [one.kind for one in (await bench.status()).recovered] == ["abandoned"]


async def test_abandoned_a_strict_request_without_payload_is_refused_and_the_table_goes_on(bench: Bench) -> None:
    request = await bench.stage_strict("lost", 0)
    bench.faults.cold = True

    async def lose_the_payload() -> None:
        await bench.delete(request.staged_path)

    bench.faults.before(names.WRITE_LOG, lose_the_payload)
    (outcome,) = await bench.commit(request)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.STAGED_MISSING
    again = await bench.stage("lost", mode=Mode.STRICT, read_version=1, key=request.idempotency_key)
    assert (await bench.commit_one(again)).version == 2
    assert bench.added(2) == ["lost"]


async def test_released_a_strict_request_loses_its_version_to_a_foreign_writer(bench: Bench) -> None:
    request = await bench.stage_strict("ours", 0)
    bench.faults.before(names.WRITE_LOG, lambda: bench.put_log(1, FOREIGN))
    (outcome,) = await bench.commit(request)
    refusal = outcome.refusal
    assert refusal is not None
    assert refusal.code is Code.STALE_READ_VERSION
    assert refusal.latest_version == 1
    assert refusal.commits_since is not None
    assert [(one.version, one.operation) for one in refusal.commits_since] == [(1, "WRITE")]
    assert [one.kind for one in (await bench.status()).recovered] == ["released"]
    assert (await bench.coordinator()).state.latest_version == 1


async def test_moved_appends_go_behind_the_foreign_writer_as_one_version(bench: Bench) -> None:
    requests = [await bench.stage(f"file-{number}") for number in range(3)]

    async def two_foreign_versions() -> None:
        await bench.put_log(1, FOREIGN)
        await bench.put_log(2, adding("foreign-too"))

    bench.faults.before(names.WRITE_LOG, two_foreign_versions)
    outcomes = await bench.commit(*requests)
    assert versions(outcomes) == [3] * 3
    assert bench.added(3) == ["file-0", "file-1", "file-2"]
    replays = await bench.commit(*requests)
    assert [one.result for one in replays] == [one.result for one in outcomes]
    assert await bench.inflight_is_null()


async def test_released_appends_behind_a_foreign_change_of_the_schema_are_refused(bench: Bench) -> None:
    request = await bench.stage("ours")
    (change,) = [orjson.dumps(action) + b"\n" for action in bench.log(0) if "metaData" in action]
    bench.faults.before(names.WRITE_LOG, lambda: bench.put_log(1, change))
    (outcome,) = await bench.commit(request)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.METADATA_CHANGED
    assert outcome.refusal.latest_version == 1


async def test_superseded_before_the_log_somebody_else_completed_the_round(bench: Bench) -> None:
    requests = [await bench.stage(f"file-{number}") for number in range(3)]
    bench.faults.cold = True
    bench.faults.before(names.WRITE_LOG, lambda: complete(bench))
    outcomes = await bench.commit(*requests)
    assert versions(outcomes) == [1] * 3
    assert all(outcome.replayed for outcome in outcomes)
    assert bench.added(1) == ["file-0", "file-1", "file-2"]
    assert [one.kind for one in (await bench.status()).recovered] == ["completed"]


async def test_superseded_before_the_markers_somebody_else_completed_the_round(bench: Bench) -> None:
    requests = [await bench.stage(f"file-{number}") for number in range(3)]
    bench.faults.cold = True
    bench.faults.before(names.WRITE_MARKER, lambda: complete(bench))
    assert versions(await bench.commit(*requests)) == [1] * 3
    assert await bench.inflight_is_null()
    assert (await bench.coordinator()).state.latest_version == 1


async def test_a_helper_before_finalize_does_no_harm(bench: Bench) -> None:
    bench.faults.before(names.FINALIZE, lambda: complete(bench))
    assert (await bench.commit_one(await bench.stage_strict("one", 0))).version == 1
    await bench.finished()
    assert (await bench.commit_one(await bench.stage_strict("two", 1))).version == 2
    await bench.finished()
    assert await bench.inflight_is_null()


async def test_a_reservation_of_a_dead_owner_is_completed_by_whoever_comes(bench: Bench) -> None:
    """The run is terminated between its steps: nothing of it is left but what is stored."""
    first = await bench.stage_strict("first", 0)
    bench.faults.before(names.WRITE_LOG, lambda: bench.handle.terminate("killed by the test"))
    with pytest.raises((WorkflowUpdateFailedError, RPCError)):
        await bench.commit(first)
    # The dead run's activity may still write its log: it and the helper must agree.
    second = await bench.stage("second", read_version=0)
    assert (await bench.commit_one(second)).version == 2
    (replay,) = await bench.commit(first)
    assert replay.result is not None
    assert (replay.result.version, replay.replayed) == (1, True)
    assert bench.added(1) == ["first"]


async def complete(bench: Bench) -> None:
    """Be the helper that brings what is in flight to its end."""
    await settle(bench.table)
