"""One bad request hurts nobody else: errors nobody foresaw, halved rounds, faults that last, and other doors."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

import activities.commit as commit_activities
import springline.commit.requests as requests_module
import springline.commit.reserve as reserve_module
import springline.control.admission.round as round_module
import springline.sequencer.foreign as reader_module
from activities import interceptor
from springline import names, paths
from springline.commit.reserve import reserve
from springline.commit.table import CommitTable
from springline.control.admission.round import drafts_of
from springline.delta.payload import Payload, parse_payload
from springline.delta.rounds import choose_round
from springline.errors import Code
from springline.ledger.envelope import compose_event
from springline.ledger.request import AppendRequest, RefusalReason
from springline.sequencer.foreign import judge_body
from springline.sequencer.workspace import Sequencer
from springline.storage.operations import Decision, Operation, OperationKind
from tests.support.ledger_events import each_request, run_request, triggered
from tests.support.rows import SCOPE
from tests.workflows.bench import Bench, versions
from tests.workflows.ledger_bench import LedgerBench
from tests.workflows.runs import until
from tests.workflows.test_messages import document, plain, start_by_hand

pytestmark = pytest.mark.not_recorded

POISON = "poison"
ERRORS = [RecursionError("deep"), KeyError("x"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no"), MemoryError("full")]


def refused(outcomes: list[Any]) -> list[Code | None]:
    return [None if outcome.refusal is None else outcome.refusal.code for outcome in outcomes]


# Errors that nobody foresaw, while one request is judged.


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_while_a_payload_is_judged_refuses_that_request(
    error: Exception, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(data: bytes, **options: Any) -> Payload:
        if POISON.encode() in data:
            raise error
        return parse_payload(data, **options)

    monkeypatch.setattr(requests_module, "parse_payload", parse)
    good, bad, other = [await bench.stage(name) for name in ("good", POISON, "other")]
    with caplog.at_level(logging.ERROR, "springline.batching"):
        outcomes = await bench.commit(good, bad, other)
    assert versions(outcomes) == [1, None, 1]
    assert refused(outcomes) == [None, Code.REQUEST_FAILED, None]
    refusal = outcomes[1].refusal
    assert refusal is not None
    assert refusal.status == 500
    assert bad.idempotency_key in refusal.message
    (record,) = [one for one in caplog.records if one.name == "springline.batching"]
    assert bad.idempotency_key in record.getMessage()
    assert record.exc_info is not None
    monkeypatch.undo()
    assert (await bench.commit_one(bad)).version == 2


async def test_an_error_while_a_request_is_judged_against_its_table_refuses_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = await bench.stage("good"), await bench.stage(POISON)
    version_refusal = reserve_module._Reserving._version_refusal

    async def judge(self: Any, candidate: Any, latest: int) -> Any:
        if candidate.member.key == bad.idempotency_key:
            raise RecursionError
        return await version_refusal(self, candidate, latest)

    monkeypatch.setattr(reserve_module._Reserving, "_version_refusal", judge)
    assert refused(await bench.commit(good, bad)) == [None, Code.REQUEST_FAILED]


async def test_an_error_while_a_round_is_put_together_refuses_its_cause(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:

    def choose(eligible: Any) -> Any:
        if any(POISON in path for one in eligible for path in one.payload.paths):
            raise TypeError("unhashable")
        return choose_round(eligible)

    monkeypatch.setattr(reserve_module, "choose_round", choose)
    outcomes = await bench.commit(*[await bench.stage(name) for name in ("one", POISON, "two")])
    assert refused(outcomes) == [None, Code.REQUEST_FAILED, None]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_while_events_are_judged_refuses_that_request(
    error: Exception, ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = run_request(POISON)

    def drafts(request: AppendRequest, now_ms: int) -> Any:
        if request.request_id == bad.request_id:
            raise error
        return drafts_of(request, now_ms)

    monkeypatch.setattr(round_module, "drafts_of", drafts)
    outcomes = await ledger.append(run_request("one"), bad, run_request("two"))
    assert refused(outcomes) == [None, Code.REQUEST_FAILED, None]
    assert (await ledger.head()).events == 4
    monkeypatch.undo()
    await ledger.append_one(bad)
    assert (await ledger.head()).events == 6


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_while_an_event_is_judged_refuses_it_alone_where_each_is_taken_by_itself(
    error: Exception, ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def composing(data: Any, **fields: Any) -> bytes:
        if getattr(data, "run_id", "") == POISON:
            raise error
        return compose_event(data, **fields)

    monkeypatch.setattr(round_module, "compose_event", composing)
    asked = each_request(triggered("one"), triggered(POISON), triggered("two"))
    outcomes = await ledger.append(asked, run_request("other"))
    assert refused(outcomes) == [None, None]
    assert [(one.index, one.code) for one in outcomes[0].refused] == [(1, Code.REQUEST_FAILED)]
    assert (await ledger.head()).events == 4


async def test_an_error_in_the_middle_of_a_fold_takes_back_what_it_did(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = run_request(POISON)
    calls = 0

    def composing(data: Any, **fields: Any) -> bytes:
        nonlocal calls
        if getattr(data, "run_id", "") == POISON:
            calls += 1
            if calls == 2:
                raise KeyError("after the first event of the request is folded")
        return compose_event(data, **fields)

    monkeypatch.setattr(round_module, "compose_event", composing)
    outcomes = await ledger.append(run_request("one"), bad, run_request("two"))
    assert refused(outcomes) == [None, Code.REQUEST_FAILED, None]
    monkeypatch.undo()
    await ledger.append_one(bad)
    assert (await ledger.head()).events == 6


async def test_an_error_while_a_foreign_event_is_judged_refuses_that_event(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await ledger.put_foreign("01JHF2Z8G00000000000000001", "good")
    bad = await ledger.put_foreign("01JHF2Z8G00000000000000002", POISON)

    def judging(event_id: str, body: bytes | None, scope: paths.Scope) -> Any:
        if body is not None and POISON.encode() in body:
            raise RecursionError
        return judge_body(event_id, body, scope)

    monkeypatch.setattr(reader_module, "judge_body", judging)
    (outcome,) = await ledger.ingest([good, bad])
    assert (outcome.accepted, [one.reason for one in outcome.refused]) == (1, [RefusalReason.FAILED])
    monkeypatch.undo()
    (again,) = await ledger.ingest([good, bad])
    assert (again.accepted, again.known) == (1, 1)


# Rounds that fail as a whole.


@pytest.mark.parametrize("culprits", [{3}, {0, 11}])
async def test_a_round_that_fails_is_halved_until_the_culprits_are_alone(
    culprits: set[int], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [await bench.stage(f"file-{number}") for number in range(12)]
    spoilt = {requests[number].idempotency_key for number in culprits}

    async def reserving(table: CommitTable, order: Any) -> Any:
        if spoilt & {request.idempotency_key for request in order.requests}:
            raise KeyError("nobody foresaw this")
        return await reserve(table, order)

    monkeypatch.setattr(commit_activities, "reserve", reserving)
    outcomes = await bench.commit(*requests)
    assert {number for number, code in enumerate(refused(outcomes)) if code is not None} == culprits
    assert {code for code in refused(outcomes) if code} == {Code.REQUEST_FAILED}
    assert (await bench.commit_one(await bench.stage("after"))).version
    status = await bench.status()
    assert status.failure is None


async def test_a_round_of_appends_that_fails_is_halved_until_the_culprit_is_alone(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [run_request(f"run-{number}") for number in range(8)]
    admit = Sequencer.admit

    async def admitting(self: Sequencer, order: Any) -> Any:
        if requests[5].request_id in {request.request_id for request in order.requests}:
            raise KeyError("nobody foresaw this")
        return await admit(self, order)

    monkeypatch.setattr(Sequencer, "admit", admitting)
    outcomes = await ledger.append(*requests)
    assert refused(outcomes) == [None] * 5 + [Code.REQUEST_FAILED] + [None] * 2
    assert (await ledger.head()).events == 14


async def test_a_round_of_foreign_events_that_fails_is_halved_until_the_culprit_is_alone(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [await ledger.put_foreign(f"01JHF2Z8G0000000000000000{number}", f"run-{number}") for number in range(6)]
    admit_foreign = Sequencer.admit_foreign

    async def admitting(self: Sequencer, order: Any) -> Any:
        if found[2] in {path for request in order.requests for path in request.event_paths}:
            raise KeyError("nobody foresaw this")
        return await admit_foreign(self, order)

    monkeypatch.setattr(Sequencer, "admit_foreign", admitting)
    outcomes = await ledger.ingest(*([path] for path in found))
    assert refused(outcomes) == [None, None, Code.REQUEST_FAILED, None, None, None]
    assert (await ledger.head()).events == 5


# Faults that last.


class Failing:
    """A hook that fails every operation of these kinds on names that hold `path`, and counts them."""

    def __init__(self, path: str, kinds: tuple[OperationKind, ...] = (OperationKind.GET, OperationKind.PUT)) -> None:
        self.path = path
        self.kinds = kinds
        self.failed = 0

    async def __call__(self, operation: Operation) -> Decision:
        if self.path not in operation.path or operation.kind not in self.kinds:
            return Decision.PROCEED
        self.failed += 1
        return Decision.FAIL_BEFORE

    async def often(self) -> bool:
        return self.failed >= 5


async def test_before_a_version_is_reserved_callers_are_told_in_time_and_the_table_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "PATIENCE", timedelta(milliseconds=300))
    bench.faulty.hook = Failing(paths.delta_coordinator(bench.table_id))
    first = await bench.stage("first")
    async with asyncio.timeout(120):
        (outcome,) = await bench.commit(first)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.UNAVAILABLE
    assert "tried" in outcome.refusal.message
    assert "same key" in (outcome.refusal.remedy or "")
    status = await bench.status()
    assert status.failure is not None
    assert "could not be begun" in await bench.current_details()
    bench.faulty.hook = None
    assert (await bench.commit_one(await bench.stage("second"))).version == 1
    assert (await bench.commit_one(first)).version == 2
    await bench.finished()
    assert (await bench.status()).failure is None
    assert await bench.inflight_is_null()


async def test_what_is_reserved_is_finished_however_long_it_takes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "PATIENCE", timedelta(milliseconds=50))
    bench.faulty.hook = fault = Failing("_delta_log/00000000000000000001.json", (OperationKind.PUT,))
    commit = asyncio.create_task(bench.commit(await bench.stage("slow")))
    await until(fault.often, "writing the log was tried far longer than patience lasts")
    assert await bench.is_reserved()
    assert not commit.done()
    bench.faulty.hook = None
    assert versions(await commit) == [1]


async def test_an_error_while_a_reserved_version_is_written_is_told_and_the_next_round_finishes_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "MANY_SURPRISES", 3)

    async def fails(*_: Any) -> Any:
        raise KeyError("our inside")

    monkeypatch.setattr(commit_activities, "write_log", fails)
    first = await bench.stage("first")
    (outcome,) = await bench.commit(first)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.INTERNAL
    assert "KeyError" in outcome.refusal.message
    assert "our inside" not in outcome.refusal.message
    monkeypatch.undo()
    assert (await bench.commit_one(await bench.stage("second"))).version == 2
    (again,) = await bench.commit(first)
    assert again.replayed
    assert versions([again]) == [1]


async def test_a_reservation_whose_answer_is_lost_is_finished_though_nobody_comes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reserving swap is done and unclear, everything after it fails for long: the callers are told meanwhile."""
    monkeypatch.setattr(interceptor, "PATIENCE", timedelta(milliseconds=300))
    coordinator = SCOPE.full(paths.delta_coordinator(bench.table_id))
    broken = False

    async def decide(operation: Operation) -> Decision:
        nonlocal broken
        if broken and operation.path == coordinator:
            return Decision.FAIL_BEFORE
        if operation.path == coordinator and operation.kind is OperationKind.PUT:
            broken = True
            return Decision.FAIL_AFTER
        return Decision.PROCEED

    bench.faulty.hook = decide
    request = await bench.stage("file")
    (outcome,) = await bench.commit(request)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.UNAVAILABLE
    assert await bench.is_reserved()
    bench.faulty.hook = None
    await bench.finished()
    assert await bench.inflight_is_null()
    assert bench.added(1) == ["file"]
    (again,) = await bench.commit(request)
    assert again.replayed


async def test_a_reservation_is_cleared_however_long_it_takes_and_others_are_told_meanwhile(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptor, "PATIENCE", timedelta(milliseconds=300))
    coordinator = SCOPE.full(paths.delta_coordinator(bench.table_id))
    puts = 0

    async def decide(operation: Operation) -> Decision:
        nonlocal puts
        if operation.path == coordinator and operation.kind is OperationKind.PUT:
            puts += 1
        return Decision.FAIL_BEFORE if puts > 1 and operation.path == coordinator else Decision.PROCEED

    bench.faulty.hook = decide
    assert (await bench.commit_one(await bench.stage("one"))).version == 1
    (outcome,) = await bench.commit(await bench.stage("two"))
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.UNAVAILABLE
    bench.faulty.hook = None
    await bench.finished()
    assert await bench.inflight_is_null()


@pytest.mark.parametrize("where", ["orchestration/", "rounds"])
async def test_before_a_round_is_recorded_callers_are_told_in_time_and_the_ledger_goes_on(
    where: str, ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.append_one(run_request("before"))
    monkeypatch.setattr(interceptor, "PATIENCE", timedelta(milliseconds=300))
    ledger.faulty.hook = Failing(
        where, (OperationKind.PUT,) if where == "rounds" else (OperationKind.GET, OperationKind.PUT, OperationKind.HEAD)
    )
    asked = run_request("run")
    async with asyncio.timeout(120):
        (outcome,) = await ledger.append(asked)
    assert outcome.refusal is not None
    assert outcome.refusal.code is Code.UNAVAILABLE
    status = await ledger.status()
    assert status.failure is not None
    ledger.faulty.hook = None
    await ledger.append_one(run_request("next"))
    await ledger.append_one(asked)
    assert (await ledger.head()).events == 6
    await ledger.finished()


async def test_what_is_recorded_becomes_visible_however_long_it_takes(
    ledger: LedgerBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.append_one(run_request("before"))
    monkeypatch.setattr(interceptor, "PATIENCE", timedelta(milliseconds=50))
    ledger.faulty.hook = fault = Failing(paths.orchestration_pointer(), (OperationKind.PUT,))
    append = asyncio.create_task(ledger.append(run_request("slow")))
    await until(fault.often, "publishing was tried far longer than patience lasts")
    assert not append.done()
    ledger.faulty.hook = None
    (outcome,) = await append
    assert outcome.refusal is None
    assert (await ledger.head()).events == 4


# Other doors: what the Temporal CLI can send.


@pytest.mark.parametrize(
    ("spoiled", "field"),
    [
        ({"staged_version": "v" * 1_500_000}, "staged_version"),
        ({"staged_path": "p" * 100_000}, "staged_path"),
        ({"staged_version": "a\nb"}, "staged_version"),
        ({"staged_version": "a\0"}, "staged_version"),
        ({"read_version": 2**70}, "read_version"),
        ({"idempotency_key": "k" * 100_000}, "idempotency_key"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_start_or_an_update_with_a_request_out_of_bounds_refuses_it_alone(
    spoiled: dict[str, Any], field: str, bench: Bench
) -> None:
    good, bad = await bench.stage("good"), (await bench.stage("bad")).model_copy(update=spoiled)
    first, second = (await start_by_hand(bench, document(bench, bad, good)))["outcomes"]
    assert first["refusal"]["field"] == field
    assert len(first["refusal"]["message"]) < 1_100
    assert second["result"]["version"] == 1
    outcomes = await bench.commit(bad, await bench.stage("another"))
    assert refused(outcomes)[1] is None
    assert refused(outcomes)[0] is not None


@pytest.mark.parametrize("version", ["\\ud800", "\\u0000\\udfff"])
async def test_half_a_character_is_refused_to_whoever_sends_it(version: str, bench: Bench) -> None:
    import orjson
    from temporalio.api.common.v1 import Payload as Raw
    from temporalio.client import WorkflowUpdateFailedError
    from temporalio.common import RawValue

    good = asyncio.create_task(bench.commit(await bench.stage("good")))
    bad = (await bench.stage("bad")).model_copy(update={"staged_version": "HERE"})
    data = orjson.dumps({"requests": [bad.model_dump(mode="json")]}).replace(b"HERE", version.encode())
    await until(bench.is_reserved, "the run is there")
    raw = RawValue(Raw(metadata={"encoding": b"json/plain"}, data=data))
    with pytest.raises(WorkflowUpdateFailedError):
        await plain(bench).get_workflow_handle(bench.workflow_id).execute_update(names.COMMIT_UPDATE, raw)
    assert versions(await good) == [1]


async def test_paths_that_no_message_can_hold_are_refused_alone(ledger: LedgerBench) -> None:
    path = await ledger.put_foreign("01JHF2Z8G00000000000000001", "foreign")
    long, good = await ledger.ingest(["x" * 500_000], [path])
    assert long.refusal is not None
    assert long.refusal.field == "event_paths[0]"
    assert good.accepted == 1


async def test_conflicts_of_many_fit_a_message(bench: Bench, long_patience: None) -> None:
    """Each of many that come too late is told what was committed since, and all of it together fits."""
    for number in range(30):
        await bench.commit_one(await bench.stage(f"file-{number}"))
    late = [await bench.stage_strict(f"late-{number}", 0) for number in range(300)]
    outcomes = await bench.commit(*late)
    assert set(refused(outcomes)) == {Code.STALE_READ_VERSION}
    told = [len(one.refusal.commits_since or []) for one in outcomes if one.refusal]
    assert min(told) >= 1
    assert sum(told) <= 4_000
    assert sum(len(one.model_dump_json()) for one in outcomes) < 1 << 20
