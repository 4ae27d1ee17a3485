"""`springline run start | list | show | cancel | rerun`: through the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
import uuid_utils

from springline.cli.documents import Document, DocumentVerdict, Listing, hint
from springline.cli.grid import Format
from springline.cli.http import (
    DEFAULT_WAIT_SECONDS,
    RUNS,
    Answer,
    Api,
    ApiOption,
    TokenOption,
    WaitOption,
    check_in_url,
)
from springline.cli.runs_page import OVER, counts_of, duration_of, run_text, runs_text, state_of
from springline.cli.session import session
from springline.cli.staleness import stale_selection
from springline.cli.tables import parse_pairs, read_text
from springline.cli.watching import watched_until
from springline.cli.years import hint_of_years_ahead
from springline.definitions.ids import meant_task_key
from springline.errors import Code, Refused, refused
from springline.exits import EXIT_CONFLICT, EXIT_DONE

Json = dict[str, Any]

_REQUESTED: Final = "REQUESTED"
_REPLAYED: Final = 200

RunArgument = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run's id, as `springline run list` shows it.")]
WatchOption = Annotated[
    bool,
    typer.Option("--watch", help="Wait for the run's end, and show how far it is; Ctrl-C ends the watching alone."),
]

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="JSON|FILE",
        help="An object that functions find in context.config; `springline asset show KEY` says what an asset takes.",
    ),
]


def start(
    selection: Annotated[
        list[str],
        typer.Argument(
            metavar="SELECTION...",
            help="Assets: delays; '*delays' with all that it depends on; 'raw_flights*' with all that depends on it; "
            "'*' for every asset.",
        ),
    ],
    *,
    partitions: Annotated[
        list[str] | None,
        typer.Option("--partition", metavar="KEY", help="A partition, such as 2024-01-31; may be repeated."),
    ] = None,
    config: ConfigOption = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME=VALUE", help="A label; may be repeated.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="The same command under the same key is the same run, for ever."),
    ] = None,
    priority: Annotated[
        int, typer.Option("--priority", metavar="N", min=-100, max=100, help="Of what waits, the greater is first.")
    ] = 0,
    stale: Annotated[
        bool,
        typer.Option("--stale", help="Of the selection only assets that are stale, and of those the stale partitions."),
    ] = False,
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            "--max-concurrent", metavar="N", min=1, max=500, help="Most tasks of the run at once; default: 500."
        ),
    ] = None,
    watch: WatchOption = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Start a run of assets, once for each key; with --stale, of what is stale among them.

    A run makes each of its partitions of each of its assets that has it, and what their parameters take: with --stale
    it may also make some that are current, and says how many. If nothing is stale, nothing is asked for.

    Exit code: 0 it is asked for, or with --watch it has succeeded; 2 it cannot be planned as asked; 3 the key stands
    for another run, or with --watch the run has failed or was cancelled; 4 there is no answer.
    """
    body: Json = {
        "select": selection,
        "partitions": partitions or [],
        # With a key of its own a call can be repeated after a lost answer, and starts one run all the same.
        "run_key": f"cli:{uuid_utils.uuid7()}" if key is None else key,
        "config": {} if config is None else parsed_config(config),
        "labels": parse_pairs("--label", labels or []),
        "priority": priority,
    }
    if max_concurrent is not None:
        body["max_concurrent_tasks"] = max_concurrent
    with Api(api, token, wait_s=wait) as surface:
        if stale:
            _check_alone(partitions)
            found = stale_selection(surface, selection)
            if found is None:
                hint("nothing of the selection is stale: no run is asked for")
                return DocumentVerdict({"stale": 0, "run_id": None}, EXIT_DONE)
            body |= {"select": found.select, "partitions": found.partitions}
        answer = surface.call("POST", root=RUNS, body=body)
        if stale and found is not None and answer.status != _REPLAYED:
            hint(found.told(answer.body["tasks"]))
        run_id = answer.body["run_id"]
        hint_of_years_ahead(partitions or (), f"`springline run cancel {run_id or 'RUN'}` ends the run")
        return _asked(surface, answer, watch=watch)


def list_runs(
    *,
    states: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="Only runs in this state, such as FAILED; may be repeated."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="NAME=VALUE", help="Only runs with this label; all that are given must hold."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="The latest N runs; default: all.")
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """List the runs of the workspace, in the order of their ids.

    For people the latest is first. With --limit it is the latest that are listed, the last one first.
    """
    found: list[Json] = []
    parameters: dict[str, str | float | list[str]] = {} if limit is None else {"latest": "true"}
    if states:
        parameters["state"] = [state.upper() for state in states]
    if labels:
        parameters["label"] = labels
    with Api(api, token, wait_s=wait) as surface:
        for page in surface.pages(root=RUNS, params=parameters, limit=limit):
            found += page["items"]
    names = ["run_id", "state", "tasks", "done", "failed", "triggered", "duration", "run_key"]
    rows = [
        [
            one["run_id"],
            state_of(one),
            one["tasks_total"],
            one["tasks_completed"],
            one["tasks_failed"],
            one["triggered_at"],
            duration_of(one["triggered_at"], one.get("completed_at")),
            one.get("run_key"),
        ]
        for one in found
    ]
    document = {"runs": found, "more": page["next_cursor"] is not None, "revision": page["revision"]}
    return Listing(lambda: document, names, rows, text=lambda: runs_text(found))


def show(
    run_id: RunArgument,
    *,
    watch: WatchOption = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Show a run and its tasks: states, attempts, durations, errors.

    Exit code: 0, or with --watch 3 if the run has failed or was cancelled.
    """
    check_run(run_id)
    with Api(api, token, wait_s=wait) as surface:
        if watch:
            return _watched(surface, run_id)
        found = surface.call("GET", run_id, root=RUNS).body
        return DocumentVerdict(_shown(found, _doing(surface, found)), EXIT_DONE)


def cancel(
    run_id: RunArgument,
    *,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for people.")] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Cancel a run: no task of it begins any more, and attempts under way are told to end.

    Exit code: 0 it is recorded, 2 there is no such run, 3 it has ended already.
    """
    check_run(run_id)
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("POST", run_id, "cancel", root=RUNS, body={} if reason is None else {"reason": reason})
    if found.body["state"] not in OVER:
        hint(f"attempts under way end now; `springline run show {run_id} --watch` shows when the run has ended")
    return found.body


def rerun(
    run_id: RunArgument,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Every task that did not succeed.")] = False,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK", help="A task, such as raw_flights[2024-01-31]; may be repeated."),
    ] = None,
    watch: WatchOption = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Make tasks of a run that has ended again, in a run of their own: what failed, or the tasks named.

    The same command again is the same rerun: to repeat that one, name it. Exit code as `run start`; 3 also if the run
    goes on, or nothing is left to do.
    """
    check_run(run_id)
    if failed == bool(tasks):
        raise refused(
            Code.INVALID_REQUEST,
            "a rerun makes either what failed, or the tasks that are named",
            field="--failed",
            value=failed,
            remedy="Give --failed, or --task TASK once or more.",
        )
    body: Json = {"from": "failed"} if failed else {"tasks": [meant_task_key(task) for task in tasks or ()]}
    with Api(api, token, wait_s=wait) as surface:
        answer = surface.call("POST", run_id, "rerun", root=RUNS, body=body)
        return _asked(surface, answer, watch=watch)


def _asked(surface: Api, answer: Answer, *, watch: bool) -> DocumentVerdict:
    """Tell of a run that was asked for, or watch it."""
    body = answer.body
    run_id = body["run_id"]
    if answer.status == _REPLAYED:
        hint(f"this was asked for before: run {run_id}")
    if run_id is None:
        hint(f"the request is recorded and will be seen in a moment; its key is {body['run_key']}")
    elif watch:
        return _watched(surface, run_id, is_asked_for=True)
    elif body["state"] == _REQUESTED:
        hint(
            f"run {run_id} has not begun: others are under way, or the workspace is held; `springline run list` shows "
            "it when it has"
        )
    elif body["state"] not in OVER:
        hint(f"`springline run show {run_id} --watch` shows how far it is")
    return DocumentVerdict(body, EXIT_DONE)


def _watched(surface: Api, run_id: str, *, is_asked_for: bool = False) -> DocumentVerdict:
    """Show a run until it has ended; one that `is_asked_for` need not have begun."""

    def look() -> Json | None:
        try:
            return surface.call("GET", run_id, root=RUNS).body
        except Refused as error:
            if is_asked_for and error.refusal.code is Code.NOT_FOUND:
                return None
            raise

    found = watched_until(
        look,
        text=lambda one: f"run {run_id} is {_REQUESTED}\n" if one is None else run_text(one),
        line=lambda one: f"run {run_id} is {_REQUESTED}" if one is None else _progress(one),
        is_over=lambda one: one is not None and one["run"]["state"] in OVER,
        interrupted=f"run {run_id} goes on; `springline run show {run_id} --watch` shows it, "
        f"`springline run cancel {run_id}` ends it",
    )
    assert found is not None
    return DocumentVerdict(_shown(found), EXIT_DONE if found["run"]["state"] == "SUCCEEDED" else EXIT_CONFLICT)


def _doing(surface: Api, found: Json) -> Json | None:
    """Return what a run that goes on says of itself; for people only, to whom rows alone do not tell it all."""
    if found["run"]["state"] in OVER or session().form_here() is not Format.TABLE:
        return None
    try:
        doing: Json | None = surface.call("GET", found["run"]["run_id"], "doing", root=RUNS).body["doing"]
    except Refused as error:
        hint(f"{error.refusal.message}; the run is shown without what it says of itself")
        return None
    return doing


def _shown(found: Json, doing: Json | None = None) -> Listing:
    names = ["task", "state", "attempt", "started", "duration", "error"]
    return Listing(lambda: found, names, _rows(found), text=lambda: run_text(found, doing=doing))


def _rows(found: Json) -> list[list[Any]]:
    return [
        [
            one["task_key"],
            one["state"],
            one["attempt"],
            one.get("started_at"),
            duration_of(one.get("started_at"), one.get("completed_at")),
            one.get("error_message"),
        ]
        for one in found["tasks"]
    ]


def _check_alone(partitions: list[str] | None) -> None:
    if partitions:
        raise refused(
            Code.INVALID_REQUEST,
            "the partitions are named, and --stale finds them",
            field="--partition",
            value=partitions,
            remedy="Leave --partition or --stale out.",
        )


def _progress(found: Json) -> str:
    run = found["run"]
    return f"run {run['run_id']} is {state_of(run)}: {counts_of(run)}"


def parsed_config(text: str) -> Any:
    """Return the object in the option's text, or in the file that it names; raises `Refused`."""
    source = "the option's text"
    if not text.lstrip().startswith("{"):
        source = f"file {text!r}"
        try:
            text = read_text("--config", Path(text))
        except Refused as error:
            # It may as well have been meant as a text.
            raise _no_config(error.refusal.message, text) from None
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise _no_config(f"{source} is not JSON: {error}", text) from None
    if not isinstance(parsed, dict):
        raise _no_config(f"{source} is no JSON object", text)
    return parsed


def _no_config(message: str, text: str) -> Refused:
    remedy = "Give an object such as '{\"rows\": 1000}', or a file that holds one."
    return refused(Code.INVALID_REQUEST, message, field="--config", value=text[:200], remedy=remedy)


def check_run(run_id: str) -> None:
    """Refuse what can be no run's id."""
    check_in_url(run_id, f"{run_id!r} is no run's id", field="RUN_ID", remedy="`springline run list` shows them.")
