"""`springline asset list | show`: assets as they are deployed and how they stand, through the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from springline.cli.documents import Listing
from springline.cli.http import ASSETS, DEFAULT_WAIT_SECONDS, Api, ApiOption, TokenOption, WaitOption, check_id
from springline.cli.partitions_page import asset_text, stale_text
from springline.cli.staleness import counts_of_assets, latest_partitions
from springline.definitions.durations import duration_text
from springline.definitions.sizes import size_text

Json = dict[str, Any]


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
    """List the assets that are deployed, by key, with how many of their latest partitions are stale."""
    found: list[Json] = []
    parameters: dict[str, str | float | list[str]] = {} if location is None else {"location": location}
    with Api(api, token, wait_s=wait) as surface:
        for page in surface.pages(root=ASSETS, params=parameters, limit=limit):
            found += page["items"]
        counts = counts_of_assets(surface, [one["asset"]["key"] for one in found])
    for one in found:
        one["staleness"] = counts.get(one["asset"]["key"])
    document = {"assets": found, "more": page["next_cursor"] is not None, "manifest_id": page["manifest_id"]}
    names = ["key", "location", "partitions", "stale", "depends_on", "dependents"]
    rows = [
        [
            one["asset"]["key"],
            one["asset"]["location"],
            partitions_text(one["asset"]["partitions"]),
            stale_text(one["staleness"]),
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
    """Show an asset: how it is made, what it depends on, what depends on it, and how its partitions stand."""
    check_id(key, "asset's key", field="KEY", lister="asset list")
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("GET", key, root=ASSETS).body
        partitions = latest_partitions(surface, key)
    document = {**found, "partitions": partitions}
    told = _for_people(found)
    names = ["name", "value"]
    rows = [[name, value] for name, value in told.items()]
    return Listing(lambda: document, names, rows, text=lambda: asset_text(told, partitions))


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
    for name in ("retry_delay_ms", "timeout_ms", "heartbeat_ms", "freshness_ms"):
        # An older API does not know all of them.
        if asset.get(name) is not None:
            told[name.removesuffix("_ms")] = duration_text(asset[name])
    if asset.get("memory_bytes") is not None:
        told["memory"] = size_text(asset["memory_bytes"])
    for name in ("queue", "url", "pool", "priority", "code_version", "tags", "owners"):
        if asset.get(name):
            told[name] = asset[name]
    if asset.get("checks"):
        told["checks"] = [
            {"check": one["name"], "severity": one["severity"], "table": one.get("table")} for one in asset["checks"]
        ]
    if asset.get("config"):
        told["config_model"] = _model_text(asset["config"])
        told["config"] = [
            {
                "field": " or ".join([one["name"], *one.get("also", ())]),
                "type": one["type"],
                "default": "(required)" if one["required"] else one.get("default"),
                "description": one.get("description"),
            }
            for one in asset["config"]["fields"]
        ]
    told["manifest_id"] = found["manifest_id"]
    return told


def _model_text(config: Json) -> str:
    """Return the name of a model, and what becomes of names that are none of its fields'."""
    others = "refuses other names" if config["forbids_others"] else "takes no notice of other names"
    return f"{config['model']}, {others if config['judged'] else 'whose own code sees the config first'}"


def partitions_text(partitions: Json | None) -> str | None:
    """Return partitions in a few words; None for none."""
    if partitions is None:
        return None
    if partitions.get("dimensions"):
        return "; ".join(f"{one['name']} {partitions_text(one['partitions'])}" for one in partitions["dimensions"])
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
