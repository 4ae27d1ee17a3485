"""What is repaired, and when: decisions of `Repair`, without a clock, a store or Temporal.

A look at a workspace returns findings: things that should be otherwise, each with its kind and its subject. A finding
is repaired at once when it is first seen, and again only after a pause that doubles, for as long as it is found. What
is not found any more is forgotten (docs/protocol.md#repair).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict

from springline.control.runs.apart import UNTOLD_MS

FIRST_PAUSE_MS: Final = 60_000
"""Between the first repair of a finding and the second; doubled each time."""
LONGEST_PAUSE_MS: Final = 60 * 60_000
MOST_REPAIRS: Final = 100
"""Of one pass; the others are first in the next."""
MOST_WAKES: Final = 4
"""A workflow without a run is told so often; then it is terminated, a quarter of an hour after it was found."""
MOST_REMEMBERED: Final = 1_000
LOOKS_MS: Final = 60_000
"""Between two passes over a workspace with open work."""
IDLE_LOOKS_MS: Final = 300_000
"""And over one without, at most; doubled up to that."""
SOON_MS: Final = 10_000
"""Before the next pass if more was found than one pass repairs, or something was too young to tell."""


class RepairKind(StrEnum):
    """What can be wrong: labels of metrics, so few."""

    RUN_WITHOUT_WORKFLOW = "run_without_workflow"
    WORKFLOW_WITHOUT_RUN = "workflow_without_run"
    ATTEMPT_NOT_TOLD = "attempt_not_told"
    REQUESTS_NOT_LAUNCHED = "requests_not_launched"
    ROUNDS_NOT_VISIBLE = "rounds_not_visible"
    SENSOR_WITHOUT_WORKFLOW = "sensor_without_workflow"
    BACKFILL_WITHOUT_EVALUATOR = "backfill_without_evaluator"
    SCHEDULES_WITHOUT_EVALUATOR = "schedules_without_evaluator"
    SCHEDULES_OVERDUE = "schedules_overdue"


class RepairAction(StrEnum):
    """What a repair does. None of them appends an event or ends an attempt of an open run."""

    START_RUN = "start the run's workflow"
    WAKE_RUN = "tell the workflow to read the rows"
    TERMINATE = "terminate the workflow"
    WAKE_LAUNCHER = "tell the launcher to look at everything"
    START_LEDGER = "start the ledger's workflow"
    START_SENSOR = "start the sensor's workflow"
    START_BACKFILL = "start the backfill's evaluator"
    WAKE_EVALUATOR = "tell the evaluator of schedules, or start it"
    RESTART_EVALUATOR = "start the evaluator of schedules anew"


class RepairMessage(BaseModel):
    """Base of all messages: immutable, ignores unknown fields of a newer writer. Times in ms since 1970."""

    model_config = ConfigDict(frozen=True)


class RepairFinding(RepairMessage):
    """Something that should be otherwise. `subject`: the id of a run or a backfill, empty for the workspace.

    `workflow_run_id`: of which run of a workflow the finding is, if of one.
    """

    kind: RepairKind
    subject: str = ""
    why: str = ""
    since_ms: int
    workflow_run_id: str | None = None


class RepairTry(RepairMessage):
    """How often a finding was repaired, and when it is tried again if it is still found."""

    kind: RepairKind
    subject: str = ""
    times: int
    next_ms: int


class PlannedRepair(RepairMessage):
    """A repair that is due, of a finding."""

    finding: RepairFinding
    action: RepairAction


class RepairPlan(RepairMessage):
    """What a pass is to do.

    `due`: now, in this order. `left`: how many more are due, beyond what one pass does. `waiting`: findings that were
    repaired before, and are to show first whether that helped. `healed`: findings of passes before that are gone.
    """

    due: list[PlannedRepair] = []
    left: int = 0
    waiting: list[RepairTry] = []
    healed: int = 0


_Key = tuple[RepairKind, str]


def plan_repairs(
    findings: Sequence[RepairFinding], tried: Sequence[RepairTry], now_ms: int, *, most: int = MOST_REPAIRS
) -> RepairPlan:
    """Decide which findings are repaired now.

    Args:
        findings: what a look has found, each kind and subject once.
        tried: what was repaired before.
        now_ms: now.
        most: repairs of one pass.

    Returns: the plan. What was tried least often is first, then what has been wrong longest, so that no finding keeps
    another one waiting for ever.
    """
    known = {(one.kind, one.subject): one for one in tried}
    found = {(one.kind, one.subject): one for one in findings}
    due: list[tuple[int, RepairFinding]] = []
    waiting: list[RepairTry] = []
    for key, finding in found.items():
        before = known.get(key)
        if before is not None and now_ms < before.next_ms:
            waiting.append(before)
        else:
            due.append((0 if before is None else before.times, finding))
    due.sort(key=lambda one: (one[0], one[1].since_ms, one[1].kind, one[1].subject))
    return RepairPlan(
        due=[PlannedRepair(finding=finding, action=_action(finding.kind, times)) for times, finding in due[:most]],
        left=max(0, len(due) - most),
        waiting=waiting,
        healed=sum(key not in found for key in known),
    )


def remembered(
    findings: Sequence[RepairFinding], tried: Sequence[RepairTry], made: Sequence[PlannedRepair], now_ms: int
) -> list[RepairTry]:
    """Return what is to be remembered after repairs at `now_ms`: of each finding that was ever repaired, its tries.

    A repair that failed counts as well: whatever makes it fail should not be asked each minute.
    """
    known = {(one.kind, one.subject): one for one in tried}
    found = {(one.kind, one.subject) for one in findings}
    kept: dict[_Key, RepairTry] = {key: one for key, one in known.items() if key in found}
    for repair in made:
        key = repair.finding.kind, repair.finding.subject
        times = 1 + (known[key].times if key in known else 0)
        next_ms = now_ms + min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS << min(times - 1, 30))
        kept[key] = RepairTry(kind=key[0], subject=key[1], times=times, next_ms=next_ms)
    # Those that were forgotten are repaired a little earlier than they would be.
    return sorted(kept.values(), key=lambda one: -one.times)[:MOST_REMEMBERED]


def next_look_ms(*, is_busy: bool, is_hurried: bool, idle_passes: int) -> int:
    """Return the time until the next pass.

    Args:
        is_busy: there is open work, or something was found.
        is_hurried: more is due than one pass does, or something was too young to tell.
        idle_passes: how many passes in a row have found no open work.
    """
    if is_hurried:
        return SOON_MS
    if is_busy:
        return LOOKS_MS
    return min(IDLE_LOOKS_MS, LOOKS_MS << min(max(0, idle_passes - 1), 10))


def _action(kind: RepairKind, times: int) -> RepairAction:
    if kind is RepairKind.WORKFLOW_WITHOUT_RUN:
        return RepairAction.WAKE_RUN if times < MOST_WAKES else RepairAction.TERMINATE
    if kind is RepairKind.SCHEDULES_OVERDUE:
        # It has nothing to lose: what is due follows from the rows. A wedged one is replaced by the second try.
        return RepairAction.WAKE_EVALUATOR if times < 1 else RepairAction.RESTART_EVALUATOR
    return _ACTIONS[kind]


_ACTIONS: Final[Mapping[RepairKind, RepairAction]] = {
    RepairKind.RUN_WITHOUT_WORKFLOW: RepairAction.START_RUN,
    RepairKind.ATTEMPT_NOT_TOLD: RepairAction.START_RUN,
    RepairKind.REQUESTS_NOT_LAUNCHED: RepairAction.WAKE_LAUNCHER,
    RepairKind.ROUNDS_NOT_VISIBLE: RepairAction.START_LEDGER,
    RepairKind.SENSOR_WITHOUT_WORKFLOW: RepairAction.START_SENSOR,
    RepairKind.BACKFILL_WITHOUT_EVALUATOR: RepairAction.START_BACKFILL,
    RepairKind.SCHEDULES_WITHOUT_EVALUATOR: RepairAction.WAKE_EVALUATOR,
}


# What is found in a workspace.

SETTLED_MS: Final = 15_000
"""Younger things are left alone: whoever is to act on them is about to."""
FOLDED_LATE_MS: Final = 30_000
"""A round is visible within seconds; one that is not after this long has nobody who makes it so."""


SCHEDULES_LATE_MS: Final = 30_000
"""An instant is decided on within seconds; one that is not after this long has an evaluator that fails, or none."""


class SeenRun(RepairMessage):
    """A run without an end in the rows. `has_workflow` None: not looked at."""

    run_id: str
    triggered_ms: int
    has_workflow: bool | None


class SeenWorkflow(RepairMessage):
    """An open workflow of a run. `ended_ms`: when its run has ended in the rows; `is_known`: there is such a run."""

    run_id: str
    workflow_run_id: str
    started_ms: int
    is_known: bool
    ended_ms: int | None = None


class SeenUntold(RepairMessage):
    """An ended run without a workflow that has an attempt of whose end nothing is on record.

    `cancelled_ms`: when a cancellation has ended it.
    """

    run_id: str
    cancelled_ms: int


class SeenBackfill(RepairMessage):
    """A backfill that is not over, of which no evaluator is open. `changed_ms`: when its rows changed last."""

    backfill_id: str
    changed_ms: int


class SeenWorkspace(RepairMessage):
    """What a look at a workspace saw; rows are never older than the list of workflows.

    `waiting`: requests without a run, the oldest since `waiting_since_ms`. `room`: how many more runs may be under way.
    `pending`: rounds of the ledger that are accepted and not visible, the oldest since `pending_since_ms`.
    `lost_sensors`: deployed, at `deployed_ms`, and no workflow evaluates them. `schedules`: that have not left their
    file, `due_soon` of them within minutes, the last one changed at `schedules_since_ms`; `has_evaluator` None: not
    looked at; `evaluator_trouble`: why its last pass failed. `overdue`: schedules with an instant that has come and is
    not decided on, the oldest since `overdue_since_ms`.
    """

    active: list[SeenRun] = []
    backfills: list[SeenBackfill] = []
    without_run: list[SeenWorkflow] = []
    untold: list[SeenUntold] = []
    waiting: int = 0
    waiting_since_ms: int | None = None
    room: int = 0
    held: bool = False
    pending: int = 0
    pending_since_ms: int | None = None
    lost_sensors: list[str] = []
    deployed_ms: int = 0
    schedules: int = 0
    due_soon: int = 0
    schedules_since_ms: int = 0
    has_evaluator: bool | None = None
    evaluator_trouble: str | None = None
    overdue: int = 0
    overdue_since_ms: int | None = None


class SeenAutomation(RepairMessage):
    """How backfills and sensors get on; times in ms since 1970, None if they were not looked at.

    `open_chunks`: planned and not ended, the oldest at `oldest_chunk_ms`. `moved_ms`: up to when no backfill that
    should go on stood still. `messages`: that wait, the oldest of a sensor that may go on since `oldest_message_ms`.
    `on_time_ms`: up to when no sensor was late. Where there is nothing of a kind, its time is that of the look.
    """

    open_chunks: int = 0
    oldest_chunk_ms: int | None = None
    moved_ms: int | None = None
    messages: int = 0
    oldest_message_ms: int | None = None
    on_time_ms: int | None = None


class RepairLook(RepairMessage):
    """Answer of `look_for_repairs`: what is wrong, what is to be done about it, and what could not be looked at.

    `active`, `waiting`, `schedules`: runs without an end, requests without a run, schedules that are due in minutes.
    `unsettled`: what may turn out to be wrong. `automation`: how backfills and sensors get on; that is measured.
    """

    findings: list[RepairFinding] = []
    plan: RepairPlan = RepairPlan()
    active: int = 0
    waiting: int = 0
    schedules: int = 0
    unsettled: int = 0
    automation: SeenAutomation = SeenAutomation()
    trouble: list[str] = []


def judge(seen: SeenWorkspace, now_ms: int) -> RepairLook:
    """Say what is wrong in a workspace, as far as it was looked at."""
    found: list[RepairFinding] = []
    unsettled = 0

    def add(since_ms: int, patience_ms: int, kind: RepairKind, why: str, **more: str) -> None:
        nonlocal unsettled
        if now_ms - since_ms < patience_ms:
            unsettled += 1
        else:
            found.append(RepairFinding(kind=kind, why=why, since_ms=since_ms, **more))

    for run in seen.active:
        if run.has_workflow is False:
            why = "the run has not ended, and no workflow executes it"
            add(run.triggered_ms, SETTLED_MS, RepairKind.RUN_WITHOUT_WORKFLOW, why, subject=run.run_id)
    for one in seen.without_run:
        if one.is_known and one.ended_ms is None:
            continue
        why = "its run has ended" if one.is_known else "there is no such run"
        add(
            max(one.started_ms, one.ended_ms or 0),
            FOLDED_LATE_MS,
            RepairKind.WORKFLOW_WITHOUT_RUN,
            f"a workflow is open, and {why}",
            subject=one.run_id,
            workflow_run_id=one.workflow_run_id,
        )
    for gone in seen.untold:
        why = "the run was cancelled while no workflow of it was there, and nothing tells how an attempt of it ended"
        add(gone.cancelled_ms, UNTOLD_MS, RepairKind.ATTEMPT_NOT_TOLD, why, subject=gone.run_id)
    for backfill in seen.backfills:
        why = "the backfill is not over, and no evaluator looks after it"
        kind = RepairKind.BACKFILL_WITHOUT_EVALUATOR
        add(backfill.changed_ms, SETTLED_MS, kind, why, subject=backfill.backfill_id)
    if seen.waiting_since_ms is not None and seen.room > 0 and not seen.held:
        why = f"{seen.waiting} request(s) have no run, though {seen.room} more may be under way"
        add(seen.waiting_since_ms, SETTLED_MS, RepairKind.REQUESTS_NOT_LAUNCHED, why)
    if seen.pending_since_ms is not None:
        why = f"{seen.pending} round(s) of the ledger are accepted and not visible"
        add(seen.pending_since_ms, FOLDED_LATE_MS, RepairKind.ROUNDS_NOT_VISIBLE, why)
    for sensor_id in seen.lost_sensors:
        why = "the sensor is deployed, and no workflow evaluates it"
        add(seen.deployed_ms, 0, RepairKind.SENSOR_WITHOUT_WORKFLOW, why, subject=sensor_id)
    if seen.schedules and seen.has_evaluator is False:
        why = f"there are {seen.schedules} schedule(s), and no workflow decides on them"
        add(seen.schedules_since_ms, SETTLED_MS, RepairKind.SCHEDULES_WITHOUT_EVALUATOR, why)
    elif seen.overdue_since_ms is not None and now_ms - seen.overdue_since_ms >= SCHEDULES_LATE_MS:
        # What is younger is no sign of anything: instants come all the time.
        why = f"{seen.overdue} schedule(s) have an instant that has come and is not decided on"
        why += "" if seen.evaluator_trouble is None else f"; the evaluator says: {seen.evaluator_trouble}"
        add(seen.overdue_since_ms, SCHEDULES_LATE_MS, RepairKind.SCHEDULES_OVERDUE, why)
    counts = {"active": len(seen.active), "waiting": seen.waiting, "schedules": seen.due_soon}
    return RepairLook(findings=found, unsettled=unsettled, **counts)


# Messages of the workflow.


class RepairStart(RepairMessage):
    """Input of Repair. `tried`, `made`, `idle_passes`: what its predecessor knew."""

    tenant: str
    workspace: str
    tried: list[RepairTry] = []
    made: dict[str, int] = {}
    idle_passes: int = 0


class RepairLookOrder(RepairMessage):
    """Input of `look_for_repairs`. `tried`: what was repaired before.

    The plan is made there, not in the workflow: a rule that changes then changes no course of a workflow.
    """

    tenant: str
    workspace: str
    now_ms: int
    tried: list[RepairTry] = []


class RepairOrder(RepairMessage):
    """Input of `make_repairs`."""

    tenant: str
    workspace: str
    repairs: list[PlannedRepair]


class RepairsMade(RepairMessage):
    """Answer of `make_repairs`: why repairs failed, by their place in the order; the others are made."""

    failed: dict[int, str] = {}


class RepairAsked(RepairMessage):
    """Argument of the update `repair`. `dry_run`: only say what would be done."""

    dry_run: bool = False


class RepairItem(RepairMessage):
    """A finding, as it is told.

    `action` is what is done about it now; None while it shows whether the last repair has helped: until `next_ms`.
    `times`: how often it was repaired before. `error`: why the repair failed, None if it did not, or was not made.
    """

    kind: RepairKind
    subject: str
    why: str
    since_ms: int
    action: RepairAction | None = None
    times: int = 0
    next_ms: int | None = None
    error: str | None = None


class RepairReport(RepairMessage):
    """What a pass came to. `left`: due, and beyond what one pass repairs. `trouble`: what could not be looked at."""

    at_ms: int
    dry_run: bool = False
    active_runs: int = 0
    waiting_requests: int = 0
    items: list[RepairItem] = []
    left: int = 0
    healed: int = 0
    trouble: list[str] = []


class RepairStatus(RepairMessage):
    """Answer of the query `status` of Repair. `made`: repairs by kind, of this workflow and those before it.

    `next_ms`: when it looks again by itself. `trouble`: why the last pass failed, None if it did not.
    """

    passes: int = 0
    made: dict[str, int] = {}
    next_ms: int | None = None
    last: RepairReport | None = None
    trouble: str | None = None


def report_of(look: RepairLook, tried: Sequence[RepairTry], now_ms: int, made: RepairsMade | None) -> RepairReport:
    """Tell what a pass found and did; `made` None: it was a dry run."""
    plan = look.plan
    known = {(one.kind, one.subject): one for one in tried}
    due = {(one.finding.kind, one.finding.subject): (place, one.action) for place, one in enumerate(plan.due)}
    failed = {} if made is None else made.failed
    items = []
    for finding in look.findings:
        key = finding.kind, finding.subject
        before, planned = known.get(key), due.get(key)
        items.append(
            RepairItem(
                kind=finding.kind,
                subject=finding.subject,
                why=finding.why,
                since_ms=finding.since_ms,
                action=None if planned is None else planned[1],
                times=0 if before is None else before.times,
                next_ms=before.next_ms if before is not None and planned is None else None,
                error=None if planned is None else failed.get(planned[0]),
            )
        )
    return RepairReport(
        at_ms=now_ms,
        dry_run=made is None,
        active_runs=look.active,
        waiting_requests=look.waiting,
        items=items[:MOST_REPAIRS],
        left=plan.left,
        healed=plan.healed,
        trouble=look.trouble,
    )
