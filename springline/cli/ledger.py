"""`springline ledger append | ingest`: through the HTTP API. `springline ledger restore`: from the store alone."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
import uuid_utils

from springline.cli.documents import DocumentVerdict, Listing, hint
from springline.cli.http import DEFAULT_WAIT_SECONDS, LEDGER, Api, ApiOption, TokenOption, WaitOption
from springline.cli.stores import StoreOption, TenantOption, WorkspaceOption, on_store
from springline.errors import Code, Refused, refused
from springline.exits import EXIT_BAD_INPUT, EXIT_CONFLICT, EXIT_DONE, EXIT_TRY_AGAIN
from springline.keys import check_key
from springline.ledger.request import (
    MAX_INGEST_PATHS,
    MAX_REQUEST_EVENTS,
    AppendMode,
    AppendOutcome,
    RefusedAppend,
)

_EXAMPLE = '{"type": "run_triggered", "run_id": "r-1", ...}'
_EACH_COLUMNS = ("event", "type", "outcome", "event_id", "why")

FileOption = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE|-",
        help="Events as JSON: one object per line, a list, or a request with `events`; - is standard input. "
        "An event is its payload with `type`, or {data, idempotency_key?, causation_id?}.",
    ),
]
DataOption = Annotated[
    list[str] | None, typer.Option("--data", metavar="JSON", help="The payload of an event; may be repeated.")
]
RequestOption = Annotated[
    str | None,
    typer.Option("--request-id", metavar="UUIDv7", help="By default a new one, shown before it is sent."),
]
EachOption = Annotated[
    bool,
    typer.Option(
        "--each",
        help="Take each event by itself: a refused one takes no other with it. A request's `mode` says so too.",
    ),
]
PathsOption = Annotated[
    str | None,
    typer.Option(
        "--paths",
        metavar="FILE|-",
        help='Paths, one per line, or JSON: {"event_paths": [...]}, or a list of paths or of objects with `path`.',
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Write over objects that hold other bytes than the accepted ones.")
]


def append(
    *,
    file: FileOption = None,
    data: DataOption = None,
    each: EachOption = False,
    request_id: RequestOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Append events, all or none or each by itself, exactly once.

    After a lost answer, repeat the command with the request id it showed.

    Prints the events with their ids, paths and outcomes, and whether readers see them already. With --each it prints
    what became of every event, and why it was refused.

    Exit code: 0 all were taken. With --each: 3 some were refused because of the state, 2 some are wrong by themselves,
    4 some met an error of the server (the first of these that applies).
    """
    asked = _asked(file, data or [])
    request_id = asked.request_id if request_id is None else request_id
    chosen = str(uuid_utils.uuid7()) if request_id is None else check_key(request_id, field="--request-id")
    mode = AppendMode.EACH.value if each else asked.mode
    body: dict[str, Any] = {"request_id": chosen, "events": asked.events}
    if mode is not None:
        body["mode"] = mode  # The API judges one that comes from a file.
    again = f"run the same command again with --request-id {chosen}"
    hint(f"request id {chosen}; after a lost answer {again}")
    with Api(api, token, wait_s=wait, again=again) as surface:
        answer = surface.call("POST", "events", root=LEDGER, body=body)
    if answer.status == 202:
        hint("the events are durable, and readers will see them in a moment")
    if mode != AppendMode.EACH:
        return DocumentVerdict(answer.body, EXIT_DONE)
    return _told_by_event(asked.events, answer.body)


def _told_by_event(events: list[dict[str, Any]], document: dict[str, Any]) -> DocumentVerdict:
    """Return what became of each event, in the order of the request, and of those that the sequencer added."""
    outcome = AppendOutcome.model_validate(document)
    rows: list[list[Any]] = []
    for index, (event, one) in enumerate(zip(events, outcome.results, strict=True)):
        kind = event["data"].get("type")
        if isinstance(one, RefusedAppend):
            rows.append([index, kind, "refused", None, f"{one.code}: {one.message}"])
        else:
            rows.append([index, kind, one.outcome, one.event_id, None])
    rows += [[None, one.event_type, "added", one.event_id, None] for one in outcome.events if one.completed]
    refused = len(outcome.refused)
    note = f"{len(events) - refused} of {len(events)} event(s) taken, {refused} refused"
    codes = {one.exit_code for one in outcome.refused}
    code = next((one for one in (EXIT_CONFLICT, EXIT_BAD_INPUT, EXIT_TRY_AGAIN) if one in codes), EXIT_DONE)

    def for_people() -> str:
        from springline.cli.present import error_text, rows_text  # noqa: PLC0415 - for people only

        table, _ = rows_text(_EACH_COLUMNS[:-1], [row[:-1] for row in rows])
        return table + "".join(error_text(one.model_dump(), sys.stdout) for one in outcome.refused)

    return DocumentVerdict(Listing(lambda: document, _EACH_COLUMNS, rows, note=note, text=for_people), code)


def ingest(
    path: Annotated[list[str] | None, typer.Argument(metavar="PATH...", help="Paths of events in the ledger.")] = None,
    *,
    paths: PathsOption = None,
    api: ApiOption = None,
    token: TokenOption = None,
    wait: WaitOption = DEFAULT_WAIT_SECONDS,
) -> DocumentVerdict:
    """Take in events that lie in the ledger though the sequencer did not write them. Safe to repeat.

    Exit code: 0 all are in the state, 3 some were refused (each with its reason), 4 some lie too far in the future
    and are to be sent again.
    """
    given = _given(path, paths)
    outcomes: list[dict[str, Any]] = []
    with Api(api, token, wait_s=wait) as surface:
        for start in range(0, len(given), MAX_INGEST_PATHS):
            body = {"event_paths": given[start : start + MAX_INGEST_PATHS]}
            outcomes.append(surface.call("POST", "ingest", root=LEDGER, body=body).body)
    total = outcomes[-1] | {
        name: sum(one[name] for one in outcomes) for name in ("accepted", "late", "known")
    }  # The workspace's position is that of the last call.
    total |= {name: [item for one in outcomes for item in one[name]] for name in ("deferred", "refused")}
    total["outcomes"] = _summed([one["outcomes"] for one in outcomes])
    code = EXIT_CONFLICT if total["refused"] else EXIT_TRY_AGAIN if total["deferred"] else EXIT_DONE
    return DocumentVerdict(total, code)


def restore(
    path: Annotated[list[str] | None, typer.Argument(metavar="PATH...", help="Paths or ids of events.")] = None,
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    paths: PathsOption = None,
    replace: ReplaceOption = False,
) -> DocumentVerdict:
    """Write objects of accepted events anew, byte for byte, from the segments and round records that hold them too.

    Without Temporal and API, safe while everything runs, and any number of times. Prints what became of each, and
    where its bytes were found.

    Exit code: 0 all objects are whole, or --paths is a list of none, 3 some are altered (see --replace), lost, or none
    that was ever accepted.
    """
    given = _given(path, paths, may_be_none=True)

    async def work(scoped: Any) -> list[Any]:
        # Segments need Arrow's codecs, which take a moment to import: so import them only in this command.
        from springline.rebuild.restore import restore_events  # noqa: PLC0415

        return await restore_events(scoped, given, replace=replace)

    found = on_store(store, tenant, workspace, work)
    counts = Counter(one.outcome.value for one in found)
    code = EXIT_DONE if counts.keys() <= {"whole", "restored", "replaced"} else EXIT_CONFLICT
    return DocumentVerdict({"counts": dict(sorted(counts.items())), "events": [asdict(one) for one in found]}, code)


def _given(path: list[str] | None, paths: str | None, *, may_be_none: bool = False) -> list[str]:
    """Return the paths that were given in either way; raises `Refused` if there is none.

    `may_be_none`: a JSON list without any is one, such as what a rebuild has found damaged where nothing is. Nothing at
    all never is: the command that was to list them may have failed.
    """
    listed = None if paths is None else _paths(paths)
    given = [*(path or []), *(listed or [])]
    if not given and (listed is None or not may_be_none):
        raise _wrong("no path is given", "PATH", None, "Give paths of events, or --paths FILE.")
    return given


def _summed(counts: list[dict[str, int]]) -> dict[str, int]:
    names = {name for one in counts for name in one}
    return {name: sum(one.get(name, 0) for one in counts) for name in sorted(names)}


@dataclass(frozen=True, slots=True)
class _Asked:
    """The events of a request in the API's form, and its id and mode if a file has them."""

    events: list[dict[str, Any]]
    request_id: str | None = None
    mode: Any = None


def _asked(file: str | None, data: list[str]) -> _Asked:
    """Return what is asked for; raises `Refused` for input that is not events."""
    if (file is None) == (not data):
        raise _wrong(
            "give the events either as --file or as --data",
            "--file" if file is not None else "--data",
            file,
            f"Give --file FILE, or --data '{_EXAMPLE}' once for each event.",
        )
    field = "--data" if file is None else "--file"
    found: dict[str, Any] = {"events": [_parsed(text, "--data") for text in data]} if file is None else _documents(file)
    events = [_event(one, field) for one in found["events"]]
    if not 1 <= len(events) <= MAX_REQUEST_EVENTS:
        raise _wrong(
            f"{len(events)} events are no request",
            field,
            len(events),
            f"Append 1 to {MAX_REQUEST_EVENTS} events together; split them into several commands.",
        )
    return _Asked(events, found.get("request_id"), found.get("mode"))


def _documents(file: str) -> dict[str, Any]:
    """Return the request in a file; a file may also be a list of its `events`, or their lines."""
    text = read_bytes(file, "--file")
    try:
        whole = orjson.loads(text)
    except orjson.JSONDecodeError:
        lines = enumerate(text.splitlines(), 1)
        return {"events": [_parsed(line, f"--file, line {number}") for number, line in lines if line.strip()]}
    if isinstance(whole, dict) and isinstance(whole.get("events"), list):
        return whole
    return {"events": whole if isinstance(whole, list) else [whole]}


def _event(one: Any, field: str) -> dict[str, Any]:
    if isinstance(one, dict) and isinstance(one.get("data"), dict) and "type" not in one:
        return one
    if isinstance(one, dict) and "type" in one:
        return {"data": one}
    raise _wrong("an event has no payload", field, one, f"Give objects such as {_EXAMPLE}.")


def _paths(source: str) -> list[str] | None:
    """Return the paths of a file, None if it is empty."""
    text = read_bytes(source, "--paths").strip()
    if not text:
        return None
    if not text.startswith((b"{", b"[")):
        return [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    listed = _parsed(text, "--paths")
    found = listed.get("event_paths") if isinstance(listed, dict) else listed
    items = [one.get("path") if isinstance(one, dict) else one for one in found] if isinstance(found, list) else [None]
    paths = [one for one in items if isinstance(one, str)]
    if len(paths) < len(items):
        raise _wrong("it holds no list of paths", "--paths", source, 'Give {"event_paths": [...]}, a list, or lines.')
    return paths


def read_bytes(source: str, field: str) -> bytes:
    """Return a file's bytes, or those of standard input (`-`); raises `Refused` if it cannot be read."""
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        raise _wrong(
            f"file {source!r} cannot be read: {error.strerror}",
            field,
            source,
            "Name a readable file, or - for standard input.",
        ) from None


def _parsed(text: str | bytes, field: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        shown = text[:200] if isinstance(text, str) else text[:200].decode(errors="replace")
        raise _wrong(f"it is not JSON: {error}", field, shown, f"Give objects such as {_EXAMPLE}.") from None


def _wrong(problem: str, field: str, value: Any, remedy: str) -> Refused:
    return refused(Code.INVALID_REQUEST, f"{field}: {problem}", field=field, value=value, remedy=remedy)
