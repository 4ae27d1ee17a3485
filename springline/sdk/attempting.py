"""One attempt: a function called with its context and its inputs, whatever comes of it.

`materialize` and the processes of `springline work` make attempts by this module alone.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from springline.sdk.checking import CheckFailed, checked
from springline.sdk.checks import CheckOutcome
from springline.sdk.configs import config_of
from springline.sdk.context import Context
from springline.sdk.declaring import DeclaredNode
from springline.sdk.errors import Cancelled, NonRetryable

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempted:
    """How an attempt ended: `value` is what the function returned, unless it raised `error`.

    Attributes:
        interrupted: it was told to stop while it ran.
        timed_out: an async function was stopped because its time was over; there is no error then.
        checks: what the asset's checks have found, once the function had returned.
    """

    value: Any = None
    error: BaseException | None = None
    interrupted: bool = False
    timed_out: bool = False
    checks: Sequence[CheckOutcome] = ()


class Attempts:
    """Makes attempts one after the other in this thread; async functions share an event loop. `close` ends it."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None
        self._inside = False
        self._interrupted = False

    def make(
        self,
        asset: DeclaredNode[..., Any],
        context: Context[Any],
        arguments: Mapping[str, Any],
        limit_s: float | None = None,
    ) -> Attempted:
        """Call the asset's function with `arguments`, and with `context` if it takes one, then make its checks.

        If the asset declares a model of its config, `context.config` becomes an instance of it before; a config that
        does not fit fails the attempt. An async function is cancelled after `limit_s` seconds. Raises only
        `KeyboardInterrupt`, if the function does: what else ends a program or a task ends an attempt here.
        """
        given = dict(arguments)
        if asset.context_argument is not None:
            given[asset.context_argument] = context
        function = asset.function if asset.config_model is None else partial(_configured, asset, context)
        return self.call(partial(function, **given), limit_s, partial(_checked, asset, context))

    def call(
        self,
        function: Callable[[], Any],
        limit_s: float | None = None,
        checks: Callable[[Any], Sequence[CheckOutcome]] | None = None,
    ) -> Attempted:
        """Call a function as `make` calls that of an asset; `checks` look at what it returns."""
        self._interrupted = False
        process = os.getpid()
        found: Sequence[CheckOutcome] = ()
        try:
            try:
                self._inside = True
                value = function()
                if inspect.isawaitable(value):
                    value = self._run(value, limit_s)
                if checks is not None:
                    found = checks(value)
            finally:
                # From here on `interrupt` raises nothing, so that only these lines can be cut short.
                self._inside = False
                self._task = None
                if os.getpid() != process:
                    _end_copy(sys.exc_info()[1])
        except _TimedOut:
            return Attempted(timed_out=True, interrupted=self._interrupted)
        except KeyboardInterrupt:
            raise
        except CheckFailed as error:
            return Attempted(error=error, interrupted=self._interrupted, checks=error.outcomes)
        except BaseException as error:
            return Attempted(error=error, interrupted=self._interrupted)
        return Attempted(value, interrupted=self._interrupted, checks=found)

    def interrupt(self) -> None:
        """Stop the attempt that is under way: to be called by a signal handler of the thread that makes it.

        An async function's task is cancelled; in any other one `Cancelled` is raised, once. Without an attempt nothing
        happens.
        """
        if not self._inside or self._interrupted:
            return
        self._interrupted = True
        task = self._task
        if task is None:
            raise Cancelled("the attempt is to stop")
        task.get_loop().call_soon_threadsafe(task.cancel)

    def close(self) -> None:
        """End the event loop, if there is one."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _run(self, awaitable: Awaitable[Any], limit_s: float | None) -> Any:
        import asyncio  # noqa: PLC0415 - functions without async need none of it

        if self._runner is None:
            self._runner = asyncio.Runner()

        async def within() -> Any:
            self._task = asyncio.current_task()
            try:
                async with asyncio.timeout(limit_s) as limit:
                    return await awaitable
            except TimeoutError:
                if limit.expired():
                    raise _TimedOut from None
                raise
            finally:
                self._task = None

        return self._runner.run(within())


def _end_copy(error: BaseException | None) -> NoReturn:
    """End a copy of this process that a function has forked, as Python would: it is no attempt, and tells of none."""
    code = error.code if isinstance(error, SystemExit) else None
    if isinstance(error, SystemExit) and not isinstance(code, int | None):
        sys.stderr.write(f"{code}\n")
    elif error is not None and not isinstance(error, SystemExit):
        traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    ended_well = error is None or (isinstance(error, SystemExit) and code is None)
    os._exit(code & 0xFF if isinstance(code, int) else int(not ended_well))


def _configured(asset: DeclaredNode[..., Any], context: Context[Any], /, **given: Any) -> Any:
    """Call an asset's function with the config that it declares. A model's validators are user code as it is."""
    assert asset.config_model is not None
    context.config = config_of(asset.config_model, context.config, asset.key)
    return asset.function(**given)


def _checked(asset: DeclaredNode[..., Any], context: Context[Any], value: Any) -> Sequence[CheckOutcome]:
    """Make an asset's checks of what its function returned. Raises `NonRetryable` if that has still to run."""
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        # A function that yields itself is told when its file is validated, one behind a decorator only here.
        kind = "a generator" if inspect.isgenerator(value) else "an async generator"
        raise NonRetryable(
            f"the function returned {kind}, of which nothing has run: return list(...) of it, or another value"
        )
    return checked(asset.key, asset.checks, value, context) if asset.checks else ()


def outside_of_any_loop(call: Callable[[], T]) -> T:
    """Call where no event loop is running, so that functions may start one: here, or on a thread of its own."""
    import asyncio  # noqa: PLC0415 - importing the library must be quick

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        runs_here = True
    else:
        runs_here = False
    if runs_here:
        # Behind the handler: what functions raise is not told as raised while another error was handled.
        return call()
    import contextvars  # noqa: PLC0415
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(1, "springline") as threads:
        return threads.submit(contextvars.copy_context().run, call).result()


class _TimedOut(Exception):
    """An attempt's time is over."""
