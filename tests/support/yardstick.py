"""What a workspace must hold: its accepted events folded in order, found without the code under test."""

from __future__ import annotations

from springline.ledger.envelope import parse_event
from springline.projection.config import FoldConfig
from springline.projection.digest import Digest
from springline.projection.fold.loop import fold_all
from springline.projection.schema import TABLES
from springline.projection.state import State
from springline.published.events import events_between
from springline.published.head import PublishedHead, read_head
from springline.published.index_files import read_index
from springline.published.load import load_state
from springline.storage.memory import MemoryStore
from tests.support.sequencer_world import CONFIG, scoped


def in_order(bodies: list[bytes], config: FoldConfig = CONFIG) -> str:
    """Return the digest of the in-order fold of events, each once: that of the reference's tables."""
    return folded_in_order(bodies, config).state()


def folded_in_order(bodies: list[bytes], config: FoldConfig = CONFIG) -> Digest:
    """Return the digest of all tables of the in-order fold of events, each once."""
    by_id = {event.event_id: event for event in map(parse_event, bodies)}
    state = State(config)
    fold_all(state, (by_id[event_id] for event_id in sorted(by_id)))
    return Digest.of({name: state.rows(name) for name in TABLES})


async def head_of(store: MemoryStore) -> PublishedHead:
    """Return what is published."""
    head = await read_head(scoped(store))
    assert head is not None
    return head


async def check_state(store: MemoryStore, config: FoldConfig = CONFIG) -> list[bytes]:
    """Check that the published state is the in-order fold of exactly the events that its index names; return them.

    The state is read by a process that remembers nothing, with every file's hash, and every row's digest.
    """
    head = await head_of(store)
    ours = head.manifest.springline
    assert ours is not None, "the head is the reference's"
    index = await read_index(scoped(store), ours.events.index)
    bodies = [body async for batch in events_between(scoped(store), index, None) for _, body in batch]
    assert len(bodies) == index.count == ours.events.count
    loaded = await load_state(scoped(store), head.manifest, config, verify=True)
    assert loaded.digest.whole() == ours.digest.whole
    if ours.adopted is None:
        assert ours.digest.whole == folded_in_order(bodies, config).whole()
    return bodies
