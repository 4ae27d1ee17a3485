"""Workspaces with a ledger, made by the real sequencer, and the state that they must have."""

from __future__ import annotations

from collections.abc import Sequence

from springline.paths import ObjectPath, canonical_ulid_event
from springline.published.head import read_head
from springline.rebuild.sources import from_index
from springline.storage.memory import MemoryStore
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import ask, body_of, linear_run, scoped, seed_event, triggered
from tests.support.yardstick import check_state


async def appended(runs: Sequence[str], *, store: MemoryStore | None = None) -> tuple[MemoryStore, Run]:
    """Return a workspace whose callers have appended whole runs, an event a round."""
    store = MemoryStore() if store is None else store
    run = Run(store)
    number = 0
    for name in runs:
        for payload in linear_run(name, ["a", "b"]):
            number += 1
            (answer,) = await run.append(ask(number, payload))
            assert answer.refusal is None
    return store, run


def foreign(store: MemoryStore, first: int, count: int, *, at_ms: int | None = None) -> list[str]:
    """Put events into the ledger as another implementation would, unknown to ours; return their paths."""
    more = {} if at_ms is None else {"at_ms": at_ms}
    return [
        seed_event(store, body_of(number, triggered(f"f-{number}"), **more)) for number in range(first, first + count)
    ]


async def listed(store: MemoryStore) -> dict[str, list[ObjectPath]]:
    """Return a rebuild manifest of all accepted events, each by its object."""
    found = await from_index(scoped(store), objects=True)
    return {"event_paths": found.event_paths}


async def listed_in_segments(store: MemoryStore) -> dict[str, list[ObjectPath]]:
    """Return a rebuild manifest of all accepted events, in segments as far as they are."""
    found = await from_index(scoped(store))
    return {"event_paths": found.event_paths, "segment_paths": found.segment_paths}


async def planned(store: MemoryStore) -> dict[str, object]:
    """Return the rebuild manifest of all accepted events that says up to which round they are all of them."""
    found = await from_index(scoped(store), objects=True)
    return {"event_paths": found.event_paths, "as_of_round": found.as_of_round}


async def digest(store: MemoryStore) -> str:
    """Return the digest of the published state, which is checked against the in-order fold of its events."""
    await check_state(store)
    head = await read_head(scoped(store))
    assert head is not None
    assert head.manifest.springline is not None
    return head.manifest.springline.digest.state


def path_of(event_id: str) -> ObjectPath:
    return canonical_ulid_event(event_id)
