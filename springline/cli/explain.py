"""`springline explain ...`: why something ran, did not run, or waits; through the HTTP API."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from springline.cli.documents import Listing
from springline.cli.explain_page import explanation_text
from springline.cli.http import DEFAULT_WAIT_SECONDS, EXPLAIN, Api, ApiOption, TokenOption, WaitOption, check_in_url
from springline.definitions.ids import meant_task_key

SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="INSTANT", help="Read events from here on; by default what its rows suggest."),
]
UntilOption = Annotated[str | None, typer.Option("--until", metavar="INSTANT", help="Read events up to here.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The run's id, or the key that it was asked for under.")
]
BackfillArgument = Annotated[
    str, typer.Argument(metavar="BACKFILL", help="The backfill's id, as `springline backfill list` shows it.")
]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="The task, such as raw_flights[2024-01-31].")]


def schedule(
    schedule_id: Annotated[
        str, typer.Argument(metavar="SCHEDULE", help="The schedule's id, as `springline schedule list` shows it.")
    ],
    *,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="INSTANT", help="RFC 3339; by default where the schedule stands now."),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell why a schedule did or did not run at an instant, or what it waits for now. From the ledger alone."""
    return _explained("schedule", schedule_id, {"at": at, "since": since, "until": until}, api, token, wait)


def run(
    run_id: RunArgument,
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell why a run has not begun, what it waits for, or how it ended. From the ledger alone."""
    return _explained("run", run_id, {"since": since, "until": until}, api, token, wait)


def task(
    run_id: RunArgument,
    task_key: TaskArgument,
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell why a task of a run has not begun, what it waits for, or how it ended. From the ledger alone."""
    return _explained(
        "task", run_id, {"task": meant_task_key(task_key), "since": since, "until": until}, api, token, wait
    )


def attempt(
    run_id: RunArgument,
    task_key: TaskArgument,
    number: Annotated[int, typer.Argument(metavar="ATTEMPT", min=1, help="Its number; the first one is 1.")],
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell why there was an attempt of a task, who made it, and how it ended. From the ledger alone."""
    about = {"task": meant_task_key(task_key), "attempt": number, "since": since, "until": until}
    return _explained("attempt", run_id, about, api, token, wait)


def sensor(
    sensor_id: Annotated[
        str, typer.Argument(metavar="SENSOR", help="The sensor's id, as `springline sensor list` shows it.")
    ],
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell why a sensor asks for nothing, what it waits for, and who paused it. From the ledger alone."""
    return _explained("sensor", sensor_id, {"since": since, "until": until}, api, token, wait)


def evaluation(
    eval_id: Annotated[
        str, typer.Argument(metavar="EVALUATION", help="Its id, as `springline sensor history -o json` shows it.")
    ],
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell which runs an evaluation of a sensor asked for, or why it asked for none. From the ledger alone."""
    return _explained("evaluation", eval_id, {"since": since, "until": until}, api, token, wait)


def backfill(
    backfill_id: BackfillArgument,
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell what a backfill waits for, which partitions are not done, and who halted it. From the ledger alone."""
    return _explained("backfill", backfill_id, {"since": since, "until": until}, api, token, wait)


def chunk(
    backfill_id: BackfillArgument,
    number: Annotated[int, typer.Argument(metavar="CHUNK", min=0, help="Its index; the first one is 0.")],
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell why a chunk of a backfill is not planned, what it waits for, or how it ended. From the ledger alone."""
    return _explained("chunk", backfill_id, {"chunk": number, "since": since, "until": until}, api, token, wait)


def partition(
    asset: Annotated[
        str, typer.Argument(metavar="ASSET", help="The asset's key, as `springline asset list` shows it.")
    ],
    key: Annotated[
        str | None,
        typer.Argument(metavar="[PARTITION]", help="Its key; leave it out for an asset without partitions."),
    ] = None,
    *,
    since: SinceOption = None,
    until: UntilOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Tell why a partition is not there or is stale, and who makes it now. From the ledger alone."""
    return _explained("partition", asset, {"partition": key, "since": since, "until": until}, api, token, wait)


_OF_WHAT: Final = {
    "schedule": ("SCHEDULE", "`springline schedule list` shows the ids."),
    "sensor": ("SENSOR", "`springline sensor list` shows the ids."),
    "evaluation": ("EVALUATION", "`springline sensor history SENSOR -o json` shows the ids."),
    "backfill": ("BACKFILL", "`springline backfill list` shows the ids."),
    "chunk": ("BACKFILL", "`springline backfill list` shows the ids."),
    "partition": ("ASSET", "`springline asset list` shows the keys."),
}
"""Which argument names a subject, and what shows those that there are; of all others that is a run."""


def _explained(
    subject: str, identity: str, about: dict[str, Any], api: str | None, token: str | None, wait: float
) -> Listing:
    argument, remedy = _OF_WHAT.get(subject, ("RUN", "`springline run list` shows the ids."))
    check_in_url(identity, f"{identity!r} is no id", field=argument, remedy=remedy)
    parameters = {name: value for name, value in about.items() if value is not None}
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("GET", subject, identity, root=EXPLAIN, params=parameters).body
    names = ["at", "who", "what", "reason_code"]
    rows = [[one.get(name) for name in names] for one in found["decisions"]]
    return Listing(lambda: found, names, rows, text=lambda: explanation_text(found))
