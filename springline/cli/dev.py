"""`springline dev`: the embedded stack in the foreground."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from springline.cli.dev_pipelines import DevPipelines, read_pipelines
from springline.cli.documents import DocumentVerdict, emit, hint
from springline.cli.http import API_VARIABLE, TOKEN_VARIABLE
from springline.cli.work import MemoryLimitOption, checked_limit
from springline.config import PREFIX, Settings, load_settings
from springline.errors import Code, refused
from springline.exits import EXIT_BAD_INPUT
from springline.local.processes import SOURCES, module_command, signals_unwind
from springline.local.run import ToolFailed, ToolMisconfigured
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from springline.work.request import MOST_CONCURRENCY

FOLDER = Path(".springline/dev")
_WATCH_SECONDS = 0.5
_PAUSES_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""The pause before a process is started again, by how often in a row it ended before it was ready."""
_RESTART_SECONDS = 10.0
"""How long a worker of a pipeline file may take to end before it is killed and started anew."""
_ENDED_BY_OPERATOR = frozenset(128 + number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def dev(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Pipeline files, or modules by their dotted names: each is deployed, with a worker.",
        ),
    ] = None,
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="T", help="Tenant of the workspace.")] = "acme",
    workspace: Annotated[str, typer.Option("--workspace", metavar="W", help="Name of the workspace.")] = "dev",
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=16, help="How many workers, those of files aside.")
    ] = 1,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            metavar="N",
            min=1,
            max=MOST_CONCURRENCY,
            help="With FILE: how many attempts its worker makes at once; default: as many as there are processors.",
        ),
    ] = None,
    memory_limit: MemoryLimitOption = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="Where the tables go; default: below the folder.")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where everything is kept: tables, Temporal's database, ports, token.")
    ] = FOLDER,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove what earlier starts left in the folder.")] = False,
    temporary: Annotated[
        bool, typer.Option("--temporary", help="Keep everything in a new folder below it, removed at the end.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="With --temporary: leave the files behind.")] = False,
) -> DocumentVerdict:
    """Run Temporal, workers and the API on this machine until Ctrl-C, with a token.

    Prints the addresses and the token as soon as everything is ready. The next start in the same folder goes on with
    the same tables, runs, ports and token. A process of the stack that dies is started again: kill a worker and watch.

    With FILE, deploys it as `springline deploy` does, and makes its attempts as `springline work` does. When FILE or a
    module of yours that it imports changes, it is deployed again and its worker started anew. Exit code: 2 a file is
    not valid, and nothing was started.
    """
    if fresh and temporary:
        raise refused(
            Code.INVALID_REQUEST,
            "--fresh and --temporary exclude each other: what is temporary is always new",
            field="--fresh",
            value=True,
            remedy="Give one of them.",
        )
    if store is not None:
        # Check here, or the stack's processes would fail one after the other.
        load_settings({"store_url": store})
    if concurrency is not None and not files:
        raise refused(
            Code.INVALID_REQUEST,
            "--concurrency is how many attempts of a pipeline file are made at once, and no file is given",
            field="--concurrency",
            value=concurrency,
            remedy="Give the FILE, or leave the option out.",
        )
    memory = checked_limit(memory_limit)
    read = read_pipelines(files or [])
    if isinstance(read, DocumentVerdict):
        return read
    pipelines = DevPipelines(read, concurrency or os.cpu_count() or 1, memory)
    stack = EmbeddedStack(
        folder.absolute(),
        scope=Scope(tenant, workspace),
        workers=workers,
        store_url=store,
        keep=keep,
        stays=not temporary,
        fresh=fresh,
    )
    passed_over = not_taken(os.environ)
    if passed_over:
        hint(f"not taken from this environment, because a stack has its own: {', '.join(passed_over)}")
    hint("starting Temporal, a worker and the API")
    try:
        with signals_unwind(), stack:
            environment = _environment(stack)
            entry = _write_entry(stack, environment)
            begun = pipelines.begin(stack, environment)
            document = {
                "api": stack.api_url,
                "web_ui": stack.web_ui_url,
                "temporal": stack.temporal_address,
                "store": stack.store_url,
                "tenant": tenant,
                "workspace": workspace,
                "folder": str(stack.folder),
                "source": str(entry),
                **({"pipelines": begun} if begun else {}),
                "environment": environment,
            }
            # `env.sh` holds the environment, so that the token need not stand on a screen.
            emit({name: value for name, value in document.items() if name != "environment" or not sys.stdout.isatty()})
            hint(f"ready; Ctrl-C ends it{_what_ends(stack, store, temporary=temporary, keep=keep)}")
            hint("in another terminal, `springline` and `temporal` find it after this line:")
            print(f"source {shlex.quote(str(entry))}", file=sys.stderr, flush=True)
            watch(stack, pipelines)
    except ToolMisconfigured as error:
        raise refused(
            Code.INVALID_REQUEST, error.problem, field="stack", value=str(folder), remedy=error.remedy
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


def not_taken(environment: Iterable[str]) -> list[str]:
    """Return the settings of workers and API in an environment that a stack does not take.

    Of its own are all, so that it never works on what is in production; that of the store is in `env.sh`, too.
    """
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields if name != "store_url"}
    return sorted(names & set(environment))


@dataclass(slots=True)
class _Tended:
    """The state of a process: whether it was ready, how often it has ended since without being so, its next start."""

    ready: bool = True
    failures: int = 0
    due: float | None = None
    killed_at: float | None = None
    """When it is killed, if it was told to end and start anew, and does not."""


def watch(
    stack: EmbeddedStack,
    pipelines: DevPipelines | None = None,
    *,
    pause: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Restart every process that dies, for ever; raises `ToolFailed` for one that ends repeatedly before it is ready.

    Of `pipelines` it deploys files that change, and starts their workers anew; a worker that cannot load its file waits
    for the next change of it, and any other is started for ever. `pause` waits so many seconds; `clock` returns
    monotonic seconds.
    """
    pipelines = pipelines or DevPipelines()
    tended: dict[str, _Tended] = {}
    while True:
        dead = stack.dead_children()
        down = dead.keys() | {name for name, one in tended.items() if not one.ready}
        for name in pipelines.renewed(down):
            tended[name] = _Tended(ready=False, killed_at=clock() + _RESTART_SECONDS)
            stack.child(name).signal(signal.SIGTERM)
        for name, code in dead.items():
            one = tended.setdefault(name, _Tended())
            pipeline = pipelines.of_child(name)
            if pipeline is not None and pipeline.waits:
                continue
            if one.killed_at is not None:
                one.killed_at, one.due = None, clock()
            if one.due is None:
                one.failures = 0 if one.ready else one.failures + 1
                one.ready = False
                if pipeline is not None and code == EXIT_BAD_INPUT:
                    pipeline.waits = True
                    hint(f"{name} cannot work as it is, and is started again when its file changes:")
                    hint(stack.child(name).log_tail())
                    continue
                if pipeline is None and one.failures >= len(_PAUSES_SECONDS):
                    said = f"{name} ended with code {code}, {one.failures} times in a row before it was ready"
                    raise ToolFailed(f"{said}:\n{stack.child(name).log_tail()}")
                wait_s = _PAUSES_SECONDS[min(one.failures, len(_PAUSES_SECONDS) - 1)]
                hint(f"{name} ended with code {code}; starting it again{f' in {wait_s:g} s' if wait_s else ''}")
                one.due = clock() + wait_s
            if clock() >= one.due:
                one.due = None
                stack.start_child(name, wait=False)
        for name, one in tended.items():
            if one.killed_at is not None:
                if clock() >= one.killed_at:
                    stack.kill(name)
            elif not one.ready and one.due is None and name not in dead and stack.lacks(name) is None:
                one.ready, one.failures = True, 0
                hint(f"{name} is ready again")
        pause(_WATCH_SECONDS)


def _environment(stack: EmbeddedStack) -> dict[str, str]:
    """Return the variables by which this command line, the client library and the Temporal CLI find the stack."""
    return {
        API_VARIABLE: stack.api_url,
        TOKEN_VARIABLE: stack.lasting_token(),
        f"{PREFIX}STORE_URL": stack.store_url,
        f"{PREFIX}TENANT": stack.scope.tenant,
        f"{PREFIX}WORKSPACE": stack.scope.workspace,
        "TEMPORAL_ADDRESS": stack.temporal_address,
    }


def _write_entry(stack: EmbeddedStack, environment: Mapping[str, str]) -> Path:
    """Write the file that a shell sources to find the stack and its programs; return its path."""
    programs = stack.folder / "bin"
    programs.mkdir(exist_ok=True)
    # This interpreter has the package; the console script may be anywhere, or not installed.
    path = f"PYTHONPATH={shlex.quote(str(SOURCES))}${{PYTHONPATH:+:$PYTHONPATH}}"
    command = f'{path} exec {shlex.join(module_command("springline.cli"))} "$@"'
    _write_anew(programs / "springline", f"#!/bin/sh\n{command}\n", 0o700)
    temporal = programs / "temporal"
    # Of a shell that has sourced this file, the program on the path is the link itself.
    program = stack.program.resolve()
    temporal.unlink(missing_ok=True)
    temporal.symlink_to(program)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    # A file that is sourced twice adds itself to the path once.
    place = shlex.quote(str(programs))
    added = f'case ":$PATH:" in *:{place}:*) ;; *) export PATH={place}:"$PATH" ;; esac'
    entry = stack.folder / "env.sh"
    _write_anew(entry, "\n".join([*exports, added]) + "\n", 0o600)
    return entry


def _write_anew(file: Path, text: str, mode: int) -> None:
    draft = file.with_name(f"{file.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:
        handle.write(text)
    draft.replace(file)


def _what_ends(stack: EmbeddedStack, store: str | None, *, temporary: bool, keep: bool) -> str:
    """Return the sentence that says what ending the stack removes."""
    if not temporary or keep:
        again = "the next start goes on with it, --fresh starts anew" if not temporary else "--keep was given"
        return f" and removes nothing: tables, runs, ports and token stay in {stack.folder}; {again}"
    tables = "all tables and runs" if store is None else f"all runs; the tables stay in {store}"
    return f" and removes {stack.folder} with {tables}"
