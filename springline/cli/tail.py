"""`springline ledger tail`: the accepted events as lines, read from the store."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import orjson
import typer

from springline.cli.documents import hint
from springline.cli.stores import StoreOption, TenantOption, WorkspaceOption, on_store
from springline.errors import Code, refused

POLL_SECONDS = 0.5


def tail(
    *,
    tenant: TenantOption,
    workspace: WorkspaceOption,
    store: StoreOption = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="EVENT_ID", help="Begin with this event, or the next one.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=0, help="Without --from: the last N; default: 10.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with events as they become visible; Ctrl-C.")] = False,
) -> None:
    """Print accepted events in the order of their ids, one JSON object per line. Nothing in the store is listed.

    With --follow, events that come in below those already shown are counted in a hint, not shown.
    """
    if begin is not None and count is not None:
        raise refused(
            Code.INVALID_REQUEST,
            "--from and --count exclude each other",
            field="--count",
            value=count,
            remedy="Give one of them.",
        )

    async def work(scoped: Any) -> None:
        await _tail(scoped, begin, 10 if count is None else count, follow=follow)

    on_store(store, tenant, workspace, work)


async def _tail(store: Any, begin: str | None, count: int, *, follow: bool) -> None:
    # The index is read with Arrow's codecs, which take a moment to load: only this command pays.
    from springline.reading.events import accepted_events, events_after, newest  # noqa: PLC0415

    found = await accepted_events(store)
    if begin is None:
        for _, body in await newest(store, found.index, count):
            _print(body)
    else:
        async for event_id, body in events_after(store, found.index, begin[:-1]):
            if event_id >= begin:
                _print(body)
    last = found.head.revision.last_visible_event_id or ""
    known, seen = found.head.revision.manifest_id, found.index.count
    while follow:
        await asyncio.sleep(POLL_SECONDS)
        found = await accepted_events(store)
        if found.head.revision.manifest_id == known:
            continue
        known, fresh = found.head.revision.manifest_id, 0
        async for event_id, body in events_after(store, found.index, last):
            _print(body)
            fresh, last = fresh + 1, event_id
        late = found.index.count - seen - fresh
        if late > 0:
            hint(f"{late} events came in below those shown")
        seen = found.index.count


def _print(body: bytes) -> None:
    """Print an event as it is stored, unless it stands on several lines."""
    line = body if b"\n" not in body else orjson.dumps(orjson.loads(body))
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()
