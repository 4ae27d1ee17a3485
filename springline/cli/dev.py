"""`springline dev`: the embedded stack in the foreground."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from springline.cli.documents import emit, hint
from springline.cli.http import API_VARIABLE, TOKEN_VARIABLE
from springline.config import PREFIX, load_settings
from springline.errors import Code, refused
from springline.local.processes import signals_unwind
from springline.local.run import ToolFailed, ToolMisconfigured
from springline.local.stack import EmbeddedStack
from springline.paths import Scope

FOLDER = Path(".springline")
_WATCH_SECONDS = 0.5
_SHORTEST_LIFE_SECONDS = 10.0
"""A process that ends sooner than this after its start is not started again."""
_ENDED_BY_OPERATOR = frozenset(128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def dev(
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="T", help="Tenant of the workspace.")] = "acme",
    workspace: Annotated[str, typer.Option("--workspace", metavar="W", help="Name of the workspace.")] = "dev",
    workers: Annotated[int, typer.Option("--workers", min=1, max=16, help="How many workers.")] = 1,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Where the tables go; default: below the folder.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where the run keeps its files.")] = FOLDER,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the run's files behind at the end.")] = False,
) -> None:
    """Run Temporal, workers and the API on this machine until Ctrl-C, with a token.

    Prints the addresses and the token as soon as everything is ready. A process of the stack that dies is
    started again: kill a worker and watch.
    """
    if store is not None:
        # The processes of the stack would find out one after the other.
        load_settings({"store_url": store})
    stack = EmbeddedStack(
        folder.absolute(), scope=Scope(tenant, workspace), workers=workers, store_url=store, keep=keep
    )
    try:
        with signals_unwind(), stack:
            environment = _environment(stack)
            document = {
                "api": stack.api_url,
                "web_ui": stack.web_ui_url,
                "temporal": stack.temporal_address,
                "store": stack.store_url,
                "tenant": tenant,
                "workspace": workspace,
                "folder": str(stack.folder),
                "environment": environment,
            }
            emit(document)
            hint("ready; Ctrl-C ends it. In another terminal:")
            for name, value in environment.items():
                print(f"export {name}={value}", file=sys.stderr, flush=True)
            watch(stack)
    except ToolMisconfigured as error:
        raise refused(
            Code.INVALID_REQUEST, str(error), field="stack", value=str(folder), remedy="Correct what is said here."
        ) from error
    except ToolFailed as error:
        raise refused(
            Code.UNAVAILABLE,
            str(error),
            field="stack",
            value=str(folder),
            remedy="Correct what is said here and in the logs it names, then run the same command again.",
        ) from error
    except SystemExit as ended:
        if ended.code not in _ENDED_BY_OPERATOR:
            raise
    raise typer.Exit(0)


def watch(
    stack: EmbeddedStack,
    *,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Start again whatever dies, for ever; raises `ToolFailed` for what dies right after its start.

    `pause` waits so many seconds; `clock` returns monotonic seconds.
    """
    began = clock()
    started: dict[str, float] = {}
    while True:
        for name, code in stack.dead_children().items():
            if clock() - started.get(name, began) < _SHORTEST_LIFE_SECONDS and name in started:
                raise ToolFailed(f"{name} ended with code {code} again:\n{stack.child(name).log_tail()}")
            hint(f"{name} ended with code {code}; starting it again")
            started[name] = clock()
            stack.start_child(name)
        pause(_WATCH_SECONDS)


def _environment(stack: EmbeddedStack) -> dict[str, str]:
    """Return the variables by which this command line, the client library and the Temporal CLI find the stack."""
    return {
        API_VARIABLE: stack.api_url,
        TOKEN_VARIABLE: stack.token(),
        f"{PREFIX}STORE_URL": stack.store_url,
        "TEMPORAL_ADDRESS": stack.temporal_address,
    }
