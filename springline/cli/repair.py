"""`springline repair run | show`: through the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from springline.cli.documents import DocumentVerdict, Listing, hint
from springline.cli.http import DEFAULT_WAIT_SECONDS, REPAIR, Api, ApiOption, TokenOption, WaitOption
from springline.exits import EXIT_DONE, EXIT_TRY_AGAIN

Json = dict[str, Any]

_NAMES = ["kind", "subject", "since", "why", "action", "times", "error"]


def run(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and change nothing.")
    ] = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Look now for what stands still in the workspace, and repair it.

    That happens by itself, each minute while anything is open. What was repaired is left alone for a while, longer each
    time, to show whether it has helped. Exit code: 0, or 4 if something could not be looked at or repaired.
    """
    with Api(api, token, wait_s=wait) as surface:
        report = surface.call("POST", root=REPAIR, body={"dry_run": dry_run}).body
    return DocumentVerdict(_listing(report, report, _told(report)), _code(report))


def show(
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Show what the last look found and did, and how often what was repaired.

    Exit code: 0, or 4 if nothing looks after the workspace just now, or the last look was in trouble.
    """
    with Api(api, token, wait_s=wait) as surface:
        view = surface.call("GET", root=REPAIR).body
    if not view["running"]:
        hint(
            "nothing looks after the workspace just now; workers see to it within minutes, `springline repair run` now"
        )
    if view["trouble"] is not None:
        hint(f"the last look has failed: {view['trouble']}")
    report = view["last"] or {"items": [], "trouble": []}
    code = EXIT_DONE if view["running"] and view["trouble"] is None else EXIT_TRY_AGAIN
    made = ", ".join(f"{count} {kind}" for kind, count in sorted(view["made"].items())) or "none"
    told = f"{view['passes']} look(s), repairs in all: {made}\n"
    if view["last"] is not None:
        told += _told(report)
    return DocumentVerdict(_listing(view, report, told), max(code, _code(report)))


def _listing(document: Json, report: Json, told: str) -> Listing:
    rows = [
        [
            one["kind"],
            one["subject"] or None,
            _instant(one["since_ms"]),
            one["why"],
            one["action"] or f"none until {_instant(one['next_ms'])}",
            one["times"],
            one["error"],
        ]
        for one in report["items"]
    ]
    for line in report["trouble"]:
        hint(line)
    return Listing(lambda: document, _NAMES, rows, text=lambda: _text(told, rows))


def _text(told: str, rows: list[list[Any]]) -> str:
    from springline.cli.present import rows_text  # noqa: PLC0415 - for people only

    if not rows:
        return told
    return f"{told}\n{rows_text(_NAMES, rows)[0]}"


def _told(report: Json) -> str:
    """Return a report in a line."""
    counts = f"{report['active_runs']} active run(s), {report['waiting_requests']} waiting request(s)"
    when = _instant(report["at_ms"])
    if not report["items"]:
        return f"{when}: {counts}, and nothing stands still that should not\n"
    what = "would be repaired" if report["dry_run"] else "to repair"
    left = f", {report['left']} more in the next look" if report["left"] else ""
    return f"{when}: {counts}, {len(report['items'])} finding(s) {what}{left}\n"


def _code(report: Json) -> int:
    failed = report["trouble"] or any(one["error"] is not None for one in report["items"])
    return EXIT_TRY_AGAIN if failed else EXIT_DONE


def _instant(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%dT%H:%M:%SZ}"
