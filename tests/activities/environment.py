"""Activities without a worker, with everything around them that a worker puts there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from temporalio import activity
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ActivityOutboundInterceptor, ExecuteActivityInput

from activities.interceptor import StepInterceptor, step_of


class StepEnvironment(ActivityEnvironment):
    """Runs activities as a worker does: through the interceptor of `worker.build_workers`."""

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run an activity of ours."""
        assert not kwargs, "an activity has one order"
        self.info = dataclasses.replace(self.info, activity_type=step_of(fn).name)

        async def attempt() -> Any:
            inbound = StepInterceptor().intercept_activity(_Inbound())
            inbound.init(_Outbound(self))
            return await inbound.execute_activity(ExecuteActivityInput(fn, args, None, {}))

        return super().run(attempt)


class _Inbound(ActivityInboundInterceptor):
    """The end of the chain; the environment gives the activity its context."""

    def __init__(self) -> None:
        pass

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        activity._Context.current().heartbeat = outbound.heartbeat

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        return await input.fn(*input.args)


class _Outbound(ActivityOutboundInterceptor):
    def __init__(self, environment: ActivityEnvironment) -> None:
        self._environment = environment

    def info(self) -> activity.Info:
        return self._environment.info

    def heartbeat(self, *details: Any) -> None:
        self._environment.on_heartbeat(*details)
