"""`springline hold show | set | release`: whether anything new may begin in the workspace, through the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from springline.cli.documents import Listing, described
from springline.cli.http import DEFAULT_WAIT_SECONDS, HOLD, Api, ApiOption, TokenOption, WaitOption

Json = dict[str, Any]


def show(*, api: ApiOption = None, token: TokenOption = None, wait: WaitOption = DEFAULT_WAIT_SECONDS) -> Listing:
    """Show whether the workspace is held, who said so, when and why."""
    with Api(api, token, wait_s=wait) as surface:
        return _shown(surface.call("GET", root=HOLD).body)


def set_hold(
    *,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Shown wherever something waits for the end of the hold."),
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Let nothing new begin in the workspace until the hold is taken off; what runs goes on. Safe to repeat."""
    with Api(api, token, wait_s=wait) as surface:
        return _shown(surface.call("PUT", root=HOLD, body={"held": True, "reason": reason}).body)


def release(
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Let the workspace go on; what has waited begins within seconds. Safe to repeat."""
    with Api(api, token, wait_s=wait) as surface:
        return _shown(surface.call("PUT", root=HOLD, body={"held": False}).body)


def _shown(found: Json) -> Listing:
    return described(found, {name: value for name, value in found.items() if value is not None})
