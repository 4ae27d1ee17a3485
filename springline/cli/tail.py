"""`springline ledger tail`: the accepted events as lines, read from the store."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from contextlib import suppress
from typing import Annotated, Any

import orjson
import typer

from springline.bounds import on_one_line, steers_no_terminal
from springline.cli.documents import emit, hint, write_out
from springline.cli.grid import Format, csv_text, instant
from springline.cli.session import session
from springline.cli.stores import StoreOption, TenantOption, WorkspaceOption, on_store
from springline.errors import Code, refused
from springline.ledger.timestamps import NS_PER_MS, parse_timestamp
from springline.paths import canonical_ulid_event
from springline.ulids import new_ulid, ulid_time_ms

POLL_SECONDS = 0.5
_BEGINNING = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{0,25}")
"""Of a canonical ULID."""


def tail(
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    begin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="EVENT_ID|INSTANT",
            help="Begin with this event, or the next one; an id, its beginning, or an instant such as 2026-01-31 or "
            "2026-01-31T04:00:00Z.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=0, help="Without --from: the last N; default: 10.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "--watch", help="Go on with events as they become visible; Ctrl-C.")
    ] = False,
    paths: Annotated[
        bool, typer.Option("--paths", help='Print one document instead, {"event_paths": [...]}: for `state fold`.')
    ] = False,
) -> None:
    """Print accepted events in the order of their ids, one JSON object per line. Nothing in the store is listed.

    With --follow, events that come in below those already shown are counted in a hint, not shown.
    """
    for option, given, other, excluded in (
        ("--count", count is not None, "--from", begin is not None),
        ("--paths", paths, "--follow", follow),
    ):
        if given and excluded:
            raise refused(
                Code.INVALID_REQUEST,
                f"{option} and {other} exclude each other",
                field=option,
                value=count if option == "--count" else True,
                remedy="Give one of them.",
            )

    first = None if begin is None else _first_id(begin)

    async def work(scoped: Any) -> None:
        shown = (
            _Paths()
            if paths
            else _Rows(session().form_here())
            if session().form_here() is not Format.JSON
            else _Lines()
        )
        await _tail(scoped, first, 10 if count is None else count, shown, follow=follow)
        shown.end()

    on_store(store, tenant, workspace, work)


def _first_id(text: str) -> str:
    """Return the event id, or its beginning, that a text means; `Refused` for one above or unlike all ids."""
    plain = text.strip().upper()
    if not plain or _BEGINNING.fullmatch(plain):
        return plain
    for instant_text in (plain, f"{plain}T00:00:00Z"):
        with suppress(ValueError):
            at_ms = parse_timestamp(instant_text) // NS_PER_MS
            return new_ulid(None, max(0, at_ms), 0)
    raise refused(
        Code.INVALID_REQUEST,
        f"--from {text!r} is neither an event id nor an instant",
        field="--from",
        value=text,
        remedy="Give an id such as 01J8Z0C6M8Q4V3T5Y7R9N1K2P4, its beginning, or an instant such as 2026-01-31 or "
        "2026-01-31T04:00:00Z; 0 begins with the first event.",
    )


class _Lines:
    """Prints events as they are stored, except that one with line breaks is put on one line."""

    def show(self, event_id: str, body: bytes) -> None:
        line = body if b"\n" not in body else orjson.dumps(orjson.loads(body))
        # Events may contain any text. The escapes are JSON's own, so that the event's meaning is unchanged.
        sys.stdout.write(steers_no_terminal(line.decode()) + "\n")
        sys.stdout.flush()

    def end(self) -> None:
        sys.stdout.flush()


class _Rows:
    """Prints a row for each event: its id, its time, its type, and the rest of its payload."""

    _NAMES: tuple[str, str | None, str | None, str] = ("event_id", "time", "type", "data")
    _WIDE = 120
    """On a narrower terminal only the time of day is shown, to leave room for the payload."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._begun = False

    def show(self, event_id: str, body: bytes) -> None:
        event = orjson.loads(body)
        data = event["data"] if isinstance(event.get("data"), dict) else event
        # The subject's ids first, because the rest may not fit.
        names = sorted((name for name in data if name != "type"), key=lambda name: name not in ("run_id", "task_key"))
        rest = " ".join(f"{name}={_short(data[name])}" for name in names)
        kind = data.get("type")
        self._write((event_id, instant(ulid_time_ms(event_id)), None if kind is None else str(kind), rest))

    def _write(self, row: tuple[str, str | None, str | None, str]) -> None:
        lines = [row] if self._begun else [self._NAMES, row]
        self._begun = True
        for line in lines:
            if self._form is Format.CSV:
                write_out(csv_text(line, []))
                continue
            write_out(f"{self._line(*line)}\n")

    def _line(self, event_id: str, moment: str | None, kind: str | None, data: str) -> str:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        moment = moment or "-"
        if width is not None and width < self._WIDE:
            moment = moment[11:19].ljust(8) if "T" in moment else moment.ljust(8)
        else:
            moment = moment.ljust(24)
        text = (
            f"{on_one_line(event_id):26}  {moment}  {on_one_line(kind or '-'):20}  {on_one_line(data, 2_000)}".rstrip()
        )
        return text if width is None or len(text) <= width else f"{text[: width - 1]}\u2026"

    def end(self) -> None:
        sys.stdout.flush()


def _short(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


class _Paths:
    """Prints the paths of events, in one document at the end."""

    def __init__(self) -> None:
        self._paths: list[str] = []

    def show(self, event_id: str, body: bytes) -> None:
        self._paths.append(canonical_ulid_event(event_id))

    def end(self) -> None:
        emit({"event_paths": self._paths})


async def _tail(store: Any, begin: str | None, count: int, shown: _Lines | _Rows | _Paths, *, follow: bool) -> None:
    # The index needs Arrow's codecs, which take a moment to import: so import them only in this command.
    from springline.published.events import accepted_events, events_after, newest  # noqa: PLC0415

    found = await accepted_events(store)
    if begin is None:
        for event_id, body in await newest(store, found.index, count):
            shown.show(event_id, body)
    else:
        async for event_id, body in events_after(store, found.index, begin[:-1]):
            if event_id >= begin:
                shown.show(event_id, body)
    last = found.head.revision.last_visible_event_id or ""
    known, seen = found.head.revision.manifest_id, found.index.count
    while follow:
        await asyncio.sleep(POLL_SECONDS)
        found = await accepted_events(store)
        if found.head.revision.manifest_id == known:
            continue
        known, fresh = found.head.revision.manifest_id, 0
        async for event_id, body in events_after(store, found.index, last):
            shown.show(event_id, body)
            fresh, last = fresh + 1, event_id
        late = found.index.count - seen - fresh
        if late > 0:
            hint(f"{late} events came in below those shown")
        seen = found.index.count
