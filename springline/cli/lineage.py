"""`springline asset lineage`: which versions came from which run and code, and from which versions before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from springline.bounds import on_one_line
from springline.cli.documents import Listing
from springline.cli.http import ASSETS, DEFAULT_WAIT_SECONDS, Api, ApiOption, TokenOption, WaitOption, check_id

Json = dict[str, Any]

_LONGEST: Final = 200


def lineage(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The asset's key.")],
    *,
    partition: Annotated[
        str | None, typer.Option("--partition", metavar="KEY", help="Only of this partition, such as 2024-01-31.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Most lines; default: all.")] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show how an asset was made each time: the run, its code, the versions it wrote, and those it was made from."""
    check_id(key, "asset's key", field="KEY", lister="asset list")
    found: list[Json] = []
    parameters: dict[str, str | float | list[str]] = {} if partition is None else {"partition_key": partition}
    with Api(api, token, wait_s=wait) as surface:
        for page in surface.pages(key, "lineage", root=ASSETS, params=parameters, limit=limit):
            found += page["items"]
    document = {"asset": key, "made": found, "more": page["next_cursor"] is not None, "revision": page["revision"]}
    shows_told = any(one.get("metadata") for one in found)
    names = ["made_at", "partition", "run", "attempt", "code", "manifest_id", "wrote", "from"]
    names += ["told"] if shows_told else []
    rows = [
        [
            one["made_at"],
            one["partition_key"],
            one["run_id"],
            one["attempt"],
            one["code_version"],
            one["manifest_id"],
            _versions(one["tables"]),
            "; ".join(_from(up) for up in one["upstream"]) or None,
            *([_told(one)] if shows_told else []),
        ]
        for one in found
    ]
    note = None if found else f"no run has made {key}" + ("" if partition is None else f" of {partition}")
    return Listing(lambda: document, names, rows, note=note)


def _versions(tables: Sequence[Json]) -> str | None:
    return ", ".join(f"{one['table']}@{one['version']}" for one in tables) or None


def _told(made: Json) -> str | None:
    """Return what the function told, on one line; an older API does not tell it."""
    told = ", ".join(f"{name}={value}" for name, value in (made.get("metadata") or {}).items())
    return on_one_line(told, _LONGEST) or None


def _from(upstream: Json) -> str:
    versions = _versions(upstream["tables"])
    return str(upstream["task_key"]) if versions is None else f"{upstream['task_key']} ({versions})"
