"""`springline backfill create | list | show | watch | pause | resume | cancel | retry-failed`: through the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
import uuid_utils

from springline.cli.backfills_page import OVER, backfill_text, backfills_text, progress_in, progress_line, stale_text
from springline.cli.documents import Document, DocumentVerdict, Listing, hint
from springline.cli.http import (
    BACKFILLS,
    DEFAULT_WAIT_SECONDS,
    Answer,
    Api,
    ApiOption,
    TokenOption,
    WaitOption,
    check_in_url,
    posted,
)
from springline.cli.watching import watched_until
from springline.cli.years import hint_of_years_ahead
from springline.control.backfills.messages import NOTHING_STALE
from springline.errors import Code, refused
from springline.exits import EXIT_CONFLICT, EXIT_DONE

Json = dict[str, Any]

BackfillArgument = Annotated[
    str, typer.Argument(metavar="BACKFILL_ID", help="The backfill's id, as `springline backfill list` shows it.")
]
WatchOption = Annotated[
    bool,
    typer.Option("--watch", help="Wait for its end, and show how far it is; Ctrl-C ends the watching alone."),
]
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="The same command under the same key is the same backfill, for ever."),
]
_REPLAYED: Final = 200
_LISTED: Final = ("backfill_id", "state", "total", "done", "failed", "skipped", "running", "waiting", "remaining_ms")


def create(
    selection: Annotated[
        list[str],
        typer.Argument(metavar="SELECTION...", help="Assets with the same partitions: raw; '*delays'; '*'."),
    ],
    *,
    partitions: Annotated[
        list[str] | None,
        typer.Option("--partition", metavar="KEY", help="A partition, such as 2024-01-31; may be repeated."),
    ] = None,
    partitions_from: Annotated[
        Path | None, typer.Option("--partitions-from", metavar="FILE", help="A file with a partition in each line.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", metavar="KEY", help="The first partition of a range.")] = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="KEY", help="The last one, included; default: the last that is complete."),
    ] = None,
    match: Annotated[
        str | None, typer.Option("--match", metavar="PATTERN", help="Of the range, only keys like this: '2024-*-01'.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every partition that is complete.")] = False,
    stale: Annotated[
        bool,
        typer.Option("--stale", help="What is stale of the selection, or of the partitions said by other options."),
    ] = False,
    reasons: Annotated[
        list[str] | None,
        typer.Option(
            "--reason", metavar="STATE", help="With --stale: only for this reason, as CODE_CHANGED; may be repeated."
        ),
    ] = None,
    chunk_size: Annotated[
        int, typer.Option("--chunk-size", metavar="N", min=1, max=500, help="Partitions of one run.")
    ] = 10,
    max_concurrent_runs: Annotated[
        int, typer.Option("--max-concurrent-runs", metavar="N", min=1, max=1_000, help="Most of its runs at once.")
    ] = 2,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="Begin with the last partition.")] = False,
    priority: Annotated[
        int, typer.Option("--priority", metavar="N", min=-100, max=100, help="Of what waits, the greater is first.")
    ] = -10,
    key: KeyOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would make.")] = False,
    watch: WatchOption = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Start a backfill: make partitions of assets, some in each run, until all are done.

    With --stale it makes the partitions that are stale, of the assets that are or depend on one that is; if nothing is
    stale there is no backfill. --dry-run tells which they are, and why.

    Exit code: 0 it runs, or with --watch it has succeeded; 2 it cannot be as asked; 3 the key stands for another
    backfill, or with --watch it has failed or was cancelled; 4 there is no answer.
    """
    body: Json = {
        "select": selection,
        "chunk_size": chunk_size,
        "max_concurrent_runs": max_concurrent_runs,
        "order": "newest_first" if newest_first else "oldest_first",
        "priority": priority,
        # With an id of its own a call can be repeated after a lost answer, and starts one backfill all the same.
        "request_id": f"cli:{uuid_utils.uuid7()}" if key is None else key,
        "dry_run": dry_run,
    }
    keys = _keys(partitions, partitions_from)
    given: Json = {"partitions": keys, "start": start, "end": end, "match": match, "all": True if everything else None}
    if stale:
        given["stale"] = True
    if reasons:
        given["reasons"] = [one.upper() for one in reasons]
    body |= {name: value for name, value in given.items() if value is not None}
    with Api(api, token, wait_s=wait) as surface:
        answer = surface.call("POST", root=BACKFILLS, body=body)
        if answer.body["state"] == NOTHING_STALE:
            hint("nothing of the selection is stale: there is no backfill")
            return DocumentVerdict(answer.body, EXIT_DONE)
        if stale:
            hint(stale_text(answer.body))
        name = answer.body["backfill_id"]
        remedy = "correct it" if dry_run else f"`springline backfill cancel {name}` ends the backfill"
        hint_of_years_ahead((*(keys or ()), start, end), remedy)
        if dry_run:
            hint("nothing was written")
            return DocumentVerdict(answer.body, EXIT_DONE)
        return _asked(surface, answer, watch=watch)


def list_backfills(
    *,
    states: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="Only those in this state, such as RUNNING; may be repeated."),
    ] = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """List the backfills of the workspace, and how far each is."""
    parameters: dict[str, str | float | list[str]] = {}
    if states:
        parameters["state"] = [state.upper() for state in states]
    with Api(api, token, wait_s=wait) as surface:
        found = [one for page in surface.pages(root=BACKFILLS, params=parameters) for one in page["items"]]
    rows = []
    for one in found:
        far = progress_in(one).model_dump()
        rows.append([one["backfill_id"], one["state"], *(far[name] for name in _LISTED[2:])])
    return Listing(lambda: {"backfills": found}, list(_LISTED), rows, text=lambda: backfills_text(found))


def show(
    backfill_id: BackfillArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Listing:
    """Show a backfill: how far it is, what is left, and which chunks run or failed."""
    _check(backfill_id)
    with Api(api, token, wait_s=wait) as surface:
        found = surface.call("GET", backfill_id, root=BACKFILLS).body
    names = ["chunk_index", "outcome", "run_id", "run_state", "reason_code"]
    rows = [[one.get(name) for name in names] for one in found["chunks"]]
    return Listing(lambda: found, names, rows, text=lambda: backfill_text(found))


def watch(
    backfill_id: BackfillArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Show how far a backfill is until it has ended.

    Exit code: 0 it has succeeded, 3 it has failed or was cancelled.
    """
    _check(backfill_id)
    with Api(api, token, wait_s=wait) as surface:
        return _watched(surface, backfill_id)


def pause(
    backfill_id: BackfillArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a backfill ask for no more runs; those under way go on."""
    return posted(BACKFILLS, _check(backfill_id), "pause", api, token, wait)


def resume(
    backfill_id: BackfillArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """Let a paused backfill go on from where it stands."""
    return posted(BACKFILLS, _check(backfill_id), "resume", api, token, wait)


def cancel(
    backfill_id: BackfillArgument,
    *,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> Document:
    """End a backfill, and cancel its runs."""
    return posted(BACKFILLS, _check(backfill_id), "cancel", api, token, wait)


def retry_failed(
    backfill_id: BackfillArgument,
    *,
    key: KeyOption = None,
    watch: WatchOption = False,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Start a backfill of exactly the partitions of another one that failed or were skipped.

    The other one has failed or was cancelled; what it had not planned when it was cancelled is left out, and told. Exit
    code as `backfill create`; 3 also if nothing has failed.
    """
    _check(backfill_id)
    body = {"request_id": f"cli:{uuid_utils.uuid7()}" if key is None else key}
    with Api(api, token, wait_s=wait) as surface:
        answer = surface.call("POST", backfill_id, "retry-failed", root=BACKFILLS, body=body)
        parent = surface.call("GET", backfill_id, root=BACKFILLS).body
        left_out = progress_in(parent).waiting if parent.get("progress") else 0
        if left_out:
            hint(f"{left_out} partition(s) that backfill {backfill_id} never planned are left out")
        return _asked(surface, answer, watch=watch)


def _asked(surface: Api, answer: Answer, *, watch: bool) -> DocumentVerdict:
    name = answer.body["backfill_id"]
    if answer.status == _REPLAYED:
        hint(f"this was asked for before: backfill {name}")
    if watch:
        return _watched(surface, name)
    hint(f"`springline backfill watch {name}` shows how far it is")
    return DocumentVerdict(answer.body, EXIT_DONE)


def _watched(surface: Api, backfill_id: str) -> DocumentVerdict:
    found = watched_until(
        lambda: surface.call("GET", backfill_id, root=BACKFILLS).body,
        text=backfill_text,
        line=lambda one: f"backfill {backfill_id} is {progress_line(one)}",
        is_over=lambda one: one["backfill"]["state"] in OVER and not progress_in(one).chunks_running,
        interrupted=f"backfill {backfill_id} goes on; `springline backfill watch {backfill_id}` shows it, "
        f"`springline backfill pause {backfill_id}` halts it",
    )
    return DocumentVerdict(found, EXIT_DONE if found["backfill"]["state"] == "SUCCEEDED" else EXIT_CONFLICT)


def _keys(given: list[str] | None, file: Path | None) -> list[str] | None:
    if file is None:
        return given
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise refused(
            Code.INVALID_REQUEST,
            f"{file} cannot be read: {error}",
            field="--partitions-from",
            value=str(file),
            remedy="Give a file of text with a partition in each line.",
        ) from error
    return [*(given or []), *(line for line in lines if line)]


def _check(backfill_id: str) -> str:
    message = f"{backfill_id!r} is no backfill's id"
    check_in_url(backfill_id, message, field="BACKFILL_ID", remedy="`springline backfill list` shows them.")
    return backfill_id
