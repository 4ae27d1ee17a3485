"""`springline work`: a worker for the attempts of a pipeline file. This command becomes its process."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from springline.cli.documents import DocumentVerdict, hint
from springline.cli.http import API_VARIABLE, TOKEN_VARIABLE, ApiOption, TokenOption
from springline.cli.pipelines import FileArgument, LocationOption, describe, verdict
from springline.cli.stores import StoreOption, TenantOption, WorkspaceOption, checked_store_url
from springline.config import PREFIX
from springline.definitions.sizes import memory_bytes
from springline.errors import Code, refused
from springline.local.processes import module_command, module_path
from springline.paths import Scope
from springline.work.request import DEFAULT_GRACE_S, DEFAULT_QUEUE, MOST_CONCURRENCY, WorkRequest

_MODULE = "entrypoints.work"
MemoryLimitOption = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="SIZE",
        envvar="SPRINGLINE_MEMORY_LIMIT",
        help="How much memory an attempt may use whose asset has no memory=..., such as 2GiB; beyond it, the "
        "attempt fails and its process is killed. By default any.",
    ),
]


def work(
    file: FileArgument,
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    location: LocationOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            "--concurrency",
            metavar="N",
            min=1,
            max=MOST_CONCURRENCY,
            help="How many attempts at once, at least one for each queue; default: as many as there are processors.",
        ),
    ] = None,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME",
            help=f"Take attempts from this queue only; {DEFAULT_QUEUE} is that of assets without one. May be given "
            "several times; by default from all of the file.",
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            "--grace",
            metavar="SECONDS",
            min=0,
            help="How long a function may take to end that is cancelled or took too long; then its process is killed.",
        ),
    ] = DEFAULT_GRACE_S,
    memory_limit: MemoryLimitOption = None,
) -> DocumentVerdict:
    """Take the attempts of a pipeline file's assets from Temporal and make them on this machine, until Ctrl-C.

    Each attempt runs in a process of its own. Functions that use context.table need --api and --token.
    TEMPORAL_ADDRESS and the other variables of the Temporal CLI say where Temporal is. Whoever reaches it can have this
    worker run the functions of the file. Exit code: 0 after a signal, 2 the file is not valid, 4 Temporal or the store
    does not answer.
    """
    Scope(tenant, workspace)
    url = checked_store_url(store)
    memory = checked_limit(memory_limit)
    found = describe(file, location)
    if found["problems"]:
        return verdict(found)
    request = WorkRequest(
        file=file,
        tenant=tenant,
        workspace=workspace,
        location=found["location"],
        concurrency=concurrency or os.cpu_count() or 1,
        queues=queue or [],
        grace_s=grace,
        memory_bytes=memory,
        python_path=os.environ.get("PYTHONPATH"),
    )
    environment = {
        **os.environ,
        "PYTHONPATH": module_path(os.environ.get("PYTHONPATH")),
        f"{PREFIX}STORE_URL": url,
        # What the functions' tables need, as context.table: it may come from an option or a profile.
        **{name: value for name, value in ((API_VARIABLE, api), (TOKEN_VARIABLE, token)) if value},
    }
    hint(f"starting a worker for {len(found['keys'])} asset{'' if len(found['keys']) == 1 else 's'}; Ctrl-C ends it")
    sys.stderr.flush()
    command = module_command(_MODULE, request.model_dump_json())
    os.execve(command[0], command, environment)


def checked_limit(text: str | None) -> int | None:
    """Return the bytes of a limit of memory, None without one. Raises `Refused` for what is no size."""
    if text is None:
        return None
    try:
        return memory_bytes(text)
    except ValueError as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"--memory-limit {text!r} {error}",
            field="--memory-limit",
            value=text,
            remedy="Give a size such as 512MiB or 2GiB. Without the option and SPRINGLINE_MEMORY_LIMIT, only assets "
            "with memory=... have a limit.",
        ) from None
