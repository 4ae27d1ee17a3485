"""The search: every kind of stored object x damage x operation, on workspaces in every state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from random import Random

from springline.paths import ObjectPath
from springline.storage.memory import MemoryStore
from tests.damage import damages
from tests.damage.damages import DAMAGES, Damage
from tests.damage.operations import NEXT, OPERATIONS, Named, Wrong, without_what_is_lost
from tests.damage.workspaces import Made, relative
from tests.support.sequencer_run import Run
from tests.support.sequencer_world import ask, triggered

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


@cache
def kind_of(path: ObjectPath) -> str:
    """Return the kind of an object."""
    (kind,) = [kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(relative(path))]
    return kind


def damage(made: Made, path: ObjectPath, how: str, rnd: Random) -> Damage | None:
    """Return a damage of a kind to an object, None if there is no such."""
    return damages.damage(made, path, how, rnd, kind_of=kind_of)


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
            if one.data is None:
                store.remove(one.path)
            else:
                store.seed(one.path, one.data)
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
        gone = {one.kind for one in damages if one.how == "removed"}
        if gone >= {"pointer", "note of the first publish"} and name in ("read", "verify", "rebuild from index"):
            # The moment before the first round was published: no second one was ever judged on it.
            return sum(kind_of(path) == "round" for path in made.objects) == 1
        return any(_is_excused(made, one, name) for one in damages)


def _is_excused(made: Made, one: Damage, name: str) -> bool:
    kind = one.kind
    if kind == "pointer" and one.how == "older":
        # The moment before the last round was published, and nothing newer is there.
        return name in ("read", "verify") and one.data == made.older[one.path][-1]
    if kind == "request" and one.how == "removed":
        return name == "replay"  # It was never asked.
    if kind == "event" and one.how == "removed" and name == "rebuild from listing":
        # A listing that finds no event says so.
        return sum(kind_of(path) == "event" for path in made.objects) == 1
    if kind == "round" and one.how == "removed":
        # The record of a round that is not visible: everything newer is gone with it.
        return made.accepted != made.visible and one.path == max(p for p in made.objects if kind_of(p) == "round")
    return False


def _names(one: Damage, refusal: str) -> bool:
    """Say whether a refusal names an object, or for another pointer that what it names is not there any more."""
    of_pointer = one.kind == "pointer" and "the pointer names it" in refusal
    return relative(one.path) in refusal or of_pointer


def cells() -> Iterator[tuple[str, str, str]]:
    """Yield every kind of object with every damage and every operation."""
    for kind in KINDS:
        for how in DAMAGES:
            for name in OPERATIONS:
                yield kind, how, name
