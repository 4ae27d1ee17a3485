"""Runs under every misfortune, by thousands of seeds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from springline.control.runs.messages import AttemptOrder
from springline.control.runs.progress import RunProgress
from springline.definitions.manifest import DeployedManifest
from springline.ledger.events import Payload, TaskCompletionRecorded
from tests.control.run_world import MANIFEST, World

SEEDS = 400
Mutant = Callable[[pytest.MonkeyPatch], None]


def manifest_of(dice: random.Random) -> DeployedManifest:
    """Return some assets that depend on each other."""
    keys = [f"a{number}" for number in range(dice.randint(1, 6))]
    assets = []
    for place, key in enumerate(keys):
        needs = dice.sample(keys[:place], dice.randint(0, min(place, 3)))
        assets.append(
            {
                "key": key,
                "location": "flights",
                "dependencies": [{"asset": one} for one in needs],
                "retries": dice.randint(0, 2),
                "priority": dice.randint(0, 2),
            }
        )
    return DeployedManifest.model_validate(
        {
            "format": 1,
            "manifest_id": MANIFEST,
            "deployed_at_ms": 0,
            "fingerprint": "f",
            "locations": [],
            "assets": assets,
        }
    )


def lived(seed: int, most: int = 20_000) -> World:
    dice = random.Random(seed)
    world = World(manifest_of(dice), dice)
    world.live(dice.choice((0, 30, 150, 400)), most)
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_a_run_ends_and_everything_that_ran_is_on_record(first: int) -> None:
    for seed in range(first, first + 50):
        try:
            lived(seed).check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def _without(name: str) -> Mutant:
    def mutate(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(RunProgress, name, lambda *_args, **_more: None)

    return mutate


def _always(name: str, answer: object) -> Mutant:
    def mutate(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(RunProgress, name, lambda *_args, **_more: answer)

    return mutate


def _begins_though_held(patch: pytest.MonkeyPatch) -> None:
    begin = RunProgress.begin

    def mutant(self: RunProgress, now_ms: int, room: int) -> list[AttemptOrder]:
        held, self.held = self.held, False
        try:
            return begin(self, now_ms, room)
        finally:
            self.held = held

    patch.setattr(RunProgress, "begin", mutant)


def _takes_any_batch(patch: pytest.MonkeyPatch) -> None:
    def mutant(self: RunProgress, most_events: int, most_bytes: int) -> list[Payload]:
        batch = self.outbox[:most_events]
        del self.outbox[: len(batch)]
        return batch

    patch.setattr(RunProgress, "take_batch", mutant)


def _forgets_failures(patch: pytest.MonkeyPatch) -> None:
    end_again = RunProgress._end_again

    def mutant(self: RunProgress, end: TaskCompletionRecorded) -> None:
        task = self._by_key[end.task_key]
        failures = task.failures
        end_again(self, end)
        task.failures = failures

    patch.setattr(RunProgress, "_end_again", mutant)


def _tries_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RunProgress, "_may_try_again", lambda self, task, number, *_: number < task.loaded.max_attempts)


def _repeats_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RunProgress, "_say_again", lambda *_: None)


MUTANTS: dict[str, Mutant] = {
    "nobody takes a run up": _without("take_up"),
    "what is dropped is not noted": _without("_append_note"),
    "an end apart is not noted": _without("_note_end"),
    "a late end is not noted": _without("_note"),
    "every attempt goes on": _always("_goes_on", True),
    "no attempt goes on": _always("_goes_on", False),
    "any attempt may be next": _always("_is_next", True),
    "any attempt is open": _always("_is_open", True),
    "begins though held": _begins_though_held,
    "two attempts in one append": _takes_any_batch,
    "forgets failures when it begins anew": _forgets_failures,
    "tries without end": _tries_without_end,
    "what waited is not appended": _repeats_nothing,
}
MUTANT_SEEDS = 6_000


@pytest.mark.proof
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_of_the_decisions_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    for seed in range(MUTANT_SEEDS):
        try:
            lived(seed, most=3_000).check()
        except Exception:
            return
    raise AssertionError(f"nothing was noticed in {MUTANT_SEEDS} lives")
