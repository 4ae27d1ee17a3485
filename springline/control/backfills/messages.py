"""What BackfillEvaluator, RequestBackfillWorkflow and their activities tell each other, and the progress of a backfill.

Fields are only ever added, with defaults: histories of running workflows hold these messages. Times in ms since 1970.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

NOTHING_STALE: Final = "NOTHING_STALE"
"""In the place of a state, where what is stale was asked for and nothing is: there is no backfill."""


class BackfillMessage(BaseModel):
    """Base of all messages: immutable, ignores unknown fields of a newer writer."""

    model_config = ConfigDict(frozen=True)


class BackfillProgress(BackfillMessage):
    """How far a backfill is. Counts are of partitions, those of chunks apart.

    `running`: of chunks that are planned and have not ended. `waiting`: of those that are not planned. `rate_1m`,
    `rate_5m`: partitions of chunks that ended in the last minute and the last five, for each second, times 1,000.
    `remaining_ms`: the estimate by the latter, None without a rate. `oldest_running_ms`: since when the oldest chunk
    without an end is planned. `last_event_id`: of its rows.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    running: int = 0
    waiting: int = 0
    chunks: int = 0
    chunks_planned: int = 0
    chunks_ended: int = 0
    chunks_running: int = 0
    rate_1m: int = 0
    rate_5m: int = 0
    remaining_ms: int | None = None
    oldest_running_ms: int | None = None
    last_event_id: str | None = None

    @property
    def ended(self) -> int:
        """Partitions of chunks that have ended."""
        return self.done + self.failed + self.skipped


class BackfillStart(BackfillMessage):
    """Input of BackfillEvaluator."""

    tenant: str
    workspace: str
    backfill_id: str


class EvaluateBackfillOrder(BackfillMessage):
    """Input of `evaluate_backfill`: look at a backfill at `now_ms`, and do what is due."""

    tenant: str
    workspace: str
    backfill_id: str
    now_ms: int


class EvaluatedBackfill(BackfillMessage):
    """Answer of `evaluate_backfill`.

    `state`: of the backfill then, None if there is none that is ours. `is_over`: nothing is left to do. `next_ms`: when
    the next look is due, None: when something has changed. `planned`, `ended`: chunks that were recorded, `outcomes`:
    the latter by outcome. `aside`: why it cannot go on.
    """

    state: str | None = None
    is_over: bool = False
    next_ms: int | None = None
    planned: int = 0
    ended: int = 0
    outcomes: dict[str, int] = {}
    held: bool = False
    aside: str | None = None
    progress: BackfillProgress = BackfillProgress()


BackfillVerb = Literal["create", "pause", "resume", "cancel", "retry-failed"]


class BackfillRequestStart(BackfillMessage):
    """Input of RequestBackfillWorkflow: what the API takes in `POST /backfills`, or a verb and a backfill.

    `request_id`: of `create` and `retry-failed`; the same one again is the same backfill. Without one, each is new.
    """

    tenant: str
    workspace: str
    verb: BackfillVerb = "create"
    asked: dict[str, Any] = {}
    backfill_id: str | None = None
    request_id: str | None = None


class BackfillRequestOrder(BackfillMessage):
    """Input of `request_backfill`. `name`: the request's id, if it has none of its own."""

    tenant: str
    workspace: str
    verb: BackfillVerb
    asked: dict[str, Any] = {}
    backfill_id: str | None = None
    request_id: str | None = None
    name: str
    now_ms: int


class BackfillRequestAnswer(BackfillMessage):
    """Answer of `request_backfill`: the backfill, and its state then. `replayed`: nothing was written.

    Of a backfill of what was stale: how many partitions were, counted for each asset, and by which revision of the
    published state. If nothing was, there is no backfill: `backfill_id` is empty, and `state` NOTHING_STALE.
    """

    backfill_id: str
    state: str
    total_partitions: int
    chunks: int
    replayed: bool = False
    stale_revision: str | None = None
    stale_partitions: int | None = None
