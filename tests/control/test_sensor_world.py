"""Sensors under every misfortune, by seeds, and decisions without which something is lost or doubled."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from springline.control.admission import automation
from springline.control.sensors import deciding
from springline.ledger.events import SensorEvaluated
from springline.ledger.nested import EvalError
from springline.sensors import reading
from tests.control.sensor_world import SensorWorld

SEEDS = 200
FULL_SEEDS = 10_000
Mutant = Callable[[pytest.MonkeyPatch], None]


def lived(seed: int) -> SensorWorld:
    dice = random.Random(seed)
    world = SensorWorld(dice)
    world.live(dice.choice((40, 150, 400)))
    world.check()
    return world


def live_through(seeds: range) -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        try:
            counts += lived(seed).counts
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    return counts


@pytest.mark.proof
@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_every_item_is_asked_for_once_and_no_message_is_lost(first: int) -> None:
    counts = live_through(range(first, first + 50))
    assert counts["evaluations"] > 300
    assert counts["refused"] > 20, "misfortunes that hurt nobody prove nothing"
    assert counts["duplicates"] > 30
    assert counts["together"] > 20


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("first", range(SEEDS, FULL_SEEDS, 700))
def test_every_item_is_asked_for_once_and_no_message_is_lost_by_many_seeds(first: int) -> None:
    live_through(range(first, first + 700))


def _what_was_seen_is_not_judged(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(automation, "_check_seen", lambda *_args: None)


def _changes_by_operators_are_not_judged(patch: pytest.MonkeyPatch) -> None:
    original = automation._check_seen

    def mutant(state: Any, case: Any, said: Any) -> None:
        own = state.own_sensor(case.data.sensor_id)
        original(state, case, msgspec.structs.replace(said, seen_change=None if own is None else own.row_version))

    patch.setattr(automation, "_check_seen", mutant)


def _an_operators_cursor_counts_for_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reading, "sensor_cursor", lambda sensor, _own: None if sensor is None else sensor.cursor)


def _a_failure_answers_its_message(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "MESSAGE_TRIES", 1)
    original = deciding._failed

    def mutant(view: Any, answer: Any, memory: Any, began_ms: int) -> Any:
        found = original(view, answer.model_copy(update={"counts": True}), memory, began_ms)
        (event,) = found.events
        assert isinstance(event, SensorEvaluated)
        assert isinstance(event.status, EvalError)
        text = event.status.message.replace("given up", "over") if view.message is not None else "x"
        found.events = [msgspec.structs.replace(event, status=EvalError(text))]
        return found

    patch.setattr(deciding, "_failed", mutant)


def _a_failure_moves_the_cursor(patch: pytest.MonkeyPatch) -> None:
    original = deciding._failed

    def mutant(view: Any, answer: Any, memory: Any, began_ms: int) -> Any:
        if view.kind == "push":
            return original(view, answer, memory, began_ms)
        after = str(int(view.cursor or 0) + 1)
        found = original(view, answer, memory, began_ms)
        (event,) = found.events
        found.events = [msgspec.structs.replace(event, cursor_after=after)]
        return found

    patch.setattr(deciding, "_failed", mutant)


def _requests_without_a_key_are_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "_key_of", lambda one, view, _id: one.key or f"sensor:{view.sensor_id}:{one.place}")


def _what_is_new_beside_what_is_known_is_left_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        deciding, "_without_known", lambda answer, _asked, _known: (answer.model_copy(update={"requests": []}), [])
    )


def _what_is_known_is_asked_for_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(deciding, "_without_known", lambda answer, asked, _known: (answer, list(asked)))


def _messages_together_are_read_on_the_first_ones_cursor(patch: pytest.MonkeyPatch) -> None:
    original = deciding.conclude_each

    def mutant(view: Any, *rest: Any) -> Any:
        made = original(view, *rest)
        for one in made[1:]:
            one.found.events = [
                msgspec.structs.replace(event, cursor_before=view.cursor)
                if isinstance(event, SensorEvaluated)
                else event
                for event in one.found.events
            ]
        return made

    patch.setattr(deciding, "conclude_each", mutant)


MUTANTS: dict[str, Mutant] = {
    "what is known is asked for again": _what_is_known_is_asked_for_again,
    "what is new beside what is known is left out": _what_is_new_beside_what_is_known_is_left_out,
    "messages together are read on the first one's cursor": _messages_together_are_read_on_the_first_ones_cursor,
    "an operator's cursor counts for nothing": _an_operators_cursor_counts_for_nothing,
    "what was seen is not judged": _what_was_seen_is_not_judged,
    "changes by operators are not judged": _changes_by_operators_are_not_judged,
    "a failure answers its message": _a_failure_answers_its_message,
    "a failure moves the cursor": _a_failure_moves_the_cursor,
    "requests without a key are one": _requests_without_a_key_are_one,
}


@pytest.mark.proof
@pytest.mark.parametrize("name", list(MUTANTS))
def test_each_rule_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    with pytest.raises(AssertionError):
        live_through(range(120))
