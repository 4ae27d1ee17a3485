"""Damage to a workspace, drawn at random: to the events that a rebuild lists, to the list, and to what is published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from springline.ledger.event_ids import is_canonical
from springline.paths import ObjectPath, Scope, orchestration_pointer
from springline.projection.config import FoldConfig
from springline.rebuild.sources import from_index
from springline.storage.memory import MemoryStore
from springline.storage.scoped import ScopedStore
from tests.support.ledgers import SECRET, TENANT, WORKSPACE, adversarial_ledger, bodies_of
from tests.support.sequencer_world import seed_event
from tests.support.sequencing import Sequencing

CONFIG = FoldConfig(TENANT, WORKSPACE, SECRET)
SCOPE = Scope(TENANT, WORKSPACE)
POINTER = SCOPE.full(orchestration_pointer())


@dataclass
class Workspace:
    """A ledger whose first events are accepted and published; the others stand in the store, late or new.

    `paths` are those of all events, `accepted` of those that the ledger has taken in.
    """

    store: MemoryStore
    bodies: dict[ObjectPath, bytes]
    accepted: set[ObjectPath]

    @property
    def paths(self) -> list[ObjectPath]:
        return list(self.bodies)


@dataclass
class Damage:
    """What was done. `bad`: listed paths that a rebuild must name; `unlisted`: accepted ones that are in no list."""

    manifest: dict[str, list[ObjectPath]]
    bad: set[ObjectPath] = field(default_factory=set)
    unlisted: set[ObjectPath] = field(default_factory=set)
    without_index: bool = False


async def workspace(rnd: Random, events: int) -> Workspace:
    """Return a workspace with an adversarial ledger, taken in in batches and any order, some of it not at all."""
    store = MemoryStore()
    ledger: list[dict[str, Any]] = []
    while len(ledger) < 2:
        ledger = [event for event in adversarial_ledger(rnd, events) if is_canonical(event["event_id"])]
    bodies = bodies_of(ledger)
    by_path = {ObjectPath(seed_event(store, body)): body for body in bodies}
    paths = list(by_path)
    known = sorted(rnd.sample(paths, rnd.randint(len(paths) // 2, len(paths))))
    if rnd.random() < 0.5:
        rnd.shuffle(known)
    sequencing = Sequencing(ScopedStore(store, SCOPE), CONFIG)
    while known:
        some, known = known[: (size := rnd.randint(1, max(1, events // 3)))], known[size:]
        outcome = await sequencing.ingest(some)
        assert outcome.refused == []
    accepted = set(paths) - set(await _unknown(store, paths))
    return Workspace(store, by_path, accepted)


async def _unknown(store: MemoryStore, paths: list[ObjectPath]) -> list[ObjectPath]:
    known = set((await from_index(ScopedStore(store, SCOPE), objects=True)).event_paths)
    return [path for path in paths if path not in known]


async def damage(rnd: Random, at: Workspace) -> Damage:
    """Damage a workspace, and return the list to rebuild it from."""
    listed = list(at.paths)
    rnd.shuffle(listed)
    # A list that ends before the ledger does is an old one: what came later is no gap.
    last = max(listed)
    done = Damage({"event_paths": listed + rnd.choices(listed, k=rnd.randint(0, 5))})
    if rnd.random() < 0.4:
        for path in rnd.sample(listed, min(len(listed), rnd.randint(1, 3))):
            how = rnd.choice([_gone, _truncated, _garbage, _another, _altered])
            if how(rnd, at, path):
                done.bad.add(path)
    if rnd.random() < 0.3:
        candidates = [path for path in at.accepted if path != last and path not in done.bad]
        done.unlisted = set(rnd.sample(sorted(candidates), min(len(candidates), 2)))
        done.manifest["event_paths"] = [one for one in done.manifest["event_paths"] if one not in done.unlisted]
    done.without_index = _projections(rnd, at.store)
    return done


def _gone(rnd: Random, at: Workspace, path: ObjectPath) -> bool:
    at.store.remove(SCOPE.full(path))
    return True


def _truncated(rnd: Random, at: Workspace, path: ObjectPath) -> bool:
    body = at.bodies[path]
    at.store.seed(SCOPE.full(path), body[: rnd.randrange(len(body))])
    return True


def _garbage(rnd: Random, at: Workspace, path: ObjectPath) -> bool:
    at.store.seed(SCOPE.full(path), rnd.randbytes(rnd.randint(0, 40)))
    return True


def _another(rnd: Random, at: Workspace, path: ObjectPath) -> bool:
    other = rnd.choice(at.paths)
    at.store.seed(SCOPE.full(path), at.bodies[other])
    return other != path


def _altered(rnd: Random, at: Workspace, path: ObjectPath) -> bool:
    """Alter a body so that it still is an event: only who knows what was accepted can tell."""
    if path not in at.accepted:
        return False
    event = orjson.loads(at.bodies[path])
    event["source"] = f"{event['source']}/altered"
    at.store.seed(SCOPE.full(path), orjson.dumps(event))
    return True


def _projections(rnd: Random, store: MemoryStore) -> bool:
    """Damage what is published; say whether nobody can read the index of accepted events any more."""
    kinds: dict[str, Callable[[str], bool]] = {
        "pointer": lambda path: path == POINTER,
        "manifests": lambda path: "/manifests/" in path,
        "tables": lambda path: path.endswith(".parquet"),
        "index": lambda path: "/index/" in path,
        "segments": lambda path: "/segments/" in path,
    }
    chosen = [name for name in kinds if rnd.random() < 0.25]
    for name in chosen:
        for path in [path for path in store.objects if kinds[name](path)]:
            what = rnd.randrange(3)
            data = store.objects[path].data
            if what == 0:
                store.remove(path)
            elif what == 1:
                store.seed(path, data[: len(data) // 2])
            else:
                place = rnd.randrange(len(data))
                store.seed(path, data[:place] + bytes([data[place] ^ 1 << rnd.randrange(8)]) + data[place + 1 :])
    return bool({"pointer", "manifests", "index", "segments"} & set(chosen))


def mend(at: Workspace) -> None:
    """Put the events back as they were."""
    for path, body in at.bodies.items():
        at.store.seed(SCOPE.full(path), body)
