"""`springline report`: what happened in the workspace and what is wrong now, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from springline.cli.documents import Document, hint
from springline.cli.http import DEFAULT_WAIT_SECONDS, Api, ApiOption, TokenOption, WaitOption
from springline.errors import Code, refused

_ROUTE: Final = "/report"
_MOST_HOURS: Final = 24 * 366


def report(
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where it is written; what is there is replaced.")
    ] = (Path("report.html")),
    since: Annotated[
        str | None, typer.Option("--since", metavar="INSTANT", help="From this instant, RFC 3339; instead of --hours.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="INSTANT", help="Up to this instant, RFC 3339; by default now.")
    ] = None,
    hours: Annotated[
        int | None,
        typer.Option("--hours", metavar="N", min=1, max=_MOST_HOURS, help="The last N hours; by default 24."),
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Write what happened in the workspace and what is wrong now as one HTML file.

    It needs nothing else: it can be opened without a network, and sent to somebody. Runs with their attempts, ticks,
    sensors, backfills, partitions, commits of tasks, the ledger's lag; what is wrong now comes first.
    """
    if since is not None and hours is not None:
        raise refused(
            Code.INVALID_REQUEST,
            "--since and --hours both say where the report begins",
            field="--hours",
            value=hours,
            remedy="Leave one of them out.",
        )
    given: dict[str, str | float | list[str] | None] = {"since": since, "until": until, "hours": hours}
    with Api(api, token, wait_s=wait) as surface:
        page = surface.text(_ROUTE, {name: value for name, value in given.items() if value is not None}).encode()
    try:
        out.write_bytes(page)
    except OSError as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"the file {str(out)!r} cannot be written: {error.strerror or error}",
            field="--out",
            value=str(out),
            remedy="Name a file in a folder that there is, and that you may write.",
        ) from error
    hint(f"open {out} in a browser")
    return {"out": str(out), "bytes": len(page)}
