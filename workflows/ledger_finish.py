"""A round that is kept becomes visible: its events are written and folded side by side, then the pointer moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from springline import names
    from springline.ledger.request import VisibilityStatus
    from springline.sequencer.messages import Folded, Head, WorkspaceRef
    from workflows.ledger_progress import Accepted, Progress
    from workflows.ledger_steps import append_and_fold, fresh_ulid, now_ms, publish

VISIBLE_WITHIN = timedelta(seconds=20)
"""After this long, callers whose events are kept are told so, though readers do not see them yet."""


async def make_visible(
    workspace: WorkspaceRef, head: Head, accepted: Accepted, progress: Progress, phase: Callable[[str], None]
) -> Head | None:
    """Make a round visible on top of `head`, and answer its callers; None if another publisher was faster.

    Callers do not wait for ever: after `VISIBLE_WITHIN` they are told that their events are kept. Raises
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
