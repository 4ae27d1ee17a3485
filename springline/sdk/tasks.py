"""`@task`: declaring a function that is run between assets, and makes none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, overload

from springline.definitions.partitions import Partitions
from springline.sdk.declaring import OPTIONS, DeclaredNode, Dep, External, P, R, declared_by
from springline.sdk.pools import Pool

if TYPE_CHECKING:
    from springline.sdk.configs import ConfigModel

_ABOUT_WHAT_IS_MADE: Final = {
    "freshness": "A task makes nothing that could grow old: give freshness to the asset behind it.",
    "checks": "Checks look at what an asset makes: give checks to the asset behind it, or raise in the task.",
}
"""Options of assets that mean nothing for a task, and what to do instead."""
TASK_OPTIONS: Final = {name: OPTIONS[name] for name in OPTIONS if name not in _ABOUT_WHAT_IS_MADE}
"""Options of a task, as `OPTIONS` has those of an asset."""


class Task(DeclaredNode[P, R], Generic[P, R]):
    """A function that is run between assets, and makes none; calling it calls the function."""

    kind: ClassVar[str] = "task"

    def __init__(self, function: Callable[P, R], options: Mapping[str, Any], frame: FrameType | None) -> None:
        known = {name: one for name, one in options.items() if name not in _ABOUT_WHAT_IS_MADE}
        super().__init__(function, known, frame, TASK_OPTIONS)
        for name, remedy in _ABOUT_WHAT_IS_MADE.items():
            if options.get(name) is not None:
                self._problems.append((f"has the option {name}, which is one of assets", remedy))


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    key: str | None = None,
    deps: Sequence[DeclaredNode[..., Any] | External | Dep | str] | None = None,
    partitions: Partitions | None = None,
    retries: int | None = None,
    retry_delay: str | timedelta | None = None,
    timeout: str | timedelta | None = None,
    heartbeat: str | timedelta | None = None,
    memory: str | None = None,
    queue: str | None = None,
    pool: str | Pool | None = None,
    priority: int | None = None,
    code_version: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    owners: Sequence[str] | None = None,
    config: type[ConfigModel] | None = None,
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(function: Any = None, /, **options: Any) -> Any:
    """Declare that a function is run between assets, and makes none: it prepares, tells somebody, cleans up.

    It stands in the graph as an asset does: what it needs and what needs it is said by parameters and `deps`, and a
    parameter that names it takes what it returns. But nothing is materialized: it has no staleness, and no later run
    can take it as it is. So it runs in each run that makes an asset which needs it, and whenever it is selected.

    Args:
        key, deps, partitions, retries, retry_delay, timeout, heartbeat, memory, queue, pool, priority,
            code_version, description, tags, owners, config: as `asset` has them.
    """
    return declared_by(Task, function, options, sys._getframe(1))
