"""A stack whose API and workers are forked: tests start them again and again, and most are not about how they start."""

from __future__ import annotations

from springline.local.processes import Child
from springline.local.stack import API, EmbeddedStack, Ready
from tests.support.forks import ForkedChild


class ForkedStack(EmbeddedStack):
    """The embedded stack, with API and workers of the product that need not be imported."""

    def _add(self, name: str, child: Child, ready: Ready) -> None:
        if name == API:
            child = ForkedChild(name, "entrypoints.api", [], env=child._env, cwd=child._cwd, log=child.log)
        elif name in self.worker_names:
            child = ForkedChild(name, "worker", [], env=child._env, cwd=child._cwd, log=child.log)
        super()._add(name, child, ready)
