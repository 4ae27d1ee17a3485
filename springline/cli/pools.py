"""`springline pool list | show | set`: pools of slots, through the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from springline.cli.documents import Listing, described
from springline.cli.http import DEFAULT_WAIT_SECONDS, POOLS, Api, ApiOption, TokenOption, WaitOption, check_id
from springline.errors import Code, refused

Json = dict[str, Any]

PoolArgument = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.")]


def list_pools(*, api: ApiOption = None, token: TokenOption = None, wait: WaitOption = DEFAULT_WAIT_SECONDS) -> Listing:
    """List the pools of the workspace: sizes, slots taken, runs that wait."""
    with Api(api, token, wait_s=wait) as surface:
        found: Json = surface.call("GET", root=POOLS).body
    names = ["pool", "slots", "taken", "waiting", "declared", "set_by"]
    rows = [
        [one["pool"], one["slots"], one["taken"], one["waiting"], _declared(one), (one["set"] or {}).get("set_by")]
        for one in found["items"]
    ]
    note = None if rows else "no pool is declared: pool('warehouse', slots=3) in a pipeline file declares one"
    return Listing(lambda: {"pools": found["items"]}, names, rows, note=note)


def show(
    pool: PoolArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show a pool: who has its slots, since when, and which runs wait."""
    _check(pool)
    with Api(api, token, wait_s=wait) as surface:
        return _shown(surface.call("GET", pool, root=POOLS).body)


def set_size(
    pool: PoolArgument,
    slots: Annotated[
        int | None,
        typer.Argument(metavar="[SLOTS]", min=0, max=10_000, help="How many attempts may run at once; 0: none begins."),
    ] = None,
    *,
    declared: Annotated[
        bool, typer.Option("--declared", help="Instead of SLOTS: as pipeline files declare it.")
    ] = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Set how many attempts of a pool run at once, whatever pipeline files declare.

    What waits begins within seconds; what runs goes on, also if fewer may run now. Exit code: 0 done, 2 there is no
    such pool.
    """
    _check(pool)
    if (slots is None) != declared:
        raise refused(
            Code.INVALID_REQUEST,
            "the size of a pool is either a number, or --declared",
            field="SLOTS",
            value=slots,
            remedy=f"Give `springline pool set {pool} 3`, or `springline pool set {pool} --declared`.",
        )
    with Api(api, token, wait_s=wait) as surface:
        return _shown(surface.call("PUT", pool, root=POOLS, body={"slots": slots}).body)


def _shown(found: Json) -> Listing:
    told: Json = {
        "pool": found["pool"],
        "slots": "no limit" if found["slots"] is None else found["slots"],
        "taken": found["taken"],
        "declared": _declared(found),
        "set": None if found["set"] is None else f"{found['set']['slots']} by {found['set']['set_by']}",
        "holders": [
            {name: one[name] for name in ("run_id", "task_key", "attempt", "state", "since")}
            # An API of an older build does not say it.
            | ({} if one.get("certain", True) else {"certain": "no: the manifest of its run is lost"})
            for one in found["holders"]
        ],
        "waiting_runs": found["waiting_runs"],
    }
    return described(found, {name: value for name, value in told.items() if value not in (None, [])})


def _declared(pool: Json) -> str | None:
    return " ".join(f"{one['location']}: {one['slots']}" for one in pool["declared"]) or None


def _check(pool: str) -> None:
    check_id(pool, "pool's name", field="POOL", lister="pool list")
