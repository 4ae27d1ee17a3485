"""The crash windows of a ledger round, each survived by a retry of the activity (docs/protocol.md#ledger-rounds).

After every step: the effect is there, and the attempt fails or its result never arrives. The request's events are
written once, and replays get the same answer.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from springline import names
from springline.ledger.request import VisibilityStatus
from tests.support.ledger_events import each_request, planned, request, run_request, started, triggered
from tests.workflows.faults import Step, raises, result_is_lost
from tests.workflows.ledger_bench import LedgerBench
from tests.workflows.runs import Attempt

STEPS = [names.OPEN_LEDGER, names.ADMIT, names.APPEND_EVENTS, names.FOLD, names.PUBLISH]
FAILURES = {"raises": raises, "result-lost": result_is_lost}


@pytest.fixture(autouse=True)
def outlasting(patience: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs outlast their answers: the test server forgets an update that meets the end of its run."""
    for name in ("LEAST_PATIENCE", "MOST_PATIENCE"):
        monkeypatch.setattr(f"workflows.ledger.{name}", timedelta(seconds=2))


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("step", STEPS)
async def test_window(step: str, failure: str, ledger: LedgerBench) -> None:
    await survive(ledger, step, FAILURES[failure])


@pytest.mark.parametrize("step", STEPS)
async def test_window_survived_by_another_worker(step: str, ledger: LedgerBench) -> None:
    ledger.faults.cold = True
    await survive(ledger, step, raises)


@pytest.mark.parametrize("step", STEPS)
async def test_a_window_of_events_that_are_taken_each_by_itself(step: str, ledger: LedgerBench) -> None:
    """No event that was refused is recorded by a repeat, and none that was recorded is refused."""
    ledger.faults.cold = True
    asked = [
        each_request(triggered("run"), started("run", "a"), planned("run", "a")),
        each_request(started("other", "a")),
    ]
    ledger.faults.after(step, raises)
    answers = await ledger.append(*asked)
    assert [[one.index for one in answer.refused] for answer in answers] == [[1], [0]]
    assert [len(answer.events) for answer in answers] == [2, 0]
    await ledger.append_one(request(triggered("other"), planned("other", "a")))
    for one, answer in zip(asked, answers, strict=True):
        again = await ledger.append_one(one)
        assert again.replayed
        assert (again.events, again.refused) == (answer.events, answer.refused)
    assert (await ledger.head()).events == 4
    await ledger.finished()
    assert Attempt(step, 2) in await ledger.attempts()


async def test_a_window_of_foreign_events(ledger: LedgerBench) -> None:
    ledger.faults.cold = True
    path = await ledger.put_foreign("01JHF2Z8G00000000000000001", "foreign")
    ledger.faults.after(names.ADMIT_FOREIGN, raises)
    (outcome,) = await ledger.ingest([path])
    assert (outcome.accepted, outcome.known) == (1, 0)
    assert outcome.visibility_status is VisibilityStatus.VISIBLE
    assert (await ledger.head()).events == 1
    await ledger.finished()
    assert Attempt(names.ADMIT_FOREIGN, 2) in await ledger.attempts()


async def survive(ledger: LedgerBench, step: str, failure: Step) -> None:
    asked = run_request("run")
    ledger.faults.after(step, failure)
    answer = await ledger.append_one(asked)
    assert len(answer.events) == 2
    assert not answer.replayed
    for _ in range(3):
        again = await ledger.append_one(asked)
        assert again.replayed
        assert again.events == answer.events
    head = await ledger.head()
    assert (head.events, head.rounds_folded) == (2, 1)
    assert head.last_event_id == answer.events[-1].event_id

    await ledger.finished()
    first = ledger.run_ids[0]
    told = await ledger.status(first)
    assert (step, 2) in [(one.step, one.attempts) for one in told.retried]
    assert f"`{step}`{'' if step == names.OPEN_LEDGER else ' of round 1'}: attempt 2 succeeded" in (
        await ledger.current_details(first)
    )
    assert Attempt(step, 2) in await ledger.attempts()
