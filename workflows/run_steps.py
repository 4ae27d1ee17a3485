"""Steps of whoever acts for runs before anything is recorded: tried for a bounded time, then left to a later pass."""

from __future__ import annotations

from typing import Any, TypeVar

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from workflows.policies import BEFORE_RESERVED_RETRY, RUN_HEARTBEAT, RUN_START_TO_CLOSE

R = TypeVar("R")


async def run_step(name: str, order: Any, result_type: type[R], summary: str) -> R:
    """Run a step and return its result; raises `ActivityError` if it failed for good."""
    result: R = await workflow.execute_activity(
        name,
        order,
        result_type=result_type,
        start_to_close_timeout=RUN_START_TO_CLOSE,
        heartbeat_timeout=RUN_HEARTBEAT,
        retry_policy=BEFORE_RESERVED_RETRY,
        summary=summary,
    )
    return result
