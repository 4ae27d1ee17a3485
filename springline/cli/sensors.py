"""`springline sensor list | show | history | pause | ... | push`: through the HTTP API."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from springline.cli.documents import Document, Listing, hint
from springline.cli.http import DEFAULT_WAIT_SECONDS, SENSORS, Api, ApiOption, TokenOption, WaitOption, check_id, posted
from springline.cli.sensors_page import (
    asks_for,
    decision_text,
    history_text,
    sensor_text,
    sensors_text,
    state_text,
    watches,
    why_text,
)
from springline.errors import Code, refused

Json = dict[str, Any]

SensorArgument = Annotated[
    str, typer.Argument(metavar="SENSOR", help="The sensor's id, as `springline sensor list` shows it.")
]


def list_sensors(
    *, api: ApiOption = None, token: TokenOption = None, wait: WaitOption = DEFAULT_WAIT_SECONDS
) -> Listing:
    """List the sensors of the workspace: what each watches, whether it is paused, its cursor, messages that wait."""
    with Api(api, token, wait_s=wait) as surface:
        found = [one for page in surface.pages(root=SENSORS, params={}) for one in page["items"]]
    names = ["sensor_id", "watches", "state", "cursor", "messages", "last_evaluation_at", "select"]
    rows = [
        [
            one["sensor_id"],
            watches(one),
            state_text(one),
            one.get("cursor"),
            one["messages"],
            one.get("last_evaluation_at"),
            " ".join((one.get("definition") or {}).get("select") or []),
        ]
        for one in found
    ]
    note = None if rows else "no sensor is declared: @sensor above a function in a pipeline file declares one"
    return Listing(lambda: {"sensors": found}, names, rows, note=note, text=lambda: sensors_text(found))


def show(
    sensor_id: SensorArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show a sensor: its cursor, its backlog and lag, what it is doing, and its last decisions."""
    _check(sensor_id)
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("GET", sensor_id, root=SENSORS).body
        evaluations = surface.latest(sensor_id, "evaluations", root=SENSORS, limit=5)
    document = {"sensor": found["sensor"], "doing": found["doing"], "evaluations": evaluations}
    return Listing(lambda: document, _NAMES, _rows(evaluations), text=lambda: sensor_text(document))


def history(
    sensor_id: SensorArgument,
    *,
    statuses: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="STATUS", help="triggered, no_new_data or error; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The latest so many evaluations.")] = 20,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show what a sensor's evaluations came to. Polls that found nothing are summed up each hour."""
    _check(sensor_id)
    with Api(api, token, wait_s=wait) as surface:
        evaluations = surface.latest(sensor_id, "evaluations", root=SENSORS, limit=limit, statuses=statuses or ())
    return Listing(
        lambda: {"evaluations": evaluations}, _NAMES, _rows(evaluations), text=lambda: history_text(evaluations)
    )


def pause(
    sensor_id: SensorArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a sensor be evaluated no more, until it is resumed; messages wait, runs under way go on."""
    return posted(SENSORS, _check(sensor_id), "pause", api, token, wait)


def resume(
    sensor_id: SensorArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a sensor be evaluated again, from its cursor; messages that waited come first."""
    return posted(SENSORS, _check(sensor_id), "resume", api, token, wait)


def reset(
    sensor_id: SensorArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a sensor begin without a cursor; runs that it has asked for under a run key are not made again."""
    return posted(SENSORS, _check(sensor_id), "reset", api, token, wait)


def set_cursor(
    sensor_id: SensorArgument,
    cursor: Annotated[str, typer.Argument(metavar="CURSOR", help="As the sensor's function writes it.")],
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a sensor go on from another cursor; an evaluation that is under way is not recorded."""
    _check(sensor_id)
    with Api(api, token, wait_s=wait) as surface:
        return surface.call("PUT", sensor_id, "cursor", root=SENSORS, body={"cursor": cursor}).body


def evaluate(
    sensor_id: SensorArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Evaluate a sensor now, without waiting for its interval, and show what that came to."""
    return _evaluate(sensor_id, {}, api, token, wait)


def dry_run(
    sensor_id: SensorArgument,
    *,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="CURSOR", help="As if this were the sensor's cursor.")
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="JSON", help="As if this had been pushed; - reads it from stdin.")
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show what an evaluation of a sensor would ask for, also of a paused one; nothing is recorded."""
    body: Json = {"dry_run": True}
    if cursor is not None:
        body["cursor"] = cursor
    if payload is not None:
        body["payload"] = _payload(payload)
    return _evaluate(sensor_id, body, api, token, wait)


def push(
    sensor_id: SensorArgument,
    payload: Annotated[
        str, typer.Argument(metavar="JSON", help="The message: JSON, @FILE, or - to read it from stdin.")
    ] = "null",
    *,
    message_id: Annotated[
        str, typer.Option("--message-id", metavar="ID", help="The same message again is the same message.")
    ],
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Push a message to a sensor; it is in the ledger when this returns. Exit code: 0 also if it was pushed before."""
    _check(sensor_id)
    body = {"message_id": message_id, "payload": _payload(payload)}
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("POST", sensor_id, "messages", root=SENSORS, body=body).body
    if found["replayed"]:
        hint(f"message {message_id} was pushed before; nothing was written")
    return found


_NAMES: Final = ("evaluated_at", "status", "runs", "cursor_after", "why")


def _rows(evaluations: list[Json]) -> list[list[Any]]:
    return [
        [one["evaluated_at"], one["status"]["status"], asks_for(one), one.get("cursor_after"), why_text(one)]
        for one in evaluations
    ]


def _evaluate(sensor_id: str, body: Json, api: str | None, token: str | None, wait: float) -> Listing:
    _check(sensor_id)
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("POST", sensor_id, "evaluate", root=SENSORS, body=body).body
    names = ["run_key", "assets", "partitions"]
    rows = [[one["run_key"], " ".join(one["assets"]), " ".join(one["partitions"])] for one in found["runs"]]
    return Listing(lambda: found, names, rows, text=lambda: decision_text(found))


def _payload(text: str) -> Any:
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        return orjson.loads(text)
    except (OSError, ValueError) as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"the message is no JSON: {error}",
            field="JSON",
            value=text[:200],
            remedy='Give JSON such as \'{"file": "a.csv"}\', @FILE, or - for stdin.',
        ) from error


def _check(sensor_id: str) -> str:
    check_id(sensor_id, "sensor's id", field="SENSOR", lister="sensor list")
    return sensor_id
