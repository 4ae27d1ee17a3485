"""From a selection to a plan: its tasks and what they wait for, and everything that cannot be planned."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins

from springline.control.admission.cases import Draft
from springline.control.admission.round import MAX_EVENT_BYTES, MAX_PLAN_EVENT_BYTES, drafts_of
from springline.control.admission.runs import check_plan
from springline.control.runs.planning import (
    LEAST_HEARTBEAT_SEC,
    LOST_ATTEMPTS,
    MAX_PLAN_BYTES,
    MAX_TASKS,
    CannotPlan,
    PlannedInput,
    PlannedTask,
    PlanProblem,
    RunOrigin,
    plan_again,
    plan_events,
    plan_tasks,
    task_definition,
    unplanned_run_events,
)
from springline.definitions.ids import task_key
from springline.definitions.manifest import DeployedManifest
from springline.definitions.mappings import effective_mapping
from springline.definitions.partitions import FieldProblem
from springline.ledger.envelope import as_event
from springline.ledger.member import PlanCreatedMember, RunTriggeredMember, member_of
from springline.ledger.nested import ManualTrigger
from springline.ledger.request import MESSAGE_BYTES, AppendRequest, NewEvent, too_heavy
from tests.support.definitions import NOW_MS, asset

DAYS = {"kind": "daily", "start": "2024-01-01"}
MONTHS = {"kind": "monthly", "start": "2024-01"}
AREAS = {"kind": "static", "keys": ["eu", "us"]}
ORIGIN = RunOrigin(
    run_id="run_1",
    run_key="api:x",
    trigger=ManualTrigger(user_id="ada"),
    root_assets=["a"],
    manifest_id="01JHMPFQ6G000AQKFF00000004",
    request_event_id="01JHMPFQ6G000AQKFF00000005",
    labels={"team": "x"},
    config={"rows": 3},
    effects_scope="run_0",
)


def manifest(*assets: dict[str, Any]) -> DeployedManifest:
    return DeployedManifest.model_validate(
        {
            "format": 1,
            "manifest_id": "01JHMPFQ6G000AQKFF00000004",
            "deployed_at_ms": NOW_MS,
            "fingerprint": "f",
            "locations": [],
            "assets": [{**one, "location": "here"} for one in assets],
        }
    )


def needs(upstream: str, kind: str | None = None, argument: str | None = None, **offsets: int) -> dict[str, Any]:
    mapping = {} if kind is None else {"mapping": {"kind": kind, **offsets}}
    return {"asset": upstream, **mapping, **({} if argument is None else {"argument": argument})}


def drafted(*payloads: Any) -> list[Draft]:
    events = [NewEvent(data=to_builtins(one)) for one in payloads]
    return drafts_of(AppendRequest(request_id="", events=events), NOW_MS)


def waits(tasks: list[PlannedTask]) -> dict[str, list[str]]:
    return {task.key: list(task.depends_on) for task in tasks}


def refusal(*args: Any) -> CannotPlan:
    with pytest.raises(CannotPlan) as caught:
        plan_tasks(*args)
    assert caught.value.message
    assert caught.value.remedy.endswith((".", "?"))
    return caught.value


def test_assets_without_partitions_are_a_task_each_behind_what_they_need() -> None:
    graph = manifest(asset("c", "b"), asset("b", "a"), asset("a"), asset("d"))
    tasks = plan_tasks(graph, ["d", "c", "b", "a"], None)
    assert waits(tasks) == {"a": [], "b": ["a"], "c": ["b"], "d": []}
    assert [task.key for task in tasks].index("c") > [task.key for task in tasks].index("b")
    assert plan_tasks(graph, ["a", "b", "c", "d", "a"], []) == tasks
    # What is not selected is waited for by nobody, and does not connect two others.
    assert waits(plan_tasks(graph, ["a", "c"], None)) == {"a": [], "c": []}


def test_partitions_are_tasks_that_follow_the_mapping() -> None:
    graph = manifest(
        asset("raw", partitions=DAYS),
        asset("clean", "raw", partitions=DAYS),
        {"key": "week", "dependencies": [needs("clean", "window", start_offset=-1)], "partitions": DAYS},
        {"key": "month", "dependencies": [needs("raw", "window")], "partitions": MONTHS},
        {"key": "last", "dependencies": [needs("raw", "latest"), needs("names")]},
        asset("names"),
    )
    days = ["2024-01-03", "2024-01-02", "2024-01-02"]
    every = [one.key for one in graph.assets]
    assert waits(plan_tasks(graph, every, [*days, "2024-01"])) == {
        "raw[2024-01-02]": [],
        "raw[2024-01-03]": [],
        "clean[2024-01-02]": ["raw[2024-01-02]"],
        "clean[2024-01-03]": ["raw[2024-01-03]"],
        "week[2024-01-02]": ["clean[2024-01-02]"],
        "week[2024-01-03]": ["clean[2024-01-02]", "clean[2024-01-03]"],
        "month[2024-01]": ["raw[2024-01-02]", "raw[2024-01-03]"],
        "names": [],
        "last": ["raw[2024-01-03]", "names"],
    }


def test_parameters_take_outputs_of_planned_tasks() -> None:
    graph = manifest(
        asset("raw", partitions=DAYS),
        asset("names"),
        {
            "key": "all",
            "dependencies": [needs("raw", "all", "days"), needs("names", None, "names")],
        },
        {"key": "one", "dependencies": [needs("raw", None, "day")], "partitions": DAYS},
    )
    tasks = {task.key: task for task in plan_tasks(graph, ["raw", "names", "all", "one"], ["2024-01-01", "2024-01-02"])}
    assert tasks["all"].inputs == (
        PlannedInput("days", True, ("raw[2024-01-01]", "raw[2024-01-02]")),
        PlannedInput("names", False, ("names",)),
    )
    assert tasks["one[2024-01-02]"].inputs == (PlannedInput("day", False, ("raw[2024-01-02]",)),)


def test_ids_and_keys_with_odd_characters_make_distinct_tasks() -> None:
    odd = {"kind": "static", "keys": ["a/b", "a:b", "a[b]", "a%2Fb", "å b"]}
    graph = manifest(asset("måling", partitions=odd))
    tasks = plan_tasks(graph, ["måling"], odd["keys"])
    assert len({task.key for task in tasks}) == 5
    assert [task.partition_key for task in tasks] == odd["keys"]
    assert not any(set(":/") & set(task.key) for task in tasks)
    plan_passes(tasks)


@pytest.mark.parametrize(
    ("assets", "partitions", "reason", "field", "value", "said"),
    [
        ([], None, "EMPTY_SELECTION", "assets", [], "no asset"),
        (["raww"], None, "UNKNOWN_ASSET", "assets", "raww", "no asset 'raww'"),
        (["a/b:c"], None, "UNKNOWN_ASSET", "assets", "a/b:c", "a/b:c"),
        (["raw"], None, "PARTITION_MISSING", "partitions", [], "none is asked for"),
        (["raw"], ["2023-12-31"], "UNKNOWN_PARTITION", "partitions", "2023-12-31", "before the first"),
        (["raw"], ["2024-01-01", "eu"], "UNKNOWN_PARTITION", "partitions", "eu", "no key of daily"),
        (["raw", "area"], ["2024-01-01"], "PARTITION_MISSING", "partitions", ["2024-01-01"], "one of area"),
        (["names"], ["2024-01-01"], "NO_PARTITIONS", "partitions", "2024-01-01", "names have none"),
        (["takes"], ["2024-01-01"], "INPUT_NOT_SELECTED", "assets", "takes", "raw is not selected"),
        (
            ["late", "takes_late"],
            ["2024-01-01", "2024-06-01"],
            "INPUT_NOT_SELECTED",
            "partitions",
            "2024-01-01",
            "late",
        ),
    ],
)
def test_what_cannot_be_planned(
    assets: list[str], partitions: list[str] | None, reason: str, field: str, value: Any, said: str
) -> None:
    graph = manifest(
        asset("raw", partitions=DAYS),
        asset("area", partitions=AREAS),
        asset("names"),
        {"key": "takes", "dependencies": [needs("raw", None, "x")], "partitions": DAYS},
        asset("late", partitions={"kind": "daily", "start": "2024-06-01"}),
        {"key": "takes_late", "dependencies": [needs("late", None, "x")], "partitions": DAYS},
    )
    found = refusal(graph, assets, partitions)
    assert (found.reason_code, found.field, found.value) == (reason, field, value)
    assert said in found.message


def test_an_asset_that_is_nearly_one_is_told() -> None:
    assert "Did you mean raw?" in refusal(manifest(asset("raw")), ["raww"], None).remedy


def test_a_manifest_that_no_deploy_leaves_is_told() -> None:
    circle = manifest(asset("a", "b"), asset("b", "a"))
    assert refusal(circle, ["a", "b"], None).reason_code is PlanProblem.MANIFEST_UNUSABLE
    unfit = manifest(asset("raw", partitions=DAYS), asset("area", "raw", partitions=AREAS))
    assert refusal(unfit, ["raw", "area"], ["eu", "2024-01-01"]).reason_code is PlanProblem.MANIFEST_UNUSABLE


def test_a_plan_has_a_most_of_tasks_and_of_bytes() -> None:
    keys = [f"{number:05}" for number in range(10_000)]
    cut = {"kind": "static", "keys": keys}
    found = refusal(manifest(asset("a", partitions=cut), asset("b", partitions=cut)), ["a", "b"], keys[:5_001])
    assert found.reason_code is PlanProblem.TOO_MANY_TASKS
    assert found.value == 2 * 5_001 > MAX_TASKS
    assert len(plan_tasks(manifest(asset("a", partitions=cut)), ["a"], keys)) == MAX_TASKS
    # Every partition needs every other: few tasks, many dependencies.
    dense = manifest(asset("a", partitions=cut), {"key": "b", "dependencies": [needs("a", "all")], "partitions": cut})
    assert refusal(dense, ["a", "b"], keys[:1_000]).reason_code is PlanProblem.PLAN_TOO_LARGE


def test_many_keys_for_many_assets_are_judged_in_no_time() -> None:
    graph = manifest(*(asset(f"a{number}", partitions=DAYS) for number in range(2_000)))
    keys = [f"{year}-01-01" for year in range(1_000, 2_024)] + [f"x{number}" for number in range(8_000)]
    began = time.process_time()
    found = refusal(graph, [one.key for one in graph.assets], keys)
    assert found.reason_code is PlanProblem.UNKNOWN_PARTITION
    # One by one these are 18 million keys, and minutes.
    assert time.process_time() - began < 5


def test_the_longest_plan_fits_into_its_event_and_into_a_message() -> None:
    keys = [f"{number:05}" for number in range(10_000)]
    cut = {"kind": "static", "keys": keys}
    dense = manifest(asset("a", partitions=cut), {"key": "b", "dependencies": [needs("a", "all")], "partitions": cut})
    most = 0
    for step in (640, 64, 32, 16):
        try:
            plan_tasks(dense, ["a", "b"], keys[: most + step])
        except CannotPlan:
            continue
        most += step
    assert most > 500
    _, plan = plan_events(ORIGIN, plan_tasks(dense, ["a", "b"], keys[:most]))
    (draft,) = drafted(plan)
    assert draft.data == plan
    request = AppendRequest(request_id="01946b1c-0000-7000-8000-000000000001", events=[NewEvent(data=as_event(plan))])
    assert too_heavy(request) is None
    message = request.model_dump_json()
    assert len(message) < MESSAGE_BYTES
    assert AppendRequest.model_validate_json(message) == request
    length = len(msgspec.json.encode(plan))
    assert MAX_PLAN_BYTES // 2 < length < MAX_PLAN_EVENT_BYTES - 2 * MAX_EVENT_BYTES


def test_tasks_in_a_plan_have_attempts_to_lose_and_a_heartbeat() -> None:
    graph = manifest(asset("a", retries=2, timeout_ms=60_000, heartbeat_ms=1_500), asset("b"))
    first, second = (task_definition(task) for task in plan_tasks(graph, ["a", "b"], None))
    assert (first.max_attempts, first.heartbeat_timeout_sec) == (3 + LOST_ATTEMPTS, LEAST_HEARTBEAT_SEC)
    assert (second.max_attempts, second.heartbeat_timeout_sec) == (1 + LOST_ATTEMPTS, LEAST_HEARTBEAT_SEC)
    assert (second.key, second.asset_key, second.partition_key) == ("b", "b", None)


def plan_passes(tasks: list[PlannedTask]) -> None:
    triggered, plan = plan_events(ORIGIN, tasks)
    check_plan(plan, "events[1].data", NOW_MS)
    assert [one.data for one in drafted(triggered, plan)] == [triggered, plan]


def test_the_events_of_a_plan_say_where_it_comes_from() -> None:
    tasks = plan_tasks(manifest(asset("a")), ["a"], None)
    triggered, plan = plan_events(ORIGIN, tasks)
    plan_passes(tasks)
    assert triggered.plan_id == plan.plan_id == "plan:run_1"
    assert triggered.code_version == ORIGIN.manifest_id
    assert triggered.labels == {"team": "x"}
    assert member_of(triggered, RunTriggeredMember) == RunTriggeredMember(
        request_event_id=ORIGIN.request_event_id, effects_scope="run_0", config={"rows": 3}
    )
    assert member_of(plan, PlanCreatedMember) == PlanCreatedMember(manifest_id=ORIGIN.manifest_id)


def test_a_run_that_cannot_be_planned_is_cancelled_for_a_reason() -> None:
    triggered, cancel = unplanned_run_events(ORIGIN, PlanProblem.UNKNOWN_ASSET, "there is no asset 'a'")
    assert triggered.run_id == cancel.run_id == "run_1"
    assert cancel.requested_by == "springline"
    assert cancel.reason == "there is no asset 'a'"
    assert cancel.springline == {"reason_code": "UNKNOWN_ASSET"}
    assert [one.data for one in drafted(triggered, cancel)] == [triggered, cancel]


GRAPH = manifest(
    asset("raw", partitions=DAYS),
    {"key": "sum", "dependencies": [needs("raw", "all", "days"), needs("names", None, "names")]},
    asset("names"),
    asset("area", partitions=AREAS),
)


def test_a_rerun_makes_what_it_is_told_and_takes_the_rest_from_its_parent() -> None:
    parent = [task.key for task in plan_tasks(GRAPH, ["raw", "sum", "names"], ["2024-01-01", "2024-01-02"])]
    again = plan_again(GRAPH, parent, ["sum", "raw[2024-01-02]"])
    assert waits(again) == {"raw[2024-01-02]": [], "sum": ["raw[2024-01-02]"]}
    assert again[1].inputs == (
        PlannedInput("days", True, ("raw[2024-01-01]", "raw[2024-01-02]")),
        PlannedInput("names", False, ("names",)),
    )
    assert plan_again(GRAPH, parent, parent) == plan_tasks(GRAPH, ["raw", "sum", "names"], ["2024-01-01", "2024-01-02"])


@pytest.mark.parametrize(
    ("parent", "again", "reason"),
    [
        (["names"], [], PlanProblem.EMPTY_SELECTION),
        (["names"], ["sum"], PlanProblem.UNKNOWN_TASK),
        (["gone", "names"], ["gone"], PlanProblem.UNKNOWN_ASSET),
        (["a:b", "names"], ["a:b"], PlanProblem.UNKNOWN_ASSET),
        (["raw"], ["raw"], PlanProblem.UNKNOWN_PARTITION),
        (["raw[2023-01-01]"], ["raw[2023-01-01]"], PlanProblem.UNKNOWN_PARTITION),
        (["names[2024-01-01]"], ["names[2024-01-01]"], PlanProblem.UNKNOWN_PARTITION),
    ],
)
def test_a_rerun_that_cannot_be_planned(parent: list[str], again: list[str], reason: PlanProblem) -> None:
    with pytest.raises(CannotPlan) as caught:
        plan_again(GRAPH, parent, again)
    assert caught.value.reason_code is reason
    assert caught.value.field == "tasks"
    # What is not made again may have left the definitions.
    assert [one.key for one in plan_again(GRAPH, [*parent, "names"], ["names"])] == ["names"]


MAPPINGS: list[dict[str, Any] | None] = [
    None,
    {"kind": "all"},
    {"kind": "latest"},
    {"kind": "identity"},
    {"kind": "window", "start_offset": -2, "end_offset": 1},
]


@st.composite
def graphs(draw: st.DrawFn) -> DeployedManifest:
    made: list[Any] = []
    for number in range(draw(st.integers(1, 7))):
        partitions = draw(st.sampled_from([None, DAYS, MONTHS, AREAS]))
        edges = []
        for before in draw(st.lists(st.sampled_from(made), unique_by=id, max_size=3)) if made else []:
            mapping = draw(st.sampled_from(MAPPINGS))
            one = {"asset": before["key"], **({} if mapping is None else {"mapping": mapping})}
            trial = manifest(before, {"key": "x", "dependencies": [one], "partitions": partitions}).assets
            fits = effective_mapping(trial[1].dependencies[0].mapping, trial[0].partitions, trial[1].partitions)
            if not isinstance(fits, FieldProblem):
                edges.append(one)
        made.append({"key": f"a{number}", "dependencies": edges, "partitions": partitions})
    return manifest(*draw(st.permutations(made)))


@given(graphs(), st.data())
def test_any_plan_is_admitted_and_the_same_whatever_the_order(graph: DeployedManifest, data: st.DataObject) -> None:
    assets = data.draw(st.lists(st.sampled_from([one.key for one in graph.assets]), unique=True, min_size=1))
    asked = data.draw(
        st.lists(
            st.sampled_from([*(f"2024-01-0{day}" for day in range(1, 6)), "2024-01", "2024-02", "eu", "us"]),
            unique=True,
        )
    )
    try:
        tasks = plan_tasks(graph, assets, asked)
    except CannotPlan as error:
        assert error.reason_code in ("PARTITION_MISSING", "UNKNOWN_PARTITION", "NO_PARTITIONS")
        return
    assert plan_tasks(graph, assets[::-1], data.draw(st.permutations(asked))) == tasks
    plan_passes(tasks)
    place = {task.key: number for number, task in enumerate(tasks)}
    known = {one.key: one for one in graph.assets}
    for task in tasks:
        assert task.key == task_key(task.asset.key, task.partition_key)
        assert all(place[one] < place[task.key] for one in task.depends_on)
        of = {tasks[place[one]].asset.key for one in task.depends_on}
        assert of <= {edge.asset for edge in known[task.asset.key].dependencies}
    wanted = {
        task_key(key, one)
        for key in assets
        for one in ([None] if known[key].partitions is None else asked)
        if one is None or known[key].partitions.problem_of_key(one) is None  # type: ignore[union-attr]
    }
    assert set(place) == wanted


def with_tasks(assets: list[dict[str, Any]], tasks: list[dict[str, Any]]) -> DeployedManifest:
    plain = manifest(*assets).model_dump(mode="json") | {"tasks": [{**one, "location": "here"} for one in tasks]}
    return DeployedManifest.model_validate(plain)


def test_a_task_of_the_pipeline_is_planned_without_an_asset() -> None:
    known = with_tasks(
        [
            {"key": "raw", "partitions": DAYS},
            {"key": "mart", "partitions": DAYS, "dependencies": [needs("scaled", argument="scaled")]},
        ],
        [{"key": "scaled", "partitions": DAYS, "retries": 2, "dependencies": [needs("raw")]}, {"key": "tell"}],
    )
    planned = plan_tasks(known, ["mart", "raw", "tell"], ["2024-01-01"])
    assert [(one.key, one.depends_on) for one in planned] == [
        ("raw[2024-01-01]", ()),
        ("scaled[2024-01-01]", ("raw[2024-01-01]",)),
        ("mart[2024-01-01]", ("scaled[2024-01-01]",)),
        ("tell", ()),
    ]
    defined = [task_definition(one) for one in planned]
    assert [(one.asset_key, one.partition_key) for one in defined] == [
        ("raw", "2024-01-01"),
        (None, "2024-01-01"),
        ("mart", "2024-01-01"),
        (None, None),
    ]
    assert defined[1].max_attempts == 3 + LOST_ATTEMPTS
    # Its event is admitted as any plan is.
    check_plan(plan_events(ORIGIN, planned)[1], "events[1].data", NOW_MS)


def test_a_task_comes_along_and_what_it_takes_must_be_asked_for() -> None:
    known = with_tasks(
        [{"key": "raw"}, {"key": "mart", "dependencies": [needs("scaled")]}],
        [{"key": "scaled", "dependencies": [needs("prepare"), needs("raw", argument="raw")]}, {"key": "prepare"}],
    )
    with pytest.raises(CannotPlan, match="scaled takes the output of raw as raw, and raw is not selected"):
        plan_tasks(known, ["mart"], None)
    assert [one.key for one in plan_tasks(known, ["mart", "raw"], None)] == ["prepare", "raw", "scaled", "mart"]
    # A rerun takes what the task has returned before, and runs it only where it is named.
    (again,) = plan_again(known, ["prepare", "raw", "scaled", "mart"], ["mart"])
    assert (again.key, again.depends_on) == ("mart", ())


BOTH = {
    "kind": "multi",
    "dimensions": [{"name": "day", "partitions": DAYS}, {"name": "region", "partitions": AREAS}],
}


def test_partitions_in_two_dimensions_are_planned_dimension_by_dimension() -> None:
    known = manifest(
        {"key": "raw", "partitions": BOTH},
        {"key": "clean", "partitions": BOTH, "dependencies": [needs("raw", argument="raw")]},
        {"key": "mart", "partitions": DAYS, "dependencies": [needs("clean", argument="clean")]},
    )
    asked = ["2024-01-02|eu", "2024-01-02|us", "2024-01-01|us", "2024-01-02"]
    planned = {one.key: one for one in plan_tasks(known, ["raw", "clean", "mart"], asked)}
    check_plan(plan_events(ORIGIN, list(planned.values()))[1], "events[1].data", NOW_MS)
    assert drafted(*plan_events(ORIGIN, list(planned.values())))
    assert list(planned) == [
        *(f"raw[{one}]" for one in ("2024-01-01%7Cus", "2024-01-02%7Ceu", "2024-01-02%7Cus")),
        *(f"clean[{one}]" for one in ("2024-01-01%7Cus", "2024-01-02%7Ceu", "2024-01-02%7Cus")),
        "mart[2024-01-02]",
    ]
    assert planned["clean[2024-01-02%7Cus]"].inputs == (PlannedInput("raw", False, ("raw[2024-01-02%7Cus]",)),)
    regions = ("clean[2024-01-02%7Ceu]", "clean[2024-01-02%7Cus]")
    assert planned["mart[2024-01-02]"].inputs == (PlannedInput("clean", True, regions),)
    with pytest.raises(CannotPlan, match=r"partition '2024-01-01\|xx' has the region 'xx', which is none of the keys"):
        plan_tasks(known, ["raw"], ["2024-01-01|xx"])
