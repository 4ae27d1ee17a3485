"""The search finds what it is for: without any one of the checks it meets a state, or a refusal, that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest

from springline.published import head
from springline.published.index import EventsIndex
from springline.sequencer import accepted, rounds
from springline.storage.port import ObjectStore
from tests.damage.damages import DAMAGES
from tests.damage.operations import OPERATIONS, Wrong
from tests.damage.search import Cases, damage, draw
from tests.damage.workspaces import WORKSPACES

Mutant = Callable[[pytest.MonkeyPatch], None]
MOST = 600


def _records_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rounds, "verify", lambda *_: True)


def _an_older_pointer_counts(patch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> None:
        return None

    patch.setattr(head, "_later_than", nothing)


def _holes_are_nothing(patch: pytest.MonkeyPatch) -> None:
    survey = accepted.survey

    async def without(store: ObjectStore, index: EventsIndex | None, **more: Any) -> accepted.AcceptedSet:
        found = await survey(store, index, **more)
        found.holes = []
        return found

    for room in ("plan", "sources", "switch"):
        patch.setattr(f"springline.rebuild.{room}.survey", without)


def _rebuilds_are_not_recorded(patch: pytest.MonkeyPatch) -> None:
    async def yes(*_: object) -> bool:
        return True

    patch.setattr("springline.rebuild.switch.nothing_new", yes)


def _gaps_are_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    async def none(*_: object) -> list[str]:
        return []

    patch.setattr("springline.rebuild.split.find_gaps", none)


@pytest.mark.full
@pytest.mark.parametrize(
    ("mutant", "kinds"),
    [
        (_records_are_not_checked, [["round"]]),
        (_an_older_pointer_counts, [["pointer"]]),
        (_holes_are_nothing, [["round"], ["segment", "index", "event"]]),
        (_rebuilds_are_not_recorded, [["pointer", "manifest"], ["pointer", "manifest", "index"]]),
        (_gaps_are_not_looked_for, [["event"], ["segment", "index", "node"]]),
    ],
)
async def test_a_check_that_is_left_out_is_missed(
    mutant: Mutant, kinds: Sequence[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    rnd, cases = Random(7), Cases(Counter())
    workspaces = [await make() for make in WORKSPACES]
    with pytest.raises(Wrong):
        for _ in range(MOST):
            drawn = {draw([rnd.choice(workspaces)], rnd.choice(kinds[0]), rnd)}
            for more in kinds[1:]:
                drawn |= {draw([made], rnd.choice(more), rnd) for made, _ in filter(None, set(drawn))}
            found = [one for one in drawn if one is not None]
            if not found:
                continue
            tried = [
                damage(made, path, rnd.choice(DAMAGES), rnd) for made, path in sorted(found, key=lambda one: one[1])
            ]
            await cases.run(found[0][0], [one for one in tried if one is not None], rnd.choice(list(OPERATIONS)))
