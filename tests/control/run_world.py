"""A run under every misfortune: its real decisions, the real admission and fold, and workers and Temporal by dice.

One step at a time, a die chooses what happens next: a worker begins, ends or dies, a message comes late, twice or
never, an append is made and its answer lost, the run's workflow is lost and another takes the run up, two of them work
at once, somebody cancels the run or holds the workspace, time passes. Assets may share a pool, which is lost, too, and
an observer counts what runs of it. Then the misfortunes end, and the run has to.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from springline.control.runs.ends import ENDED_APART, METADATA, metadata_in
from springline.control.runs.messages import (
    AttemptEnded,
    AttemptOrder,
    AttemptStarted,
    CancelAsked,
    CarriedRun,
    LoadedRun,
    PoolRows,
    SlotClaim,
    SlotHolder,
    SlotsGranted,
)
from springline.control.runs.patience import Patience
from springline.control.runs.planning import RunOrigin, plan_events, plan_tasks
from springline.control.runs.pools import PoolSlots, may_begin
from springline.control.runs.progress import RunProgress
from springline.control.runs.standing import node_of, standing
from springline.definitions.manifest import DeployedManifest
from springline.ledger.envelope import as_event
from springline.ledger.events import Payload, RunCancelRequested, TaskStarted
from springline.ledger.nested import ManualTrigger
from springline.ledger.request import AppendedEvent, AppendMode, AppendRequest, EventOutcome, NewEvent
from springline.projection.rows import AttemptRow, EdgeRow, NoteRow, TaskRow
from springline.projection.schema import DISPATCHED, FINISHED_RUN, FINISHED_TASK, READY, RUNNING
from tests.control.http_world import HttpWorkers, Post
from tests.control.ledger import Ledger

RUN = "run_1"
MANIFEST = "01JHMPDTN0000AQKFF00000001"
POOL = "warehouse"
NOTICED_MS = 12_000
"""A worker has ended an attempt so long after its workflow was lost: its heartbeat is refused, then comes the grace."""


@dataclass(eq=False)
class Execution:
    """User code that a worker runs, once it has taken the order."""

    order: AttemptOrder
    workflow: Workflow
    began_ms: int
    taken: bool = False
    cancelled: bool = False
    finished: AttemptEnded | None = None
    apart: bool = False
    """Somebody who cannot know that it runs has ended it on record: a cancellation past its workflow, a take-over."""


@dataclass(eq=False)
class Append:
    """An append under way: of nothing, if only claims are looked at; its answer may still be on its way."""

    request: AppendRequest | None
    payloads: list[Payload]
    claims: list[SlotClaim] = field(default_factory=list)
    may_begin: list[str] = field(default_factory=list)
    by: Workflow | None = None


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
    gone_ms: int | None = None
    claimed_ms: int = 0

    def step(self) -> None:
        world = self.world
        word_ms = None if self.progress is None else self.progress.look_ms()
        self.stale = self.stale or (word_ms is not None and word_ms <= world.now_ms)
        if self.stale and self.append is None:
            self._read()
            if self.done:
                return
        progress = self.progress
        assert progress is not None
        if progress.cancel_requested:
            for one in list(progress.running.values()):
                if one.order is not None:
                    progress.never_began(one.key, one.attempt_id, world.now_ms)
                else:
                    world.cancel_attempt(self, one.key, one.attempt_id)
        progress.beat(world.now_ms)
        for order in progress.begin(world.now_ms, 3):
            world.begin(self, order)
        for order in progress.posts():
            assert not progress.cancel_requested, "posted in a cancelled run"
            world.http.posts.append(Post(order, self))
        for asked in progress.asks(world.now_ms, 3):
            world.post(lambda asked=asked: world.pool.ask(asked, world.now_ms))  # type: ignore[misc]
        claims = progress.claims()
        claims_due = bool(claims) and world.now_ms >= self.claimed_ms + 2_000
        if (progress.outbox or claims_due) and self.append is None:
            batch = progress.take_batch(world.dice.randint(1, 8), 100_000)
            self.claimed_ms = world.now_ms
            self.append = Append(world.request(batch) if batch else None, batch, claims, by=self)
        if progress.is_over and self.append is None:
            self.stale = True

    def _read(self) -> None:
        self.stale = False
        loaded = self.world.loaded()
        before = self.progress
        busy = any(one.workflow is self for one in self.world.executions)
        if loaded.state in FINISHED_RUN and (
            before is None or not (busy or before.outbox or before.claims() or self.not_taken)
        ):
            self.done = True
            return
        if before is None:
            self.progress = RunProgress(loaded, "acme", "prod", self.writer)
            self.progress.take_up(self.world.now_ms)
        else:
            not_taken, self.not_taken = self.not_taken, []
            self.progress, dropped = before.overlaid(loaded, not_taken, self.world.now_ms)
            begun = [one for one in self.progress.running.values() if one.remote is not None and one.started]
            for one in (*dropped, *begun):
                if one.order is not None:
                    self.progress.never_began(one.key, one.attempt_id, self.world.now_ms)
                else:
                    self.world.cancel_attempt(self, one.key, one.attempt_id)
            gone = self.patience.exhausted(self.progress.foreign, loaded, self.world.now_ms)
            if gone:
                self.world.taken_over += len(gone)
                self.world.ended_apart(gone)
                self.progress.take_up(self.world.now_ms, gone)


class World:
    """A workspace with one run, its workflows and its workers; `dice` decide everything."""

    def __init__(self, manifest: DeployedManifest, dice: random.Random) -> None:
        self.dice = dice
        self.pooled = {key for key, node in manifest.nodes.items() if node.pool is not None}
        self.slots = dice.randint(1, 2) if self.pooled else 0
        self.pool = PoolSlots(POOL)
        self.mail: list[Callable[[], None]] = []
        self.manifest = manifest
        self.ledger = Ledger()
        self.calm = False
        self.workflows: list[Workflow] = []
        self.executions: list[Execution] = []
        self.zombies: list[Append] = []
        """Appends of workflows that are gone: the sequencer may still get them."""
        self.begun: list[AttemptOrder] = []
        self.http = HttpWorkers(self)
        self.lost: set[str] = set()
        self.told: dict[str, dict[str, Any]] = {}
        """What functions told by `add_metadata`, by the ids of their attempts."""
        """Attempts whose workflow was lost before it could say their end."""
        self.cancel_seen: dict[str, int] = {}
        self.steps = 0
        self.taken_over = 0
        """Attempts that a workflow took from another, which may have been at work."""
        self._writers = 0
        self.requests = 0
        self._answers: dict[str, list[int]] = {}
        self.tasks = plan_tasks(manifest, list(manifest.nodes), None)
        origin = RunOrigin(RUN, "k", ManualTrigger(user_id="u"), ["*"], MANIFEST)
        self.ledger.append(*(as_event(event) for event in plan_events(origin, self.tasks)))
        self.new_workflow()

    @property
    def now_ms(self) -> int:
        return self.ledger.now_ms

    @property
    def has_http(self) -> bool:
        return any(asset.url is not None for asset in self.manifest.assets)

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
        states = {task.key: task.state for task in workflow.progress._graph.tasks}  # type: ignore[union-attr]
        needed = next(task.depends_on for task in self.tasks if task.key == order.task_key)
        assert all(states[key] == "SUCCEEDED" for key in needed), "begun before what it needs"
        self.begun.append(order)
        self.executions.append(Execution(order, workflow, self.now_ms))
        if order.asset_key in self.pooled:
            row = self.ledger.state.tasks_of(RUN)[order.task_key]
            assert row.attempt >= order.attempt, "begun before its dispatch is on record"
        running = [one for one in self.executions if one.order.asset_key in self.pooled and not one.apart]
        assert len(running) <= self.slots, "more run than the pool has slots"

    def ended_apart(self, keys: Sequence[str]) -> None:
        """Note that the attempts of these tasks end on record, whatever they do."""
        for one in self.executions:
            if one.order.task_key in keys:
                one.apart = True

    def post(self, message: Callable[[], None]) -> None:
        """Send a message between a run and the pool: it may be lost, or come twice."""
        if self.calm or self.dice.random() < 0.8:
            self.mail.append(message)
        if not self.calm and self.dice.random() < 0.2:
            self.mail.append(message)

    def holders(self) -> list[SlotHolder]:
        return [
            SlotHolder(
                run_id=RUN,
                task_key=key,
                attempt=task.attempt,
                attempt_id=task.attempt_id or "",
                state=task.state,
                version=task.row_version,
            )
            for key, task in self.ledger.state.tasks_of(RUN).items()
            if node_of(task) in self.pooled and task.state in (DISPATCHED, RUNNING)
        ]

    def cancel_attempt(self, workflow: Workflow, key: str, attempt_id: str) -> None:
        self.http.cancel(workflow, attempt_id)
        for one in self.executions:
            if one.workflow is workflow and one.order.attempt_id == attempt_id:
                one.cancelled = True

    def request(self, batch: Sequence[Payload]) -> AppendRequest:
        self.requests += 1
        return AppendRequest(
            request_id=f"01946b1c-0000-7000-8000-{self.requests:012x}",
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
        self.notice()
        actions: list[tuple[float, Any]] = [(6, self.workflow_step), (4, self.append_step), (5, self.worker_step)]
        if self.pooled:
            actions += [(2, self.pool_step), (3, self.deliver)]
            if not self.calm:
                actions.append((0.1, self.lose_pool))
        if self.has_http:
            actions += [(4, self.http.post_step), (5, self.http.work_step), (0.5, self.http.late_step)]
        if self.has_http and not self.calm:
            actions.append((0.5, self.http.lose_worker))
        if not self.calm:
            actions += [
                (0.3, self.lose_workflow),
                (0.15, self.second_workflow),
                (0.5, self.lose_worker),
                (0.4, self.zombie_append),
                (0.3, self.wake),
                (0.3, self.hand_over),
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
        if append.claims and not append.may_begin:
            append.may_begin = may_begin([one.attempt_id for one in append.claims], self.holders(), self.slots)
        if not self.calm and self.dice.random() < 0.2:
            return  # The answer is lost: the activity asks again, under the same id.
        workflow.append = None
        progress = workflow.progress
        assert progress is not None
        if progress.recorded([one for index, one in enumerate(append.payloads) if index not in answer]):
            workflow.stale = True
        for order in progress.confirmed(append.may_begin):
            self.begin(workflow, order)
        if answer:
            workflow.stale = True
            workflow.not_taken += [append.payloads[index] for index in answer]

    def _sequence(self, append: Append) -> list[int]:
        request = append.request
        if request is None:
            return []
        known = self._answers.get(request.request_id)
        if known is not None:
            return known
        if any(isinstance(payload, RunCancelRequested) for payload in append.payloads):
            self.cancelled_past(append.by)
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
        times: dict[str, Any] = {"worker_id": "w", "started_at_ms": one.began_ms, "ended_at_ms": self.now_ms}
        if one.order.attempt % 2:
            times["metadata"] = self.told[one.order.attempt_id] = {"share": 0.5, "by": one.order.attempt_id}
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
        gone.gone_ms = self.now_ms
        self.workflows.remove(gone)
        self.http.workflow_lost(gone)
        if gone.append is not None:
            self.zombies.append(gone.append)
        unsaid = [*gone.not_taken, *([] if gone.append is None else gone.append.payloads)]
        unsaid += [] if gone.progress is None else gone.progress.outbox
        self.lost |= {getattr(payload, "attempt_id", "") for payload in unsaid}
        if not self.workflows:
            self.new_workflow()

    def notice(self) -> None:
        """Workers end the attempts of workflows that are gone, at the latest now."""
        for one in list(self.executions):
            gone_ms = one.workflow.gone_ms
            if gone_ms is not None and self.now_ms - gone_ms >= NOTICED_MS:
                self.executions.remove(one)
                self.lost.add(one.order.attempt_id)

    def cancelled_past(self, by: Workflow | None) -> None:
        """What is dispatched is cancelled on record, though it may run: only its own workflow could have known."""
        tasks = self.ledger.state.tasks_of(RUN)
        self.ended_apart(
            [
                one.order.task_key
                for one in self.executions
                if one.workflow is not by and tasks[one.order.task_key].state == DISPATCHED
            ]
        )

    def pool_step(self) -> None:
        ready = any(
            task.state == READY and node_of(task) in self.pooled for task in self.ledger.state.tasks_of(RUN).values()
        )
        over = [RUN] if self.over else []
        rows = PoolRows(slots=self.slots, holders=self.holders(), ready=[RUN] if ready else [], over=over)
        for told in self.pool.look(rows, self.now_ms).values():
            self.post(lambda told=told: self.granted(told))  # type: ignore[misc]

    def granted(self, told: SlotsGranted) -> None:
        """One workflow has the id to which the pool sends."""
        for one in self.workflows[-1:]:
            if one.progress is not None and not one.done:
                one.progress.granted(told)

    def deliver(self) -> None:
        if self.mail:
            self.mail.pop(self.dice.randrange(len(self.mail)))()

    def lose_pool(self) -> None:
        self.pool = PoolSlots(POOL)

    def second_workflow(self) -> None:
        if len(self.workflows) < 2 and not self.over:
            self.new_workflow()

    def zombie_append(self) -> None:
        if self.zombies:
            self._sequence(self.zombies.pop(self.dice.randrange(len(self.zombies))))

    def wake(self) -> None:
        self.dice.choice(self.workflows).stale = True

    def hand_over(self) -> None:
        """A large run continues as new: its attempts go on, and all else that its workflow knows is in a message."""
        workflow = self.dice.choice(self.workflows)
        progress = workflow.progress
        if progress is None or workflow.done or workflow.append is not None or workflow.stale or workflow.not_taken:
            return
        self.http.workflow_lost(workflow)
        message = progress.carried({one.attempt_id: "shard" for one in progress.running.values()}).model_dump_json()
        carried = CarriedRun.model_validate_json(message)
        workflow.progress, dropped = RunProgress.going_on(self.loaded(), "acme", "prod", carried, now_ms=self.now_ms)
        for one in dropped:
            if one.order is not None:
                workflow.progress.never_began(one.key, one.attempt_id, self.now_ms)
            else:
                self.cancel_attempt(workflow, one.key, one.attempt_id)

    def cancel_by_run(self) -> None:
        workflow = self.dice.choice(self.workflows)
        if workflow.progress is not None and not workflow.done:
            workflow.progress.cancel(CancelAsked(requested_by="u", reason="enough"))

    def cancel_by_api(self) -> None:
        data = {"type": "run_cancel_requested", "run_id": RUN, "requested_by": "api"}
        self.cancelled_past(None)
        self.requests += 1
        self.ledger.round(
            AppendRequest(request_id=f"01946b1c-0000-7000-8000-{self.requests:012x}", events=[NewEvent(data=data)])
        )
        for one in self.workflows:
            one.stale = True

    def hold(self) -> None:
        row = self.ledger.state.holds.rows.get("workspace")
        held = row is not None and row.held
        self._set_hold(not held)

    def _set_hold(self, held: bool) -> None:
        self.requests += 1
        data = {
            "type": "springline_hold_changed",
            "change_id": f"c{self.requests}",
            "held": held,
            "changed_by": "u",
        }
        request_id = f"01946b1c-0000-7000-8000-{self.requests:012x}"
        self.ledger.round(AppendRequest(request_id=request_id, events=[NewEvent(data=data)]))

    def pass_time(self) -> None:
        quiet = [one.progress for one in self.workflows if one.progress is not None and one.append is None]
        known = [due for one in quiet if (due := one.next_ms()) is not None]
        known += [self.now_ms + 5_000 for one in quiet if one.foreign]
        known += [self.now_ms + 2_000 for one in quiet if one.claims()]
        if not self.calm or not (self.http.works or self.http.posts):
            # Workers that are well give signs of life in time.
            known += [due for one in quiet if (due := one.look_ms()) is not None]
        if known:
            self.ledger.now_ms = max(self.ledger.now_ms, min(known))
            self.notice()
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
        retries = {key: node.retries for key, node in self.manifest.nodes.items()}
        over_http = {asset.key for asset in self.manifest.assets if asset.url is not None}
        all_notes = [NoteRow(*row) for row in state.rows("x_notes")]  # type: ignore[arg-type]
        notes = {one.attempt_id for one in all_notes if one.note == ENDED_APART}
        numbered = {order.attempt_id: order.attempt for order in self.begun}
        for note in all_notes:
            assert note.attempt == numbered.get(note.attempt_id, note.attempt), "a note has another attempt's number"
        told_of = {one.attempt_id: metadata_in(one.detail) for one in all_notes if one.note == METADATA}
        for key, task in tasks.items():
            assert task.state in FINISHED_TASK
            attempts = sorted(ended[key], key=lambda one: one.attempt)
            numbers = [one.attempt for one in attempts]
            # A cancellation ends a task whose attempt is not known to have begun; a note tells what came of it.
            told = numbers[-1:] == [task.attempt] or task.attempt_id not in notes | self.lost
            if task.asset_key in over_http and task.attempt_id not in self.http.owners:
                # A cancellation ends an attempt that no worker has started, and nothing is to be said of it.
                told = numbers[-1:] == [task.attempt]
            apart = task.state == "CANCELLED" and not told
            assert numbers == list(range(1, task.attempt + (not apart))), "attempts without a gap"
            assert Counter(one.outcome for one in attempts)["SUCCEEDED"] <= 1
            if any(one.outcome == "SUCCEEDED" for one in attempts):
                assert attempts[-1].outcome == task.state == "SUCCEEDED"
            mine = [one for one in attempts if one.outcome == "FAILED" and one.category != "INFRASTRUCTURE"]
            assert len(mine) <= retries[node_of(task)] + 1, "more failures than the budget"
        recorded = {one.attempt_id for attempts in ended.values() for one in attempts}
        for one in (one for attempts in ended.values() for one in attempts):
            if one.true_ended_at is not None and one.attempt_id not in self.http.owners:
                assert told_of.get(one.attempt_id) == self.told.get(one.attempt_id), "an end without what was told"
        for order in self.begun:
            assert order.attempt_id in recorded | notes | self.lost, f"{order.task_key} ran without a trace"
        for attempt_id in self.http.owners:
            assert attempt_id in recorded, "a worker over HTTP began, and nothing says how that ended"
        succeeded = {one.attempt_id for many in ended.values() for one in many if one.outcome == "SUCCEEDED"}
        assert self.http.acknowledged <= succeeded, "a success was acknowledged and is not on record"
        over = {task.task_key for task in tasks.values() if task.asset_key in over_http}
        kinds = Counter(
            type(one.data).__name__ for one in self.ledger.events if getattr(one.data, "task_key", "") in over
        )
        assert kinds["AttemptNoted"] == 0, "of attempts over HTTP everything is said by their ends"
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
