"""ProbeWorkflow: checks that a queue has a worker, and returns the worker's identity. One quick activity."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.messages import Probed
    from springline import names
    from workflows.failures import ENDS_THE_RUN
    from workflows.policies import PROBE_RETRY

STEP_TIMEOUT = timedelta(seconds=5)


@workflow.defn(name=names.PROBE_WORKFLOW, failure_exception_types=ENDS_THE_RUN)
class ProbeWorkflow:
    """Asks a worker of its own task queue for its identity."""

    def __init__(self) -> None:
        self._probed: Probed | None = None

    @workflow.run
    async def run(self) -> Probed:
        """Return the answer of the worker that took the activity."""
        self._probed = await workflow.execute_activity(
            names.PROBE,
            result_type=Probed,
            schedule_to_close_timeout=STEP_TIMEOUT,
            start_to_close_timeout=STEP_TIMEOUT,
            retry_policy=PROBE_RETRY,
            summary="a worker says who it is",
        )
        assert self._probed is not None
        return self._probed

    @workflow.query(name=names.PROBED_QUERY, description="What the worker said of itself")
    def probed(self) -> Probed | None:
        """Return the answer of the worker that was asked."""
        return self._probed
