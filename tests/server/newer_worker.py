"""A worker of the next build, whose workflows do one activity more: `python -m tests.server.newer_worker`.

A commit writes its markers twice, an append its events: both are safe to repeat, so that only the course of the
workflows differs. It is the real worker otherwise; SPRINGLINE_BUILD_ID names its build.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import worker
from springline import names
from workflows import commit, commit_steps, ledger_steps


def twice(run: Callable[..., Awaitable[Any]], repeated: str) -> Callable[..., Awaitable[Any]]:
    """Return what runs a step, but the `repeated` one twice."""

    async def run_more(name: str, *arguments: Any, **options: Any) -> Any:
        if name == repeated:
            await run(name, *arguments, **options)
        return await run(name, *arguments, **options)

    return run_more


def main() -> None:
    """Run the worker."""
    setattr(commit, "run_step", twice(commit_steps.run_step, names.WRITE_MARKER))  # noqa: B010 - names of other modules
    setattr(ledger_steps, "_step", twice(ledger_steps._step, names.APPEND_EVENTS))  # noqa: B010 - as above
    worker.main()


if __name__ == "__main__":
    main()
