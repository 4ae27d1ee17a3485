"""`@asset`: declaring what a function makes, what it needs, and how it is run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, overload

from springline.definitions.partitions import Partitions
from springline.sdk.checks import Check
from springline.sdk.declaring import OPTIONS, DeclaredNode, Dep, External, P, R, checked_url, declared_by
from springline.sdk.errors import NonRetryable
from springline.sdk.pools import Pool

if TYPE_CHECKING:
    from springline.sdk.configs import ConfigModel

_OF_WORKERS: Final = ("key", "memory", "queue", "pool", "checks", "config")
_HTTP_OPTIONS: Final = {name: OPTIONS[name] for name in OPTIONS if name not in _OF_WORKERS} | {
    "key": OPTIONS["key"],
    "url": ("url", checked_url),
}
"""Likewise, of an asset that is made over HTTP: no queue, for no worker takes it from one, no pool yet, and no checks
and no memory, for neither its rows nor its process are anywhere that we see, and the config as JSON."""


class Asset(DeclaredNode[P, R], Generic[P, R]):
    """A function that makes an asset; calling it calls the function."""

    kind: ClassVar[str] = "asset"


@overload
def asset(function: Callable[P, R], /) -> Asset[P, R]: ...
@overload
def asset(
    *,
    key: str | None = None,
    deps: Sequence[DeclaredNode[..., Any] | External | Dep | str] | None = None,
    partitions: Partitions | None = None,
    retries: int | None = None,
    retry_delay: str | timedelta | None = None,
    timeout: str | timedelta | None = None,
    heartbeat: str | timedelta | None = None,
    memory: str | None = None,
    freshness: str | timedelta | None = None,
    queue: str | None = None,
    pool: str | Pool | None = None,
    priority: int | None = None,
    code_version: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    owners: Sequence[str] | None = None,
    checks: Sequence[Check] | None = None,
    config: type[ConfigModel] | None = None,
) -> Callable[[Callable[P, R]], Asset[P, R]]: ...
def asset(function: Any = None, /, **options: Any) -> Any:
    """Declare that a function makes an asset. Nothing runs; wrong options are told when the file is validated.

    A parameter that names another asset, or a task, takes its output; one called `context` takes the `Context`; one
    with a default is left alone. Functions may be `async`. Other decorators go below this one: of what lies above it
    runs know nothing.

    Args:
        key: unique in the workspace; by default the function's name.
        deps: further assets and tasks that come before, by object or by name; `dep(...)` says which partitions.
        partitions: `hourly`, `daily`, `weekly`, `monthly`, `static`, or two of them by `multi_partitions`.
        retries: how often a failed attempt is followed by another.
        retry_delay: how long a run waits before it makes another, such as "5s", doubled each time up to 15 min; by
            default 30 s. `materialize` does not wait.
        timeout: how long an attempt may take, such as "10m".
        heartbeat: after how long without a sign of life a worker's attempt counts as lost.
        memory: how much memory an attempt may use, its process and what that has started, such as "512MiB"; beyond it
            the attempt fails. By default as the worker has it (`springline work --memory-limit`). `materialize` has no
            limit.
        freshness: how old it may be before it counts as stale; of partitions by time, those that were made before their
            time had ended.
        queue: where workers take it from.
        pool: whose slots bound how many run at once, over all runs: `pool("warehouse", slots=3)`, or its name.
        priority: of what waits, the greater is first.
        code_version: what you call this version of the code.
        description: for people; by default the first paragraph of the docstring.
        tags, owners: for people, and for filters.
        checks: what must hold of the rows that it makes, before anybody sees them (`springline.sdk.checks`).
        config: a Pydantic model that the run's config has to fit: `context.config` is an instance of it, with its
            defaults. It judges the whole config, which all assets of a run share: fields that it does not know are
            ignored, as Pydantic does, unless it says `extra="forbid"`. An attempt that it refuses is not tried again.
            With `context: Context[Settings]` type checkers know its fields.
    """
    return declared_by(Asset, function, options, sys._getframe(1))


def http_asset(
    key: str,
    *,
    url: str,
    deps: Sequence[DeclaredNode[..., Any] | External | Dep | str] | None = None,
    partitions: Partitions | None = None,
    retries: int | None = None,
    retry_delay: str | timedelta | None = None,
    timeout: str | timedelta | None = None,
    heartbeat: str | timedelta | None = None,
    freshness: str | timedelta | None = None,
    priority: int | None = None,
    code_version: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    owners: Sequence[str] | None = None,
    **unknown: Any,
) -> Asset[[], None]:
    """Declare an asset that a program of any language makes: its attempts are posted to `url`.

    The program calls back when it starts, now and then while it works, and at the end. What it hands to nobody is its
    output: other assets depend on it by `deps`, and read what it has written. Operators say which URLs are allowed.

    Args:
        key: unique in the workspace.
        url: http or https, without query. It gets each attempt at least once.
        timeout: how long an attempt may take from its start; by default a day.
        heartbeat: after how long without a callback an attempt counts as lost; by default a minute.
        deps, partitions, retries, retry_delay, freshness, priority, code_version, description, tags, owners: as `asset`
            has them.
    """

    def elsewhere() -> None:
        raise NonRetryable(f"{key} is made over HTTP, at {url}: materialize makes what Python functions make")

    elsewhere.__name__ = str(key)
    given = {
        "key": key,
        "url": url,
        "deps": deps,
        "partitions": partitions,
        "retries": retries,
        "retry_delay": retry_delay,
        "timeout": timeout,
        "heartbeat": heartbeat,
        "freshness": freshness,
        "priority": priority,
        "code_version": code_version,
        "description": description,
        "tags": tags,
        "owners": owners,
    }
    made = Asset(elsewhere, {**given, **unknown}, sys._getframe(1), _HTTP_OPTIONS)
    for name, value in (("key", key), ("url", url)):
        if value is None:
            made._problems.append((f"has no {name}", "Give one: http_asset('prices', url='https://...')."))
    return made
