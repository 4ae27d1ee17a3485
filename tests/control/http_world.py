"""Workers over HTTP by dice: envelopes come twice or never, workers die, callbacks are late, lost and repeated.

What the API does with a callback is done here with the real judgements, over the real admission and fold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from springline.control.runs.callbacks import (
    CalledError,
    CalledTask,
    Caller,
    Completed,
    Judged,
    judge_completed,
    judge_heartbeat,
    judge_started,
)
from springline.control.runs.messages import AttemptOrder
from springline.errors import Refused
from springline.ledger.envelope import as_event
from springline.ledger.events import TaskStarted
from springline.ledger.nested import ErrorCategory, OutputVisibility, TaskOutput
from springline.ledger.request import AppendedEvent, AppendMode, AppendRequest, EventOutcome, NewEvent
from springline.projection.rows import AttemptRow

if TYPE_CHECKING:
    from tests.control.run_world import Workflow, World

Judge = Callable[[CalledTask], Judged]
LATE = Judged()


@dataclass(eq=False)
class Post:
    """An attempt on its way to a worker; `workflow` None: the one that posts it is gone, and the envelope is not."""

    order: AttemptOrder
    workflow: Workflow | None


@dataclass(eq=False)
class Work:
    """A worker with an envelope. `owns`: its start was acknowledged. `says`: its end, repeated until it is heard."""

    order: AttemptOrder
    name: str
    owns: bool = False
    says: Completed | None = None
    told_to_stop: bool = False

    @property
    def caller(self) -> Caller:
        one = self.order
        return Caller(one.run_id, one.task_key, one.attempt, one.attempt_id, self.name)


@dataclass(eq=False)
class HttpWorkers:
    """All workers over HTTP of a world, and the door that they call back at."""

    world: World
    posts: list[Post] = field(default_factory=list)
    works: list[Work] = field(default_factory=list)
    late: list[tuple[Caller, Judge]] = field(default_factory=list)
    """Callbacks whose answers nobody waits for any more."""
    owners: dict[str, str] = field(default_factory=dict)
    """By attempt, the worker whose start was acknowledged."""
    acknowledged: set[str] = field(default_factory=set)
    """Attempts whose success was acknowledged."""
    envelopes: int = 0

    @property
    def dice(self) -> random.Random:
        return self.world.dice

    def post_step(self) -> None:
        """A post reaches a worker, or not; its answer comes back, or is lost."""
        if not self.posts:
            return
        post = self.dice.choice(self.posts)
        luck = 1.0 if self.world.calm else self.dice.random()
        if luck < 0.2:
            return
        key, attempt_id = post.order.task_key, post.order.attempt_id
        progress = None if post.workflow is None else post.workflow.progress
        if luck < 0.25:
            self.posts.remove(post)
            if progress is not None:
                progress.not_taken(key, attempt_id, "422", self.world.now_ms, final=True)
            return
        row = self.world.ledger.state.task(post.order.run_id, key)
        assert row is not None
        assert row.attempt >= post.order.attempt, "posted before its dispatch was recorded"
        self.envelopes += 1
        self.works.append(Work(post.order, f"h{self.envelopes}"))
        if luck < 0.45:
            return  # The answer is lost: it is posted again.
        self.posts.remove(post)
        if progress is not None:
            progress.taken(key, attempt_id, self.world.now_ms)

    def work_step(self) -> None:
        """A worker begins, gives a sign of life, or ends."""
        if not self.works:
            return
        work = self.dice.choice(self.works)
        if not work.owns:
            taken = self._call(work, lambda called: judge_started(called, work.caller, None))
            if taken is None:
                self._gone(work)
            elif taken is not LATE:
                work.owns = True
                before = self.owners.setdefault(work.order.attempt_id, work.name)
                assert before == work.name, "two workers own one attempt"
            return
        if work.says is None and self.dice.random() < 0.4:
            taken = self._call(work, lambda called: judge_heartbeat(called, work.caller, 50, None))
            if taken is None:
                self._gone(work)
            elif taken.should_cancel:
                work.told_to_stop = True
            return
        work.says = work.says or self._end_of(work)
        said = work.says
        heard = self.world.calm or self.dice.random() < 0.8
        taken = self._call(work, lambda called: judge_completed(called, work.caller, said))
        if taken is LATE:
            return
        if taken is not None and said.outcome == "SUCCEEDED":
            self.acknowledged.add(work.order.attempt_id)
        if heard or taken is None:
            self._gone(work)

    def lose_worker(self) -> None:
        """A worker dies without a word."""
        if self.works:
            self._gone(self.dice.choice(self.works))

    def late_step(self) -> None:
        """A callback arrives whose worker has given up waiting for an answer."""
        if self.late:
            caller, judge = self.late.pop(self.dice.randrange(len(self.late)))
            self.take(caller, judge)

    def cancel(self, workflow: Workflow, attempt_id: str) -> None:
        """A workflow posts an attempt no more; it may be on its way all the same."""
        for post in [one for one in self.posts if one.workflow is workflow and one.order.attempt_id == attempt_id]:
            self.let_go(post)

    def workflow_lost(self, workflow: Workflow) -> None:
        """What a workflow was posting is posted by nobody, or is on its way."""
        for post in [one for one in self.posts if one.workflow is workflow]:
            self.let_go(post)

    def let_go(self, post: Post) -> None:
        post.workflow = None
        if self.world.calm or self.dice.random() < 0.7:
            self.posts.remove(post)

    def _gone(self, work: Work) -> None:
        if work in self.works:
            self.works.remove(work)

    def _end_of(self, work: Work) -> Completed:
        if work.told_to_stop and self.dice.random() < 0.8:
            return Completed("CANCELLED")
        if self.dice.random() < 0.65:
            state: OutputVisibility | None = self.dice.choice((None, "PENDING", "VISIBLE"))
            return Completed("SUCCEEDED", output=TaskOutput(output_visibility_state=state))
        category: ErrorCategory = self.dice.choice(("USER_CODE", "TIMEOUT", "DATA_QUALITY", "INFRASTRUCTURE"))
        return Completed("FAILED", error=CalledError(category, "no luck"))

    def _call(self, work: Work, judge: Judge) -> Judged | None:
        """Call back; None if that is refused, `LATE` if it arrives later, and nobody hears the answer."""
        if not self.world.calm and self.dice.random() < 0.1:
            self.late.append((work.caller, judge))
            return LATE
        return self.take(work.caller, judge)

    def take(self, caller: Caller, judge: Judge) -> Judged | None:
        """Do what the API does with a callback; None if it refuses it."""
        for _ in range(3):
            try:
                judged = judge(self._called(caller))
            except Refused:
                return None
            if judged.is_repeat:
                return judged
            world = self.world
            world.requests += 1
            request = AppendRequest(
                request_id=f"01946b1c-0000-7000-8000-{world.requests:012x}",
                mode=AppendMode.EACH,
                events=[NewEvent(data=as_event(event)) for event in judged.events],
            )
            (outcome,) = world.ledger.round(request)
            place = 1 if len(judged.events) > 1 and isinstance(judged.events[0], TaskStarted) else 0
            event, result = judged.events[place], outcome.results[place]
            if not isinstance(result, AppendedEvent):
                continue
            if result.outcome is EventOutcome.DUPLICATE:
                if isinstance(event, TaskStarted):
                    first = next(one for one in world.ledger.events if one.event_id == result.event_id)
                    assert isinstance(first.data, TaskStarted)
                    return judged if first.data.worker_id == caller.worker_id else None
                continue
            if world.calm or self.dice.random() < 0.7:
                for workflow in world.workflows:
                    workflow.stale = True
            return judged
        return None

    def _called(self, caller: Caller) -> CalledTask:
        state = self.world.ledger.state
        run, task = state.run(caller.run_id), state.task(caller.run_id, caller.task_key)
        assert run is not None
        assert task is not None
        ended = [AttemptRow(*row) for row in state.rows("x_attempts")]  # type: ignore[arg-type]
        asset = next(one for one in self.world.manifest.assets if one.key == task.asset_key)
        own = [one for one in ended if one.task_key == caller.task_key]
        return CalledTask(task, run.cancel_requested, own, asset.retries, asset.location, asset.code_version)
