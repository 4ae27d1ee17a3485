"""Findings of a rebuild's steps in its history: a refused rebuild writes no report. Needs no worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from springline import names
from springline.rebuild.messages import BadEvent, PartRead, ShardFolded, ShardsPlanned

MOST_BAD = 1_000

_ANSWERS: dict[str, type[PartRead | ShardsPlanned | ShardFolded]] = {
    names.READ_SLICE: PartRead,
    names.SCAN_SEGMENT: PartRead,
    names.PLAN_SHARDS: ShardsPlanned,
    names.FOLD_SHARD: ShardFolded,
}


@dataclass(slots=True)
class Found:
    """The events that stop a rebuild: the first `MOST_BAD` bad ones, and ids of those not listed."""

    bad: list[BadEvent] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)


async def found_by_steps(history: AsyncIterator[HistoryEvent], converter: DataConverter) -> Found:
    """Return what the finished steps in a rebuild's history have found."""
    found, names_of = Found(), dict[int, str]()
    async for event in history:
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            names_of[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        if event.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            continue
        completed = event.activity_task_completed_event_attributes
        kind = _ANSWERS.get(names_of.pop(completed.scheduled_event_id, ""))
        if kind is None:
            continue
        (answer,) = await converter.decode(completed.result.payloads, [kind])
        if isinstance(answer, ShardsPlanned):
            found.gaps = answer.gaps
        else:
            found.bad += answer.bad[: MOST_BAD - len(found.bad)]
    return found
