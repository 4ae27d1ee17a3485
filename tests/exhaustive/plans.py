"""Which histories: every fault at every operation, every interleaving with few switches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from springline.storage.faults import Decision
from springline.storage.operations import WRITES, Operation
from tests.exhaustive.histories import After, Ended, Histories, Plan

UNDISTURBED = Plan()
"""One contender after the other, and nothing fails."""
DEATHS = (Decision.DIE_BEFORE, Decision.DIE_AFTER, Decision.DIE_LATE)
WRITE_FAULTS = (Decision.FAIL_BEFORE, Decision.FAIL_AFTER, Decision.LOSE, Decision.LATE, *DEATHS)
READ_FAULTS = (Decision.FAIL_BEFORE, Decision.DIE_BEFORE)
"""A read that failed after it happened is a read that failed; a read that is late is one that failed."""


def fault_plans(plan: Plan, step: int, operation: Operation) -> Iterator[Plan]:
    """Yield `plan` with each fault at `step`, with each way it can go on from there."""
    for decision in WRITE_FAULTS if operation.kind in WRITES else READ_FAULTS:
        faulted = replace(plan, faults=(*plan.faults, (step, decision)))
        yield faulted
        if decision in DEATHS and not plan.revives:
            yield replace(faulted, revives=True)
        if decision in (Decision.LATE, Decision.DIE_LATE) and not plan.late_last:
            yield replace(faulted, late_last=True)


async def every_fault(
    histories: Histories, plan: Plan, *, faults: int = 1, afters: Sequence[After] = tuple(After)
) -> None:
    """Check `plan`, and `plan` with up to `faults` faults, each later than the one before."""
    ended = await histories.check(plan, afters)
    if ended is not None and faults:
        await _more_faults(histories, plan, ended, faults, afters)


async def _more_faults(histories: Histories, plan: Plan, ended: Ended, faults: int, afters: Sequence[After]) -> None:
    first = plan.faults[-1][0] + 1 if plan.faults else 0
    for step in range(first, len(ended.schedule.steps)):
        for faulted in fault_plans(plan, step, ended.schedule.steps[step]):
            after = await histories.check(faulted, afters)
            if after is not None and faults > 1:
                await _more_faults(histories, faulted, after, faults - 1, afters)


async def every_instant(histories: Histories, plan: Plan, afters: Sequence[After]) -> None:
    """Check `plan` with the scenario's event right before each of its operations."""
    ended = await histories.check(plan, afters)
    for step in range(0 if ended is None else len(ended.schedule.steps)):
        await histories.check(replace(plan, event_at=step), afters)


async def every_fault_at_every_instant(
    histories: Histories, plan: Plan = UNDISTURBED, *, afters: Sequence[After] = tuple(After)
) -> None:
    """Check every fault of a history with the scenario's event at each instant."""
    ended = await histories.check(plan, afters)
    for step in range(0 if ended is None else len(ended.schedule.steps)):
        await every_fault(histories, replace(plan, event_at=step), afters=afters)


async def every_interleaving(
    histories: Histories,
    *,
    switches: int,
    plan: Plan = UNDISTURBED,
    afters: Sequence[After] = tuple(After),
    faults: bool = False,
) -> None:
    """Check every history of the contenders with at most `switches` switches between them.

    If the scenario has an event, each of them again for every instant of the event; with `faults`, each of them
    again with every fault after its last switch.
    """
    ended = await histories.check(plan, afters)
    if ended is None:
        return
    if histories.scenario.event is not None:
        await every_instant(histories, plan, afters)
    if faults:
        last = plan.switches[-1] if plan.switches else 0
        for step in range(last, len(ended.schedule.steps)):
            for faulted in fault_plans(plan, step, ended.schedule.steps[step]):
                await histories.check(faulted, afters)
    if len(plan.switches) < switches:
        first = plan.switches[-1] + 1 if plan.switches else 1
        for step in range(first, len(ended.schedule.steps)):
            more = replace(plan, switches=(*plan.switches, step))
            await every_interleaving(histories, switches=switches, plan=more, afters=afters, faults=faults)
