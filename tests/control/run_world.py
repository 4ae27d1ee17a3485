"""A run under every misfortune: its real decisions, the real admission and fold, and workers and Temporal by dice.

One step at a time, a die chooses what happens next: a worker begins, ends or dies, a message comes late, twice or
never, an append is made and its answer lost, the run's workflow is lost and another takes the run up, two of them work
at once, somebody cancels the run or holds the workspace, time passes. Then the misfortunes end, and the run has to.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from springline.control.runs.messages import AttemptEnded, AttemptOrder, AttemptStarted, CancelAsked, LoadedRun
from springline.control.runs.patience import Patience
from springline.control.runs.planning import RunOrigin, plan_events, plan_tasks
from springline.control.runs.progress import RunProgress, as_event
from springline.control.runs.standing import standing
from springline.definitions.manifest import DeployedManifest
from springline.ledger.events import Payload, TaskStarted
from springline.ledger.nested import ManualTrigger
from springline.ledger.request import AppendedEvent, AppendMode, AppendRequest, EventOutcome, NewEvent
from springline.projection.rows import AttemptRow, EdgeRow, TaskRow
from springline.projection.schema import FINISHED_RUN, FINISHED_TASK
from tests.control.ledger import Ledger

RUN = "run_1"
MANIFEST = "01JHMPDTN0000AQKFF00000001"


@dataclass(eq=False)
class Execution:
    """User code that a worker runs, once it has taken the order."""

    order: AttemptOrder
    workflow: Workflow
    began_ms: int
    taken: bool = False
    cancelled: bool = False
    finished: AttemptEnded | None = None


@dataclass(eq=False)
class Append:
    """An append under way: `made` when the sequencer has had it; its answer may still be on its way."""

    request: AppendRequest
    payloads: list[Payload]
    answer: list[int] | None = None


@dataclass(eq=False)
class Workflow:
    """What RunWorkflow does, without Temporal: it takes in what is said, begins, appends, reads rows."""

    world: World
    writer: str
    progress: RunProgress | None = None
    stale: bool = True
    append: Append | None = None
    not_taken: list[Payload] = field(default_factory=list)
    done: bool = False
    patience: Patience = field(default_factory=Patience)

    def step(self) -> None:
        world = self.world
        if self.stale and self.append is None:
            self._read()
            if self.done:
                return
        progress = self.progress
        assert progress is not None
        if progress.cancel_requested:
            for one in list(progress.running.values()):
                world.cancel_attempt(self, one.key, one.attempt_id)
        progress.beat(world.now_ms)
        for order in progress.begin(world.now_ms, 3):
            world.begin(self, order)
        if progress.outbox and self.append is None:
            batch = progress.take_batch(world.dice.randint(1, 8), 100_000)
            self.append = Append(world.request(batch), batch)
        if progress.is_over and self.append is None:
            self.stale = True

    def _read(self) -> None:
        self.stale = False
        loaded = self.world.loaded()
        before = self.progress
        busy = any(one.workflow is self for one in self.world.executions)
        if loaded.state in FINISHED_RUN and (before is None or not (busy or before.outbox or self.not_taken)):
            self.done = True
            return
        if before is None:
            self.progress = RunProgress(loaded, "acme", "prod", self.writer)
            self.progress.take_up(self.world.now_ms)
        else:
            not_taken, self.not_taken = self.not_taken, []
            self.progress, dropped = before.overlaid(loaded, not_taken, self.world.now_ms)
            for one in dropped:
                self.world.cancel_attempt(self, one.key, one.attempt_id)
            gone = self.patience.exhausted(self.progress.foreign, loaded, self.world.now_ms)
            if gone:
                self.world.taken_over += len(gone)
                self.progress.take_up(self.world.now_ms, gone)


class World:
    """A workspace with one run, its workflows and its workers; `dice` decide everything."""

    def __init__(self, manifest: DeployedManifest, dice: random.Random) -> None:
        self.dice = dice
        self.manifest = manifest
        self.ledger = Ledger()
        self.calm = False
        self.workflows: list[Workflow] = []
        self.executions: list[Execution] = []
        self.zombies: list[Append] = []
        """Appends of workflows that are gone: the sequencer may still get them."""
        self.begun: list[AttemptOrder] = []
        self.lost: set[str] = set()
        """Attempts whose workflow was lost before it could say their end."""
        self.cancel_seen: dict[str, int] = {}
        self.steps = 0
        self.taken_over = 0
        """Attempts that a workflow took from another, which may have been at work."""
        self._writers = 0
        self._requests = 0
        self._answers: dict[str, list[int]] = {}
        self.tasks = plan_tasks(manifest, [asset.key for asset in manifest.assets], None)
        origin = RunOrigin(RUN, "k", ManualTrigger(user_id="u"), ["*"], MANIFEST)
        self.ledger.append(*(as_event(event) for event in plan_events(origin, self.tasks)))
        self.new_workflow()

    @property
    def now_ms(self) -> int:
        return self.ledger.now_ms

    # What workflows do.

    def loaded(self) -> LoadedRun:
        state = self.ledger.state
        run = state.run(RUN)
        assert run is not None
        held = state.holds.rows.get("workspace")
        return standing(
            run,
            [task for _, task in sorted(state.tasks_of(RUN).items())],
            [EdgeRow(*row) for row in state.rows("dep_satisfaction")],  # type: ignore[arg-type]
            [AttemptRow(*row) for row in state.rows("x_attempts")],  # type: ignore[arg-type]
            None,
            self.manifest,
            held=held is not None and held.held,
        )

    def begin(self, workflow: Workflow, order: AttemptOrder) -> None:
        assert not workflow.progress.cancel_requested, "begun in a cancelled run"  # type: ignore[union-attr]
        assert not workflow.progress.held, "begun in a held workspace"  # type: ignore[union-attr]
        states = {task.loaded.key: task.state for task in workflow.progress._tasks}  # type: ignore[union-attr]
        needed = next(task.depends_on for task in self.tasks if task.key == order.task_key)
        assert all(states[key] == "SUCCEEDED" for key in needed), "begun before what it needs"
        self.begun.append(order)
        self.executions.append(Execution(order, workflow, self.now_ms))

    def cancel_attempt(self, workflow: Workflow, key: str, attempt_id: str) -> None:
        for one in self.executions:
            if one.workflow is workflow and one.order.attempt_id == attempt_id:
                one.cancelled = True

    def request(self, batch: Sequence[Payload]) -> AppendRequest:
        self._requests += 1
        return AppendRequest(
            request_id=f"01946b1c-0000-7000-8000-{self._requests:012x}",
            mode=AppendMode.EACH,
            events=[NewEvent(data=as_event(payload)) for payload in batch],
        )

    # What happens.

    def new_workflow(self) -> None:
        self._writers += 1
        self.workflows.append(Workflow(self, f"writer-{self._writers}"))

    def tick(self) -> None:
        """Let one thing happen."""
        self.steps += 1
        self.ledger.now_ms += self.dice.choice((1, 5, 200))
        actions: list[tuple[float, Any]] = [(6, self.workflow_step), (4, self.append_step), (5, self.worker_step)]
        if not self.calm:
            actions += [
                (0.3, self.lose_workflow),
                (0.15, self.second_workflow),
                (0.5, self.lose_worker),
                (0.4, self.zombie_append),
                (0.3, self.wake),
                (0.05, self.cancel_by_run),
                (0.04, self.cancel_by_api),
                (0.1, self.hold),
            ]
        actions.append((0.6, self.pass_time))
        weights = [weight for weight, _ in actions]
        self.dice.choices([action for _, action in actions], weights)[0]()

    def workflow_step(self) -> None:
        open_ones = [one for one in self.workflows if not one.done]
        if open_ones:
            self.dice.choice(open_ones).step()
        elif not self.over:
            self.new_workflow()

    def append_step(self) -> None:
        waiting = [one for one in self.workflows if one.append is not None]
        if not waiting:
            return
        workflow = self.dice.choice(waiting)
        append = workflow.append
        assert append is not None
        answer = self._sequence(append)
        if not self.calm and self.dice.random() < 0.2:
            return  # The answer is lost: the activity asks again, under the same id.
        workflow.append = None
        if answer:
            workflow.stale = True
            workflow.not_taken += [append.payloads[index] for index in answer]

    def _sequence(self, append: Append) -> list[int]:
        request = append.request
        known = self._answers.get(request.request_id)
        if known is not None:
            return known
        (outcome,) = self.ledger.round(request)
        assert outcome.refusal is None, outcome.refusal
        answer = [
            index
            for index, one in enumerate(outcome.results)
            if not isinstance(one, AppendedEvent) or one.outcome is EventOutcome.DUPLICATE
        ]
        self._answers[request.request_id] = answer
        return answer

    def worker_step(self) -> None:
        """A worker says that it has begun an attempt, or ends it."""
        if not self.executions:
            return
        one = self.dice.choice(self.executions)
        workflow, order = one.workflow, one.order
        there = workflow in self.workflows and not workflow.done and workflow.progress is not None
        if one.cancelled and not one.taken:
            self.executions.remove(one)
            if there:
                workflow.progress.never_began(order.task_key, order.attempt_id, self.now_ms)  # type: ignore[union-attr]
            else:
                self.lost.add(order.attempt_id)
            return
        one.taken = True
        if self.dice.random() < 0.4:
            if there:
                said = AttemptStarted(
                    task_key=order.task_key,
                    attempt=order.attempt,
                    attempt_id=order.attempt_id,
                    worker_id="w",
                    started_at_ms=one.began_ms,
                )
                workflow.progress.started(said, self.now_ms)  # type: ignore[union-attr]
            return
        self.executions.remove(one)
        if not there:
            assert not workflow.done, "a run has ended before its attempts"
            self.lost.add(order.attempt_id)
            return
        workflow.progress.ended(order.task_key, order.attempt_id, self._end(one), self.now_ms)  # type: ignore[union-attr]

    def _end(self, one: Execution) -> AttemptEnded:
        times = {"worker_id": "w", "started_at_ms": one.began_ms, "ended_at_ms": self.now_ms}
        if one.cancelled and self.dice.random() < 0.8:
            return AttemptEnded(outcome="cancelled", category="CANCELLED", message="stopped", **times)
        luck = self.dice.random()
        if luck < 0.65:
            return AttemptEnded(outcome="succeeded", **times)
        category = self.dice.choice(("USER_CODE", "TIMEOUT", "DATA_QUALITY", "INFRASTRUCTURE"))
        return AttemptEnded(outcome="failed", category=category, message="no luck", **times)

    def lose_worker(self) -> None:
        if not self.executions:
            return
        one = self.dice.choice(self.executions)
        self.executions.remove(one)
        if one.workflow in self.workflows and not one.workflow.done and one.workflow.progress is not None:
            one.workflow.progress.lost(one.order.task_key, one.order.attempt_id, "no sign of life", self.now_ms)
        else:
            self.lost.add(one.order.attempt_id)

    def lose_workflow(self) -> None:
        """Temporal forgets a workflow; its append may still come, and its workers learn it sooner or later."""
        gone = self.dice.choice(self.workflows)
        self.workflows.remove(gone)
        if gone.append is not None:
            self.zombies.append(gone.append)
        unsaid = [*gone.not_taken, *([] if gone.append is None else gone.append.payloads)]
        unsaid += [] if gone.progress is None else gone.progress.outbox
        self.lost |= {getattr(payload, "attempt_id", "") for payload in unsaid}
        if not self.workflows:
            self.new_workflow()

    def second_workflow(self) -> None:
        if len(self.workflows) < 2 and not self.over:
            self.new_workflow()

    def zombie_append(self) -> None:
        if self.zombies:
            self._sequence(self.zombies.pop(self.dice.randrange(len(self.zombies))))

    def wake(self) -> None:
        self.dice.choice(self.workflows).stale = True

    def cancel_by_run(self) -> None:
        workflow = self.dice.choice(self.workflows)
        if workflow.progress is not None and not workflow.done:
            workflow.progress.cancel(CancelAsked(requested_by="u", reason="enough"))

    def cancel_by_api(self) -> None:
        data = {"type": "run_cancel_requested", "run_id": RUN, "requested_by": "api"}
        self._requests += 1
        self.ledger.round(
            AppendRequest(request_id=f"01946b1c-0000-7000-8000-{self._requests:012x}", events=[NewEvent(data=data)])
        )
        for one in self.workflows:
            one.stale = True

    def hold(self) -> None:
        row = self.ledger.state.holds.rows.get("workspace")
        held = row is not None and row.held
        self._set_hold(not held)

    def _set_hold(self, held: bool) -> None:
        self._requests += 1
        data = {
            "type": "springline_hold_changed",
            "change_id": f"c{self._requests}",
            "held": held,
            "changed_by": "u",
        }
        request_id = f"01946b1c-0000-7000-8000-{self._requests:012x}"
        self.ledger.round(AppendRequest(request_id=request_id, events=[NewEvent(data=data)]))

    def pass_time(self) -> None:
        quiet = [one.progress for one in self.workflows if one.progress is not None and one.append is None]
        known = [due for one in quiet if (due := one.next_ms()) is not None]
        known += [self.now_ms + 5_000 for one in quiet if one.foreign]
        if known:
            self.ledger.now_ms = max(self.ledger.now_ms, min(known))
        if self.calm or self.dice.random() < 0.3:
            for one in self.workflows:
                one.stale = True

    # The end.

    @property
    def over(self) -> bool:
        run = self.ledger.state.run(RUN)
        return run is not None and run.state in FINISHED_RUN

    def live(self, misfortunes: int, most: int = 20_000) -> None:
        """Let things happen, then only good ones until the run has ended and nobody is busy."""
        for _ in range(misfortunes):
            self.tick()
        self.calm = True
        while self.zombies:
            self.zombie_append()
        row = self.ledger.state.holds.rows.get("workspace")
        if row is not None and row.held:
            self._set_hold(False)
        # One cluster is left.
        while len(self.workflows) > 1:
            self.dice.shuffle(self.workflows)
            self.lose_workflow()
        while self.zombies:
            self.zombie_append()
        until = self.steps + most
        while not (self.over and all(one.done for one in self.workflows) and not self.executions):
            assert self.steps < until, f"the run does not end: {self.describe()}"
            self.tick()

    def describe(self) -> dict[str, Any]:
        tasks = self.ledger.state.tasks_of(RUN)
        return {
            "run": self.ledger.run(RUN),
            "tasks": {key: (task.state, task.attempt) for key, task in tasks.items()},
            "workflows": [
                (one.done, one.stale, None if one.progress is None else (one.progress.counts, one.progress.foreign))
                for one in self.workflows
            ],
            "executions": len(self.executions),
        }

    def check(self) -> None:
        """Check what must hold however it went."""
        state = self.ledger.state
        tasks: dict[str, TaskRow] = dict(state.tasks_of(RUN))
        ended: dict[str, list[AttemptRow]] = defaultdict(list)
        for row in state.rows("x_attempts"):
            attempt = AttemptRow(*row)  # type: ignore[arg-type]
            ended[attempt.task_key].append(attempt)
        retries = {asset.key: asset.retries for asset in self.manifest.assets}
        notes = {str(row[2]) for row in state.rows("x_notes")}
        for key, task in tasks.items():
            assert task.state in FINISHED_TASK
            attempts = sorted(ended[key], key=lambda one: one.attempt)
            numbers = [one.attempt for one in attempts]
            # A cancellation ends a task whose attempt is not known to have begun; a note tells what came of it.
            told = numbers[-1:] == [task.attempt] or task.attempt_id not in notes | self.lost
            apart = task.state == "CANCELLED" and not told
            assert numbers == list(range(1, task.attempt + (not apart))), "attempts without a gap"
            assert Counter(one.outcome for one in attempts)["SUCCEEDED"] <= 1
            if any(one.outcome == "SUCCEEDED" for one in attempts):
                assert attempts[-1].outcome == task.state == "SUCCEEDED"
            mine = [one for one in attempts if one.outcome == "FAILED" and one.category != "INFRASTRUCTURE"]
            assert len(mine) <= retries[str(task.asset_key)] + 1, "more failures than the budget"
        recorded = {one.attempt_id for attempts in ended.values() for one in attempts}
        for order in self.begun:
            assert order.attempt_id in recorded | notes | self.lost, f"{order.task_key} ran without a trace"
        run = state.run(RUN)
        assert run is not None
        states = Counter(task.state for task in tasks.values())
        if states["CANCELLED"]:
            assert run.state == "CANCELLED"
        elif states["FAILED"]:
            assert run.state == "FAILED"
        else:
            assert run.state == "SUCCEEDED"
        for event in self.ledger.events:
            if isinstance(event.data, TaskStarted):
                assert event.data.attempt >= 1
