"""Calls of RebuildWorkflow: its activities, their limits and retries, search attributes."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from springline.sequencer.messages import Order, WorkspaceRef
    from workflows.lifecycle import (
        FAILURE_CLASS_KEY,
        REBUILD_MODE_KEY,
        REBUILD_PERCENT_KEY,
        REBUILD_PHASE_KEY,
        SEARCH_TENANT_KEY,
        SEARCH_WORKSPACE_KEY,
    )
    from workflows.policies import REBUILD_HEARTBEAT, REBUILD_RETRY, REBUILD_START_TO_CLOSE

R = TypeVar("R", bound=Order)

SHOWN_EVERY_PERCENT = 10.0
"""Search attributes move in steps: each change is an event of the history."""


async def run_part(
    name: str, order: Order, result_type: type[R], summary: str, *, limit: timedelta = REBUILD_START_TO_CLOSE
) -> R:
    """Run the rebuild activity `name`; the Web UI shows its `summary`.

    Raises `ActivityError` when it failed for good; passing faults are tried again for as long as they last. A
    cancelled rebuild waits for none: the next rebuild finds and finishes what an activity left half done.
    """
    result: R = await workflow.execute_activity(
        name,
        order,
        result_type=result_type,
        start_to_close_timeout=limit,
        heartbeat_timeout=REBUILD_HEARTBEAT,
        retry_policy=REBUILD_RETRY,
        cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
        summary=summary,
    )
    return result


class Shown:
    """The search attributes of a rebuild, changed when there is something to show."""

    def __init__(self) -> None:
        self._phase = ""
        self._percent = -SHOWN_EVERY_PERCENT

    def begin(self, workspace: WorkspaceRef, mode: str) -> None:
        """Make a run findable by its workspace and mode."""
        workflow.upsert_search_attributes(
            [
                SEARCH_TENANT_KEY.value_set(workspace.tenant),
                SEARCH_WORKSPACE_KEY.value_set(workspace.workspace),
                REBUILD_MODE_KEY.value_set(mode),
            ]
        )

    def show(self, phase: str, percent: float, failure: str | None = None) -> None:
        """Show phase and per cent, if the phase changed or `SHOWN_EVERY_PERCENT` more are done, and a failure."""
        if phase == self._phase and percent < self._percent + SHOWN_EVERY_PERCENT and failure is None:
            return
        self._phase, self._percent = phase, percent
        workflow.upsert_search_attributes(
            [
                REBUILD_PHASE_KEY.value_set(phase),
                REBUILD_PERCENT_KEY.value_set(percent),
                FAILURE_CLASS_KEY.value_set(failure) if failure is not None else FAILURE_CLASS_KEY.value_unset(),
            ]
        )
