"""Runs under every misfortune, by thousands of seeds."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from springline.control.runs import callbacks
from springline.control.runs.graph import GraphTask
from springline.control.runs.messages import AttemptOrder, CarriedRun, SlotGrant, SlotHolder, SlotsGranted
from springline.control.runs.progress import RunProgress
from springline.definitions.manifest import DeployedManifest
from springline.ledger.events import Payload, TaskCompletionRecorded
from springline.projection.schema import RUNNING
from tests.control import run_world
from tests.control.run_world import MANIFEST, POOL, RUN, World

SEEDS = 400
Mutant = Callable[[pytest.MonkeyPatch], None]


def manifest_of(dice: random.Random, *, pools: bool, http: bool = False, with_tasks: bool = False) -> DeployedManifest:
    """Return some assets that depend on each other; with `pools`, most share one; with `http`, some are made so.

    With `with_tasks` some of them are tasks of the pipeline, and no assets.
    """
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
                "pool": POOL if pools and dice.random() < 0.7 else None,
            }
        )
    for one in assets if http else ():
        if dice.random() < 0.6:
            one |= {"url": "https://workers.example.com/t", "retry_delay_ms": 5_000}
    tasks = [one for one in assets if with_tasks and dice.random() < 0.5]
    return DeployedManifest.model_validate(
        {
            "format": 2,
            "manifest_id": MANIFEST,
            "deployed_at_ms": 0,
            "fingerprint": "f",
            "locations": [],
            "assets": [one for one in assets if one not in tasks],
            "tasks": tasks,
        }
    )


def lived(seed: int, most: int = 20_000, *, pools: bool = False, http: bool = False, with_tasks: bool = False) -> World:
    dice = random.Random(seed)
    world = World(manifest_of(dice, pools=pools, http=http, with_tasks=with_tasks), dice)
    world.live(dice.choice((0, 30, 150, 400)), most)
    return world


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_a_run_ends_and_everything_that_ran_is_on_record(first: int) -> None:
    for seed in range(first, first + 50):
        for pools in (False, True):
            try:
                lived(seed, pools=pools).check()
            except Exception as error:
                raise AssertionError(f"seed {seed}, pools {pools}: {error}") from error


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_so_does_one_with_workers_over_http(first: int) -> None:
    for seed in range(first, first + 50):
        try:
            lived(seed, http=True).check()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_so_does_one_with_tasks_which_materialize_nothing() -> None:
    succeeded = 0
    for seed in range(60):
        world = lived(seed, pools=seed % 2 == 0, with_tasks=True)
        try:
            world.check()
            tasks = {one.key for one in world.manifest.tasks}
            for row in world.ledger.state.tasks_of(RUN).values():
                is_task = row.task_key in tasks
                assert (row.asset_key is None) == is_task
                if row.state == "SUCCEEDED":
                    assert (row.materialization_id is None) == is_task
                    succeeded += is_task
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
    assert succeeded > 30


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
        task = self._graph[end.task_key]
        failures = task.failures
        end_again(self, end)
        task.failures = failures

    patch.setattr(RunProgress, "_end_again", mutant)


def _tries_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RunProgress, "_may_try_again", lambda self, task, number, *_: number < task.loaded.max_attempts)


def _repeats_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RunProgress, "_say_again", lambda *_: None)


def _hands_over_without(*fields: str) -> Mutant:
    def mutate(patch: pytest.MonkeyPatch) -> None:
        carried = RunProgress.carried

        def mutant(self: RunProgress, shard_of: Mapping[str, str]) -> CarriedRun:
            empty: dict[str, Any] = {"running": [], "outbox": [], "told_whole": [], "dropped": {}}
            return carried(self, shard_of).model_copy(update={field: empty[field] for field in fields})

        patch.setattr(RunProgress, "carried", mutant)

    return mutate


def _hands_over_as_another(patch: pytest.MonkeyPatch) -> None:
    carried = RunProgress.carried
    patch.setattr(
        RunProgress, "carried", lambda self, shards: carried(self, shards).model_copy(update={"writer": "another"})
    )


def _begins_before_it_is_on_record(patch: pytest.MonkeyPatch) -> None:
    begin = RunProgress.begin

    def mutant(self: RunProgress, now_ms: int, room: int) -> list[AttemptOrder]:
        return [*begin(self, now_ms, room), *self.confirmed([one.attempt_id for one in self.claims()])]

    patch.setattr(RunProgress, "begin", mutant)


def _needs_no_leave(patch: pytest.MonkeyPatch) -> None:
    """Everything is dispatched at once: safe, because the rows decide, but it shows that they do."""
    begin = RunProgress.begin

    def mutant(self: RunProgress, now_ms: int, room: int) -> list[AttemptOrder]:
        leave = [SlotGrant(task_key=one.key, attempt=one.attempt + 1) for one in self._graph.lacks_leave.values()]
        self.granted(SlotsGranted(pool=POOL, grants=leave))
        return begin(self, now_ms, room)

    patch.setattr(RunProgress, "begin", mutant)
    patch.setattr(run_world, "may_begin", lambda claims, holders, slots: list(claims))


def _takes_up_at_once(patch: pytest.MonkeyPatch) -> None:
    take_up = RunProgress.take_up

    def mutant(self: RunProgress, now_ms: int, keys: Collection[str] | None = None) -> None:
        take_up(self, now_ms, [task.key for task in self._graph.tasks] if keys is None else keys)

    patch.setattr(RunProgress, "take_up", mutant)


def _any_attempt_is_open(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GraphTask, "is_open", lambda *_: True)


def _nothing_is_over_http(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(GraphTask, "is_remote", False)


def _rows_with_room_are_all_it_takes(patch: pytest.MonkeyPatch) -> None:
    def mutant(claims: Collection[str], holders: Sequence[SlotHolder], slots: int) -> list[str]:
        begun = sum(one.state == RUNNING for one in holders)
        return list(claims)[: max(0, slots - begun)]

    patch.setattr(run_world, "may_begin", mutant)


MUTANTS: dict[str, Mutant] = {
    "nobody takes a run up": _without("take_up"),
    "what is dropped is not noted": _without("_append_note"),
    "an end apart is not noted": _without("_note_end"),
    "a late end is not noted": _without("_note"),
    "every attempt goes on": _always("_goes_on", True),
    "no attempt goes on": _always("_goes_on", False),
    "any attempt may be next": _always("_is_next", True),
    "any attempt is open": _any_attempt_is_open,
    "begins though held": _begins_though_held,
    "two attempts in one append": _takes_any_batch,
    "forgets failures when it begins anew": _forgets_failures,
    "tries without end": _tries_without_end,
    "what waited is not appended": _repeats_nothing,
    "hands over no attempts": _hands_over_without("running"),
    "hands over no events": _hands_over_without("outbox"),
    "hands over as another workflow": _hands_over_as_another,
}
POOL_MUTANTS: dict[str, Mutant] = {
    "begins before its dispatch is on record": _begins_before_it_is_on_record,
    "whatever is on record begins": _needs_no_leave,
    "slots of a lost workflow are free at once": _takes_up_at_once,
    "what is about to begin is not counted": _rows_with_room_are_all_it_takes,
    "what waits for a slot is not begun anew": _always("_is_still_to_come", True),
    "a pool is never asked": _always("asks", []),
    "what is confirmed does not begin": _always("confirmed", []),
}


def _posts_before_it_is_recorded(patch: pytest.MonkeyPatch) -> None:
    posts = RunProgress.posts

    def mutant(self: RunProgress) -> list[AttemptOrder]:
        for one in self.running.values():
            if one.remote is not None:
                one.remote.recorded = True
        return posts(self)

    patch.setattr(RunProgress, "posts", mutant)


def _posts_though_cancelled(patch: pytest.MonkeyPatch) -> None:
    posts = RunProgress.posts

    def mutant(self: RunProgress) -> list[AttemptOrder]:
        asked, self.cancel_requested = self.cancel_requested, False
        try:
            return posts(self)
        finally:
            self.cancel_requested = asked

    patch.setattr(RunProgress, "posts", mutant)


def _ends_on_its_own_word(patch: pytest.MonkeyPatch) -> None:
    """Forget that a worker over HTTP may have said itself how an attempt ended."""
    note_end = RunProgress._note_end

    def mutant(self: RunProgress, end: TaskCompletionRecorded) -> None:
        task = self._graph[end.task_key]
        if task.is_open(end.attempt, end.attempt_id):
            self.outbox.append(end)
            self._graph.settle(task, end, cancelled=self.cancel_requested)
        else:
            note_end(self, end)

    patch.setattr(RunProgress, "_end_again", mutant)


def _tries_without_a_budget(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(callbacks, "_is_followed", lambda *_: True)


def _takes_a_finished_attempt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(callbacks, "_says_the_same", lambda *_: True)


HTTP_MUTANTS: dict[str, Mutant] = {
    "nobody ends a silent attempt": _without("_reap"),
    "nobody goes on with an attempt": _without("_adopt"),
    "an attempt over HTTP is like any other": _nothing_is_over_http,
    "posts before it is recorded": _posts_before_it_is_recorded,
    "posts in a cancelled run": _posts_though_cancelled,
    "notes what a worker has said itself": _ends_on_its_own_word,
    "a reported failure is tried without end": _tries_without_a_budget,
    "any end repeats the one on record": _takes_a_finished_attempt,
}
MUTANT_SEEDS = 6_000


@pytest.mark.proof
@pytest.mark.parametrize("name", [*MUTANTS, *POOL_MUTANTS])
def test_a_mutant_of_the_decisions_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    {**MUTANTS, **POOL_MUTANTS}[name](monkeypatch)
    for seed in range(MUTANT_SEEDS):
        try:
            lived(seed, most=3_000, pools=name in POOL_MUTANTS).check()
        except Exception:
            return
    raise AssertionError(f"nothing was noticed in {MUTANT_SEEDS} lives")


@pytest.mark.proof
@pytest.mark.parametrize("name", HTTP_MUTANTS)
def test_a_mutant_over_http_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    HTTP_MUTANTS[name](monkeypatch)
    for seed in range(MUTANT_SEEDS):
        try:
            lived(seed, most=3_000, http=True).check()
        except Exception:
            return
    raise AssertionError(f"nothing was noticed in {MUTANT_SEEDS} lives")
