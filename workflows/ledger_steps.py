"""The steps of a ledger round as activities: names and times are fixed here, so that a retry repeats them.

A kept round becomes visible: activities write and fold its events side by side, then the pointer moves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.ledger.request import VisibilityStatus
    from springline.rebuild.messages import StateSwitched, SwitchOrder, SwitchStateOrder
    from springline.sequencer.messages import (
        AdmitForeignOrder,
        AdmitOrder,
        Admitted,
        Appended,
        Folded,
        FoldOrder,
        Head,
        Opened,
        OpenOrder,
        Order,
        PendingRound,
        Published,
        PublishOrder,
        RoundStep,
        WorkspaceRef,
    )
    from workflows.ledger_messages import GarbageStart
    from workflows.ledger_progress import Accepted, Progress
    from workflows.ledger_queue import AppendTicket, IngestTicket
    from workflows.lifecycle import SEARCH_TENANT_KEY, SEARCH_WORKSPACE_KEY, fresh_ulid, now_ms
    from workflows.policies import (
        BEFORE_RESERVED_RETRY,
        LEDGER_HEARTBEAT,
        LEDGER_RETRY,
        LEDGER_START_TO_CLOSE,
        WORKFLOW_TASK_TIMEOUT,
    )

R = TypeVar("R", bound=Order)

VISIBLE_WITHIN = timedelta(seconds=20)
"""After this long, callers get the answer that their events are kept, though readers do not see them yet."""


async def open_ledger(workspace: WorkspaceRef) -> Opened:
    """Return where the workspace stands. All functions here raise `ActivityError` if a step failed for good."""
    order = OpenOrder(workspace=workspace)
    return await _step(names.OPEN_LEDGER, order, Opened, "where the workspace stands", bounded=True)


async def admit(
    workspace: WorkspaceRef, head: Head, number: int, tickets: list[AppendTicket], first_event_id: str
) -> Admitted:
    """Judge requests, and create the round's record if any event is to be written."""
    order = AdmitOrder(
        workspace=workspace,
        head=head,
        round=number,
        first_event_id=first_event_id,
        now_ms=now_ms(),
        writer=workflow.info().run_id,
        requests=[ticket.request for ticket in tickets],
    )
    events = sum(ticket.units for ticket in tickets)
    return await _step(
        names.ADMIT,
        order,
        Admitted,
        f"round {number}: judge {len(tickets)} request(s) of {events} event(s); once the record stands, they are kept",
        bounded=True,
    )


async def admit_foreign(workspace: WorkspaceRef, head: Head, number: int, tickets: list[IngestTicket]) -> Admitted:
    """Judge foreign events, and create the round's record if any is accepted."""
    order = AdmitForeignOrder(
        workspace=workspace,
        head=head,
        round=number,
        now_ms=now_ms(),
        writer=workflow.info().run_id,
        requests=[ticket.request for ticket in tickets],
    )
    paths = sum(ticket.units for ticket in tickets)
    what = f"round {number}: look at {paths} foreign event(s)"
    return await _step(names.ADMIT_FOREIGN, order, Admitted, what, bounded=True)


async def append_and_fold(
    workspace: WorkspaceRef, head: Head, pending: PendingRound, manifest_revision: str
) -> tuple[Appended, Folded]:
    """Write the round's events, and beside it fold them; both have ended when this returns or raises."""
    what = f"round {pending.number}: {{}} {pending.events} {'foreign ' if pending.foreign else ''}event(s)"
    append = _step(names.APPEND_EVENTS, RoundStep(workspace=workspace, round=pending), Appended, what.format("write"))
    order = FoldOrder(
        workspace=workspace,
        head=head,
        round=pending,
        delta_id=fresh_ulid(),
        snapshot_id=fresh_ulid(),
        manifest_revision=manifest_revision,
        now_ms=now_ms(),
    )
    fold = _step(names.FOLD, order, Folded, what.format("fold") + f", revision {manifest_revision}")
    appended, folded = await asyncio.gather(append, fold, return_exceptions=True)
    if isinstance(appended, BaseException):
        raise appended
    if isinstance(folded, BaseException):
        raise folded
    return appended, folded


async def publish(
    workspace: WorkspaceRef, head: Head, pending: PendingRound, folded: Folded, manifest_revision: str
) -> Published:
    """Move the pointer to the folded manifest."""
    order = PublishOrder(
        workspace=workspace,
        head=head,
        round=pending,
        folded=folded,
        manifest_revision=manifest_revision,
        now_ms=now_ms(),
    )
    summary = f"round {pending.number}: publish manifest {folded.manifest_id}, revision {manifest_revision}"
    return await _step(names.PUBLISH, order, Published, summary)


async def make_visible(
    workspace: WorkspaceRef, head: Head, accepted: Accepted, progress: Progress, phase: Callable[[str], None]
) -> Head | None:
    """Make a round visible on top of `head`, and answer its callers; None if another publisher was faster.

    Callers do not wait for ever: after `VISIBLE_WITHIN` they get the answer that their events are kept. Raises
    `ActivityError` when a step failed for good.
    """
    began = now_ms()
    work = asyncio.create_task(_steps(workspace, head, accepted, progress, phase))
    with contextlib.suppress(TimeoutError):
        await workflow.wait_condition(work.done, timeout=VISIBLE_WITHIN, timeout_summary="a round becomes visible")
    if not work.done():
        accepted.tell(VisibilityStatus.PERSISTED_NOT_VISIBLE)
    folded, published = await work
    if published is not None:
        accepted.tell(VisibilityStatus.VISIBLE, published, folded)
        progress.note_visible(accepted, folded, published, began, now_ms())
    return published


async def _steps(
    workspace: WorkspaceRef, head: Head, accepted: Accepted, progress: Progress, phase: Callable[[str], None]
) -> tuple[Folded, Head | None]:
    pending, revision = accepted.round, fresh_ulid()
    number = pending.number
    phase(f"round {number}: writing and folding {pending.events} event(s)")
    appended, folded = await append_and_fold(workspace, head, pending, revision)
    progress.note_attempts(names.APPEND_EVENTS, number, appended.attempt)
    progress.damaged.extend(appended.damaged)
    progress.note_attempts(names.FOLD, number, folded.attempt)
    phase(f"round {number}: publishing revision {revision}")
    published = await publish(workspace, head, pending, folded, revision)
    progress.note_attempts(names.PUBLISH, number, published.attempt)
    return folded, published.head if published.kind == "visible" else None


async def switch_state(workspace: WorkspaceRef, switch: SwitchOrder) -> StateSwitched:
    """Publish the result of a rebuild."""
    order = SwitchStateOrder(
        workspace=workspace,
        switch=switch,
        base_revision=fresh_ulid(),
        manifest_revision=fresh_ulid(),
        delta_id=fresh_ulid(),
        snapshot_id=fresh_ulid(),
        now_ms=now_ms(),
    )
    what = f"switch in the state of the rebuild {switch.plan.work_id}, mode {switch.mode.value}"
    return await _step(names.SWITCH_STATE, order, StateSwitched, what)


async def _step(name: str, order: Order, result_type: type[R], summary: str, *, bounded: bool = False) -> R:
    """Run a step; with `bounded`, for steps before a record exists, for a bounded time."""
    result: R = await workflow.execute_activity(
        name,
        order,
        result_type=result_type,
        start_to_close_timeout=LEDGER_START_TO_CLOSE,
        heartbeat_timeout=LEDGER_HEARTBEAT,
        retry_policy=BEFORE_RESERVED_RETRY if bounded else LEDGER_RETRY,
        summary=summary,
    )
    return result


async def start_garbage_collection(workspace: WorkspaceRef) -> None:
    """Start a garbage collection that goes on by itself, unless one is under way."""
    tenant, name = workspace.tenant, workspace.workspace
    try:
        await workflow.start_child_workflow(
            names.GARBAGE_WORKFLOW,
            GarbageStart(tenant=tenant, workspace=name),
            id=names.garbage_workflow_id(tenant, name),
            task_queue=names.MAINTENANCE_QUEUE,
            parent_close_policy=workflow.ParentClosePolicy.ABANDON,
            task_timeout=WORKFLOW_TASK_TIMEOUT,
            static_summary=f"garbage of {tenant}/{name}",
        )
    except WorkflowAlreadyStartedError:
        workflow.logger.info("a garbage collection is under way")


def show_in_search(workspace: WorkspaceRef) -> None:
    """Make a run that was started by hand findable like any other."""
    if workflow.info().typed_search_attributes.get(SEARCH_WORKSPACE_KEY) is None:
        workflow.upsert_search_attributes(
            [SEARCH_TENANT_KEY.value_set(workspace.tenant), SEARCH_WORKSPACE_KEY.value_set(workspace.workspace)]
        )
