"""`springline asset list | show`: assets as they are deployed, through the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from springline.cli.documents import Listing
from springline.cli.http import ASSETS, DEFAULT_WAIT_SECONDS, Api, ApiOption, TokenOption, WaitOption
from springline.definitions.durations import duration_text
from springline.definitions.ids import problem_of_id
from springline.errors import Code, refused

Json = dict[str, Any]

_PAGE = 1_000


def list_assets(
    *,
    location: Annotated[
        str | None, typer.Option("--location", metavar="NAME", help="Only those of this code location.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="Most assets; default: all.")] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """List the assets that are deployed, by key."""
    found: list[Json] = []
    parameters: dict[str, str | float] = {} if location is None else {"location": location}
    with Api(api, token, wait_s=wait) as surface:
        while True:
            parameters["limit"] = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = surface.call("GET", root=ASSETS, params=parameters).body
            found += page["items"]
            if page["next_cursor"] is None or (limit is not None and len(found) >= limit):
                break
            parameters["cursor"] = page["next_cursor"]
    document = {"assets": found, "more": page["next_cursor"] is not None, "manifest_id": page["manifest_id"]}
    names = ["key", "location", "partitions", "depends_on", "dependents"]
    rows = [
        [
            one["asset"]["key"],
            one["asset"]["location"],
            partitions_text(one["asset"]["partitions"]),
            " ".join(edge["asset"] for edge in one["asset"]["dependencies"]) or None,
            " ".join(one["dependents"]) or None,
        ]
        for one in found
    ]
    note = "nothing is deployed: `springline deploy FILE`" if page["manifest_id"] is None else None
    return Listing(lambda: document, names, rows, note=note)


def show(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The asset's key.")],
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show an asset as it is deployed: how it is made, what it depends on, and what depends on it."""
    problem = problem_of_id(key)
    if problem is not None:
        raise refused(
            Code.INVALID_REQUEST,
            f"{key!r} is no asset's key: it {problem[0]}",
            field="KEY",
            value=key,
            remedy="`springline asset list` shows them.",
        )
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("GET", key, root=ASSETS).body
    told = _for_people(found)

    def text() -> str:
        from springline.cli.present import document_text  # noqa: PLC0415 - for people only

        return document_text(told)

    return Listing(lambda: found, ["name", "value"], [[name, value] for name, value in told.items()], text=text)


def _for_people(found: Json) -> Json:
    asset: Json = found["asset"]
    dependencies = [
        {
            "asset": one["asset"],
            "partitions": _mapping_text(found["mappings"].get(one["asset"])),
            "argument": one["argument"],
        }
        for one in asset["dependencies"]
    ]
    told: Json = {
        "key": asset["key"],
        "description": asset["description"],
        "location": asset["location"],
        "partitions": partitions_text(asset["partitions"]),
        "depends_on": dependencies,
        "dependents": found["dependents"],
        "retries": asset["retries"],
    }
    for name in ("retry_delay_ms", "timeout_ms", "heartbeat_ms"):
        # An older API does not know all of them.
        if asset.get(name) is not None:
            told[name.removesuffix("_ms")] = duration_text(asset[name])
    for name in ("queue", "pool", "priority", "code_version", "tags", "owners"):
        if asset[name]:
            told[name] = asset[name]
    told["manifest_id"] = found["manifest_id"]
    return told


def partitions_text(partitions: Json | None) -> str | None:
    """Return partitions in a few words; None for none."""
    if partitions is None:
        return None
    if partitions["kind"] == "static":
        return f"static: {len(partitions['keys'])}"
    until = f" until {partitions['end']}" if partitions["end"] else ""
    zone = f" {partitions['timezone']}" if partitions["timezone"] else ""
    return f"{partitions['kind']} from {partitions['start']}{until}{zone}"


def _mapping_text(mapping: Json | None) -> str | None:
    if mapping is None:
        return None
    if mapping["kind"] != "window":
        return str(mapping["kind"])
    return f"window {mapping['start_offset']:+d} to {mapping['end_offset']:+d}"
