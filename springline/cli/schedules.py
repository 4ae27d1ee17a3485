"""`springline schedule list | show | preview | history | pause | resume | trigger`: through the HTTP API."""

from __future__ import annotations

import time
from itertools import islice
from typing import Annotated, Any, Final

import typer
import uuid_utils

from springline.cli.documents import Document, Listing, hint
from springline.cli.http import (
    DEFAULT_WAIT_SECONDS,
    SCHEDULES,
    Api,
    ApiOption,
    TokenOption,
    WaitOption,
    check_in_url,
    posted,
)
from springline.cli.schedules_page import (
    due_text,
    duration_text,
    history_text,
    preview_text,
    schedule_text,
    schedules_text,
    status_of_tick,
)
from springline.definitions.instants import BadTiming, local_text, problem_of_asked, timing_of, zone_named
from springline.errors import Code, refused
from springline.ledger.timestamps import NS_PER_SECOND, format_ms, parse_timestamp

Json = dict[str, Any]

ScheduleArgument = Annotated[
    str, typer.Argument(metavar="SCHEDULE", help="The schedule's id, as `springline schedule list` shows it.")
]


def list_schedules(
    *,
    all_of_them: Annotated[bool, typer.Option("--all", help="Also schedules that have left their file.")] = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """List the schedules of the workspace: when each is due, whether it is on, its next and its last instant."""
    with Api(api, token, wait_s=wait) as surface:
        items = (one for page in surface.pages(root=SCHEDULES, params={}) for one in page["items"])
        found = [one for one in items if all_of_them or not (one.get("settings") or {}).get("deleted")]
    names = ["schedule_id", "due", "timezone", "state", "next_due_at", "last_scheduled_for", "select"]
    rows = [
        [
            one["schedule_id"],
            due_text(one),
            one["timezone"],
            _state(one),
            one.get("next_due_at"),
            (one.get("last") or {}).get("last_scheduled_for"),
            " ".join(one.get("asset_selection") or []),
        ]
        for one in found
    ]
    return Listing(lambda: {"schedules": found}, names, rows, text=lambda: schedules_text(found))


def show(
    schedule_id: ScheduleArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show a schedule: its definition, its next instants, and what became of the last ones."""
    _check(schedule_id)
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("GET", schedule_id, root=SCHEDULES).body["schedule"]
        ours = (found.get("settings") or {}).get("dialect") is not None and not found["settings"].get("deleted")
        upcoming = _preview(surface, schedule_id, 3, None)["items"] if ours else []
        ticks = surface.latest(schedule_id, "ticks", root=SCHEDULES, limit=5)
    document = {"schedule": found, "upcoming": upcoming, "ticks": ticks}
    return Listing(lambda: document, _TICK_NAMES, _tick_rows(ticks), text=lambda: schedule_text(found, upcoming, ticks))


def preview(
    schedule_id: Annotated[
        str | None, typer.Argument(metavar="SCHEDULE", help="The schedule's id; or give --cron.")
    ] = None,
    *,
    cron: Annotated[
        str | None, typer.Option("--cron", metavar="LINE", help="Instead of a schedule: a cron line, asked of nobody.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option("--timezone", metavar="ZONE", help="Of --cron, such as Europe/Oslo; by default UTC.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, max=1_000, help="How many instants.")] = 10,
    after: Annotated[str | None, typer.Option("--after", metavar="INSTANT", help="RFC 3339; by default now.")] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show the next instants of a schedule in UTC and in its zone, and which partitions its runs would make."""
    if (schedule_id is None) == (cron is None):
        raise refused(
            Code.INVALID_REQUEST,
            "a preview is of a schedule, or of a cron line",
            field="SCHEDULE",
            value=schedule_id,
            remedy="Give SCHEDULE, or --cron LINE with --timezone ZONE.",
        )
    if schedule_id is not None:
        if timezone is not None:
            raise refused(
                Code.INVALID_REQUEST,
                "a schedule has a zone of its own",
                field="--timezone",
                value=timezone,
                remedy="Leave --timezone out, or ask for --cron LINE in that zone.",
            )
        _check(schedule_id)
        with Api(api, token, wait_s=wait) as surface:
            found = _preview(surface, schedule_id, count, after)
    else:
        found = _of_line(cron or "", timezone or "UTC", count, after)
    names = ["due_at", "local", "partitions", "problem"]
    rows = [
        [one["due_at"], one["local"], " ".join(one.get("partitions") or []), one.get("problem")]
        for one in found["items"]
    ]
    return Listing(lambda: found, names, rows, text=lambda: preview_text(found))


def history(
    schedule_id: ScheduleArgument,
    *,
    statuses: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="STATUS", help="triggered, skipped or failed; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The latest so many ticks.")] = 20,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show what became of a schedule's instants: run, skipped and why, and how late that was decided."""
    _check(schedule_id)
    with Api(api, token, wait_s=wait) as surface:
        ticks = surface.latest(schedule_id, "ticks", root=SCHEDULES, limit=limit, statuses=statuses or ())
    return Listing(lambda: {"ticks": ticks}, _TICK_NAMES, _tick_rows(ticks), text=lambda: history_text(ticks))


def pause(
    schedule_id: ScheduleArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a schedule ask for no run any more, until it is resumed; runs under way go on."""
    return posted(SCHEDULES, _check(schedule_id), "pause", api, token, wait)


def resume(
    schedule_id: ScheduleArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a schedule ask for runs again, from now on; the instants of the pause are on record as skipped."""
    return posted(SCHEDULES, _check(schedule_id), "resume", api, token, wait)


def delete(
    schedule_id: ScheduleArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Delete a schedule that no pipeline file declares; its ticks stay on record.

    What is due until now is decided on, and runs under way go on. Exit code: 3 a file declares it.
    """
    _check(schedule_id)
    with Api(api, token, wait_s=wait) as surface:
        return surface.call("DELETE", schedule_id, root=SCHEDULES).body


def trigger(
    schedule_id: ScheduleArgument,
    *,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The same command under the same key is the same run, for ever."),
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Ask for a run of a schedule now, paused or not.

    Exit code: 0 also if it was asked for before under its key.
    """
    # With a key of its own a call can be repeated after a lost answer, and starts one run all the same.
    body = {"request_id": f"cli:{uuid_utils.uuid7()}" if key is None else key}
    _check(schedule_id)
    with Api(api, token, wait_s=wait) as surface:
        answer = surface.call("POST", schedule_id, "trigger", root=SCHEDULES, body=body)
    found = answer.body
    if answer.status == _REPLAYED:
        hint(f"this was asked for before: run {found['run_id']}")
    if found["run_id"] is not None:
        hint(f"`springline run show {found['run_id']} --watch` shows how far it is")
    return found


_REPLAYED: Final = 200
_TICK_NAMES: Final = ("scheduled_for", "status", "late", "run_id", "why")


def _tick_rows(ticks: list[Json]) -> list[list[Any]]:
    return [
        [
            one["scheduled_for"],
            *status_of_tick(one)[:1],
            duration_text(one.get("late_ms")),
            one.get("run_id"),
            status_of_tick(one)[1],
        ]
        for one in ticks
    ]


def _preview(surface: Api, schedule_id: str, count: int, after: str | None) -> Json:
    parameters: dict[str, str | float | list[str]] = {"count": count}
    if after is not None:
        parameters["after"] = after
    return surface.call("GET", schedule_id, "preview", root=SCHEDULES, params=parameters).body


def _of_line(cron: str, timezone: str, count: int, after: str | None) -> Json:
    try:
        begin = int(time.time()) if after is None else parse_timestamp(after) // NS_PER_SECOND
    except ValueError as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"--after: {error}",
            field="--after",
            value=after,
            remedy="Give an instant such as 2025-03-30T00:00:00Z.",
        ) from None
    problem = problem_of_asked(begin)
    if problem is not None:
        raise refused(Code.INVALID_REQUEST, f"--after {problem[0]}", field="--after", value=after, remedy=problem[1])
    try:
        timing = timing_of(cron, timezone)
    except BadTiming as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"{error.field} {error.message}",
            field=f"--{error.field}",
            value=cron if error.field == "cron" else timezone,
            remedy=error.remedy,
        ) from error
    zone = zone_named(timezone)
    items = [
        {"due_at": format_ms(at * 1_000), "local": local_text(at, zone)} for at in islice(timing.after(begin), count)
    ]
    return {"cron": cron, "timezone": timezone, "items": items}


def _state(one: Json) -> str:
    settings = one.get("settings") or {}
    if settings.get("deleted"):
        return "gone" if settings.get("location") else "deleted"
    return "on" if one["enabled"] else "paused"


def _check(schedule_id: str) -> str:
    message = f"{schedule_id!r} is no schedule's id"
    check_in_url(schedule_id, message, field="SCHEDULE", remedy="`springline schedule list` shows them.")
    return schedule_id
