"""The search: every kind of stored object x damage x operation, on workspaces in every state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from springline.paths import ObjectPath
from springline.storage.memory import MemoryStore
from tests.damage.operations import NEXT, OPERATIONS, Named, Wrong, without_what_is_lost
from tests.damage.workspaces import Made, relative
from tests.sequencer.run import Run
from tests.sequencer.world import ask, triggered

KINDS: dict[str, str] = {
    "pointer": r"state/orchestration/manifest\.pointer\.json",
    "note of the first publish": r"state/orchestration/published\.json",
    "manifest": r"state/orchestration/manifests/.*",
    "table": r"state/orchestration/(base|l0)/.*\.parquet",
    "buckets": r"state/orchestration/(base|l0)/.*/buckets\..*",
    "deletions": r"state/orchestration/l0/.*/deletions\..*",
    "round": r"state/orchestration/rounds/.*",
    "request": r"state/orchestration/requests/.*",
    "refusal": r"state/orchestration/refused/.*",
    "garbage report": r"state/orchestration/garbage/.*",
    "rebuild's work": r"state/orchestration/rebuild-work/.*",
    "rebuild manifest": r"state/orchestration/rebuilds/.*",
    "index": r"ledger/orchestration/index/v1/[^/]*",
    "node": r"ledger/orchestration/index/v1/node/.*",
    "segment": r"ledger/orchestration/segments/.*",
    "event": r"ledger/orchestration/[0-9]{4}-.*",
}
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}


def kind_of(path: ObjectPath) -> str:
    """Return the kind of an object."""
    (kind,) = [kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(relative(path))]
    return kind


def _flip(data: bytes, rnd: Random) -> bytes:
    place = rnd.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << rnd.randrange(8)]) + data[place + 1 :]


def _letter(data: bytes, rnd: Random) -> bytes:
    """Return the bytes with one letter or digit replaced by another, so that what was JSON mostly still is."""
    places = [place for place, one in enumerate(data) if chr(one).isalnum()] or [0]
    place = rnd.choice(places)
    other = rnd.choice([one for one in b"0123456789ABCDEFabcdef" if one != data[place]])
    return data[:place] + bytes([other]) + data[place + 1 :]


DAMAGES = ("removed", "emptied", "cut short", "one bit changed", "one letter changed", "older", "another")
"""A bit or letter is changed at a place that is drawn; the others are what they say."""


@dataclass(frozen=True)
class Damage:
    """What is done to one object; `data` None: it is removed."""

    path: ObjectPath
    how: str
    data: bytes | None

    def apply(self, store: MemoryStore) -> None:
        if self.data is None:
            store.remove(self.path)
        else:
            store.seed(self.path, self.data)


def damage(made: Made, path: ObjectPath, how: str, rnd: Random) -> Damage | None:
    """Return a damage of a kind to an object, None if there is no such."""
    data = made.objects[path]
    if how == "removed":
        return Damage(path, how, None)
    if how == "emptied":
        return Damage(path, how, b"")
    if how == "cut short":
        return Damage(path, how, data[: rnd.randrange(len(data))])
    if how == "one bit changed":
        return Damage(path, how, _flip(data, rnd))
    if how == "one letter changed":
        return Damage(path, how, _letter(data, rnd))
    if how == "older":
        found = made.older[path]
    else:
        found = [made.objects[other] for other in made.objects if other != path and kind_of(other) == kind_of(path)]
        found = [one for one in found if one != data]
    return Damage(path, how, rnd.choice(found)) if found else None


def draw(workspaces: Sequence[Made], kind: str, rnd: Random) -> tuple[Made, ObjectPath] | None:
    """Return a workspace and one of its objects of a kind, mostly one that the next step needs; None: there is none."""
    chance = rnd.random()
    for made_of in _FROM[0 if chance < VITAL else 1 if chance < NEEDED else 2 :]:
        having = [(made, path) for made in workspaces for path in made_of(made) if kind_of(path) == kind]
        if having:
            return rnd.choice(having)
    return None


VITAL, NEEDED = 0.6, 0.9
"""How often an object is drawn that the next step needs, and how often one that anybody needs."""
_FROM: list[Callable[[Made], Iterable[ObjectPath]]] = [
    lambda made: made.vital,
    lambda made: made.needed,
    lambda made: made.objects,
]


@dataclass
class Cases:
    """What came of all cases so far."""

    counts: Counter[str]

    async def run(self, made: Made, damages: list[Damage], name: str) -> None:
        """Try one operation on a damaged copy of a workspace. Raises `Wrong` with everything that is needed to look."""
        store = made.store()
        for one in damages:
            one.apply(store)
        said = ", ".join(f"{relative(one.path)} {one.how}" for one in damages)
        try:
            await OPERATIONS[name](made, store)
            self.counts["right"] += 1
        except Named as refusal:
            if not any(_names(one, str(refusal)) for one in damages):
                if self._excused(made, damages, name):
                    self.counts["indistinguishable"] += 1
                    return
                raise Wrong(f"{made.name}: {said}: {name}: the refusal names another: {refusal}") from refusal
            self.counts["named"] += 1
            if name == "append":
                await self._ended(made, store, said)
        except Exception as error:
            if self._excused(made, damages, name):
                self.counts["indistinguishable"] += 1
                return
            raise Wrong(f"{made.name}: {said}: {name}: {error!r}") from error

    async def _ended(self, made: Made, store: MemoryStore, said: str) -> None:
        """Check that runbooks end what stopped an append: events restored, and a rebuild, if need be without some."""
        with suppress(Named):
            await OPERATIONS["restore"](made, store)
        for name in ("rebuild from rounds", "rebuild from listing"):
            try:
                await OPERATIONS[name](made, store)
            except Named:
                continue
            break
        else:
            try:
                await without_what_is_lost(store)
            except Named as refusal:
                raise Wrong(f"{made.name}: {said}: no runbook ends it: {refusal}") from refusal
            self.counts["without what is lost"] += 1
        (answer,) = await Run(store, NEXT + 1).append(ask(NEXT + 1, triggered("afterwards")))
        if answer.refusal is not None:
            raise Wrong(f"{made.name}: {said}: after a rebuild: {answer.refusal}")

    def _excused(self, made: Made, damages: list[Damage], name: str) -> bool:
        """Say whether nothing in the store tells the damage from a state that it could rightly be in."""
        gone = {kind_of(one.path) for one in damages if one.how == "removed"}
        if gone >= {"pointer", "note of the first publish"} and name in ("read", "verify", "rebuild from index"):
            # The moment before the first round was published: no second one was ever judged on it.
            return sum(kind_of(path) == "round" for path in made.objects) == 1
        return any(_is_excused(made, one, name) for one in damages)


def _is_excused(made: Made, one: Damage, name: str) -> bool:
    kind = kind_of(one.path)
    if kind == "pointer" and one.how == "older":
        # The moment before the last round was published, and nothing newer is there.
        return name in ("read", "verify") and one.data == made.older[one.path][-1]
    if kind == "request" and one.how == "removed":
        return name == "replay"  # It was never asked.
    if kind == "round" and one.how == "removed":
        # The record of a round that is not visible: everything newer is gone with it.
        return made.accepted != made.visible and one.path == max(p for p in made.objects if kind_of(p) == "round")
    return False


def _names(one: Damage, refusal: str) -> bool:
    """Say whether a refusal names an object, or for another pointer that what it names is not there any more."""
    of_pointer = kind_of(one.path) == "pointer" and "the pointer names it" in refusal
    return relative(one.path) in refusal or of_pointer


def cells() -> Iterator[tuple[str, str, str]]:
    """Yield every kind of object with every damage and every operation."""
    for kind in KINDS:
        for how in DAMAGES:
            for name in OPERATIONS:
                yield kind, how, name
