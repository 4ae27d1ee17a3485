"""What the end of a task means for those that wait for it (docs/events.md#fold-dependencies)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from springline.projection.fold.runs import count_task
from springline.projection.fold.states import BLOCKED, CANCELLED, FINISHED_TASK, READY, SKIPPED, SUCCESS
from springline.projection.rows import EdgeRow

if TYPE_CHECKING:
    from springline.projection.families import Family
    from springline.projection.state import State


def satisfy(state: State, family: Family, run_id: str, upstream: str, attempt: int, event_id: str, at_ms: int) -> None:
    """Satisfy the edges of a task that succeeded; what waited for nothing else becomes ready."""
    edges = family.edges.get(upstream)
    if edges is None:
        return
    families = state.families
    for downstream, edge in list(edges.items()):
        families.put_edge(family, EdgeRow(run_id, upstream, downstream, True, SUCCESS, at_ms, attempt, event_id))
        task = family.tasks.get(downstream)
        if edge.satisfied or task is None:
            continue
        families.keep_task(task)
        task.deps_satisfied_count += 1
        if task.deps_satisfied_count == task.deps_total and task.state == BLOCKED:
            task.state = READY
            task.ready_at = at_ms
            task.row_version = event_id


def propagate(
    state: State, family: Family, run_id: str, task_key: str, resolution: str, event_id: str, at_ms: int
) -> None:
    """Resolve the edges of a task that failed, was skipped or cancelled, and end what waited for it, in turn."""
    families = state.families
    ended = deque([(task_key, resolution)])
    while ended:
        upstream, current = ended.popleft()
        for downstream in list(family.edges.get(upstream, ())):
            families.put_edge(family, EdgeRow(run_id, upstream, downstream, False, current, at_ms, None, event_id))
            task = family.tasks.get(downstream)
            if task is None or task.state in FINISHED_TASK:
                continue
            families.keep_task(task)
            task.state = CANCELLED if current == CANCELLED else SKIPPED
            task.row_version = event_id
            if family.run is not None:
                count_task(state, family.run, task.state, event_id, at_ms)
            ended.append((downstream, task.state))
