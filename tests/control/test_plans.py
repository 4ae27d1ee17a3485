"""Plans whose tasks can all be reached."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.control.admission.runs import check_plan
from springline.errors import Code, Refused
from springline.ledger.events import PlanCreated
from springline.ledger.nested import TaskDefinition
from tests.control.ledger import Ledger
from tests.control.payloads import planned, triggered


@pytest.mark.parametrize(
    ("tasks", "field", "value", "says"),
    [
        ([], "tasks", "[]", "is empty"),
        ([("a", []), ("b", []), ("a", [])], "tasks[2].key", "a", "that of tasks[0] too"),
        ([("a", []), ("b", ["a", "a"])], "tasks[1].depends_on[1]", "a", "stands there twice"),
        ([("a", ["a"])], "tasks[0].depends_on[0]", "a", "is the task itself"),
        ([("a", []), ("b", ["a", "c"])], "tasks[1].depends_on[1]", "c", "names no task of the plan"),
        ([("a", []), ("b", ["d"]), ("c", ["b"]), ("d", ["c"])], "tasks[1].depends_on", "d", "'b' -> 'd' -> 'c' -> 'b'"),
        ([("", [])], "tasks[0].key", "", "is empty"),
        ([("a\0", [])], "tasks[0].key", "a\\x00", "NUL"),
    ],
)
def test_a_plan_that_would_never_end_is_refused(
    tasks: list[tuple[str, list[str]]], field: str, value: Any, says: str
) -> None:
    ledger = Ledger()
    ledger.append(triggered())
    listed = [{"key": key, "depends_on": upstreams} for key, upstreams in tasks]
    refusal = ledger.refused(planned() | {"tasks": listed})
    assert (refusal.code, refusal.field, refusal.value) == (Code.INVALID_REQUEST, f"events[0].data.{field}", value)
    assert says in refusal.message
    assert refusal.remedy


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.sets(st.integers(0, n - 1)), min_size=n, max_size=n)))
def test_a_circle_is_found_exactly_if_there_is_one(upstreams: list[set[int]]) -> None:
    tasks = [TaskDefinition(f"t{n}", [f"t{u}" for u in waits if u != n]) for n, waits in enumerate(upstreams)]
    graph = {task.key: set(task.depends_on) for task in tasks}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        with pytest.raises(Refused, match="circle") as caught:
            check_plan(PlanCreated("r", "p", tasks), "events[0].data", 0)
        circle = re.findall(r"'(t[0-9])'", caught.value.refusal.message)
        assert circle[0] == circle[-1]
        assert all(upstream in graph[task] for task, upstream in pairwise(circle))
        assert caught.value.refusal.value == circle[1]
    else:
        check_plan(PlanCreated("r", "p", tasks), "events[0].data", 0)


def test_a_long_chain_is_looked_at_without_recursion() -> None:
    tasks = [TaskDefinition("t0", [])] + [TaskDefinition(f"t{n}", [f"t{n - 1}"]) for n in range(1, 20_000)]
    check_plan(PlanCreated("r", "p", tasks), "events[0].data", 0)
    tasks[0].depends_on.append("t19999")
    with pytest.raises(Refused, match="circle") as caught:
        check_plan(PlanCreated("r", "p", tasks), "events[0].data", 0)
    message = caught.value.refusal.message
    assert message.endswith("'t0' -> 't19999' -> 't19998' -> 't19997' -> 't19996' -> (19995 more) -> 't0'")
