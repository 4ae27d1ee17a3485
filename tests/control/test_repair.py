"""What is repaired, and when: no finding is repaired too often, or left out for ever, whatever is found."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from springline.control import repair as rules
from springline.control.repair import (
    PlannedRepair,
    RepairAction,
    RepairFinding,
    RepairKind,
    RepairsMade,
    RepairTry,
    SeenRun,
    SeenUntold,
    SeenWorkflow,
    SeenWorkspace,
    judge,
    next_look_ms,
    plan_repairs,
    remembered,
    report_of,
)
from springline.control.runs.apart import UNTOLD_MS

NOW = 1_000_000_000
MINUTE = 60_000

_findings = st.lists(
    st.builds(
        RepairFinding,
        kind=st.sampled_from(RepairKind),
        subject=st.sampled_from([f"run_{number}" for number in range(6)]),
        since_ms=st.integers(0, NOW),
    ),
    unique_by=lambda one: (one.kind, one.subject),
    max_size=12,
)


def finding(number: int, kind: RepairKind = RepairKind.RUN_WITHOUT_WORKFLOW, since_ms: int = 0) -> RepairFinding:
    return RepairFinding(kind=kind, subject=f"run_{number}", since_ms=since_ms)


def key(one: RepairFinding | RepairTry) -> tuple[str, str]:
    return one.kind, one.subject


@given(st.lists(st.tuples(_findings, st.integers(0, 90 * MINUTE)), max_size=12), st.integers(1, 4))
def test_each_finding_has_its_pause_and_none_is_passed_over(
    passes: list[tuple[list[RepairFinding], int]], most: int
) -> None:
    """Passes over anything at all: `last` is what an observer remembers of the repairs."""
    tried: list[RepairTry] = []
    last: dict[tuple[str, str], tuple[int, int]] = {}
    now = NOW
    for found, later in passes:
        now += later
        plan = plan_repairs(found, tried, now, most=most)
        last = {one: at for one, at in last.items() if one in {key(one) for one in found}}
        for planned in plan.due:
            times, at = last.get(key(planned.finding), (0, 0))
            assert not times or now - at >= min(60 * MINUTE, MINUTE * 2 ** (times - 1))
            last[key(planned.finding)] = times + 1, now
        named = [key(one.finding) for one in plan.due] + [key(one) for one in plan.waiting]
        assert len(named) == len(set(named))
        assert len(named) + plan.left == len(found)
        assert len(plan.due) <= most
        assert not plan.left or len(plan.due) == most
        tried = remembered(found, tried, plan.due, now)
        assert {key(one): one.times for one in tried} == {one: times for one, (times, _) in last.items()}


def test_no_finding_keeps_another_waiting_for_ever() -> None:
    found = [finding(number) for number in range(10)]
    tried: list[RepairTry] = []
    repaired: set[str] = set()
    for number in range(5):
        plan = plan_repairs(found, tried, NOW + number * 60 * MINUTE, most=2)
        repaired |= {one.finding.subject for one in plan.due}
        tried = remembered(found, tried, plan.due, NOW + number * 60 * MINUTE)
    assert repaired == {one.subject for one in found}


def test_what_is_wrong_longest_is_first() -> None:
    found = [finding(1, since_ms=30), finding(2, since_ms=10), finding(3, since_ms=20)]
    assert [one.finding.subject for one in plan_repairs(found, [], NOW, most=2).due] == ["run_2", "run_3"]


def test_the_pause_doubles_up_to_an_hour() -> None:
    tried: list[RepairTry] = []
    now, pauses = NOW, []
    for _ in range(9):
        plan = plan_repairs([finding(1)], tried, now)
        assert len(plan.due) == 1
        tried = remembered([finding(1)], tried, plan.due, now)
        pauses.append((tried[0].next_ms - now) // MINUTE)
        now = tried[0].next_ms
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_what_is_found_again_after_it_was_gone_is_new() -> None:
    tried = [RepairTry(kind=RepairKind.RUN_WITHOUT_WORKFLOW, subject="run_1", times=5, next_ms=NOW + MINUTE)]
    gone = plan_repairs([], tried, NOW)
    assert (gone.due, gone.healed) == ([], 1)
    tried = remembered([], tried, [], NOW)
    assert tried == []
    assert len(plan_repairs([finding(1)], tried, NOW).due) == 1


def test_a_workflow_without_a_run_is_told_a_few_times_and_then_terminated() -> None:
    found = [finding(1, RepairKind.WORKFLOW_WITHOUT_RUN)]
    tried: list[RepairTry] = []
    actions = []
    for number in range(6):
        plan = plan_repairs(found, tried, NOW + number * 60 * MINUTE)
        actions.append(plan.due[0].action)
        tried = remembered(found, tried, plan.due, NOW + number * 60 * MINUTE)
    assert actions == [RepairAction.WAKE_RUN] * rules.MOST_WAKES + [RepairAction.TERMINATE] * 2


def test_what_is_remembered_is_bounded() -> None:
    found = [finding(number) for number in range(rules.MOST_REMEMBERED + 50)]
    made = [PlannedRepair(finding=one, action=RepairAction.START_RUN) for one in found]
    assert len(remembered(found, [], made, NOW)) == rules.MOST_REMEMBERED


def seen(**more: object) -> SeenWorkspace:
    return SeenWorkspace.model_validate({"room": 100, **more})


def kinds(workspace: SeenWorkspace) -> list[RepairKind]:
    return [one.kind for one in judge(workspace, NOW).findings]


def test_an_open_run_needs_a_workflow_and_is_given_time_to_get_it() -> None:
    for age_ms, has_workflow, expected, unsettled in [
        (MINUTE, False, [RepairKind.RUN_WITHOUT_WORKFLOW], 0),
        (MINUTE, True, [], 0),
        (MINUTE, None, [], 0),
        (1, False, [], 1),
    ]:
        run = SeenRun(run_id="run_1", triggered_ms=NOW - age_ms, has_workflow=has_workflow)
        found = judge(seen(active=[run]), NOW)
        assert [one.kind for one in found.findings] == expected
        assert (found.active, found.unsettled) == (1, unsettled)


def test_a_workflow_of_an_open_run_is_never_touched() -> None:
    for is_known, ended_ms, expected in [
        (True, None, []),
        (True, NOW - MINUTE, [RepairKind.WORKFLOW_WITHOUT_RUN]),
        (True, NOW - 1, []),
        (False, None, [RepairKind.WORKFLOW_WITHOUT_RUN]),
    ]:
        one = SeenWorkflow(
            run_id="run_1", workflow_run_id="w", started_ms=NOW - 2 * MINUTE, is_known=is_known, ended_ms=ended_ms
        )
        assert kinds(seen(without_run=[one])) == expected
    young = SeenWorkflow(run_id="run_1", workflow_run_id="w", started_ms=NOW - 1, is_known=False)
    assert kinds(seen(without_run=[young])) == []


def test_an_attempt_of_untold_end_is_given_time_to_be_told_of() -> None:
    for age_ms, expected in [(UNTOLD_MS, [RepairKind.ATTEMPT_NOT_TOLD]), (UNTOLD_MS - 1, [])]:
        gone = SeenUntold(run_id="run_1", cancelled_ms=NOW - age_ms)
        assert kinds(seen(untold=[gone])) == expected


def test_requests_that_may_begin_are_launched() -> None:
    waiting = {"waiting": 2, "waiting_since_ms": NOW - MINUTE}
    assert kinds(seen(**waiting)) == [RepairKind.REQUESTS_NOT_LAUNCHED]
    assert kinds(seen(**waiting, held=True)) == []
    assert kinds(seen(**waiting | {"room": 0})) == []
    assert kinds(seen(waiting=2, waiting_since_ms=NOW - 1)) == []


def test_rounds_that_nobody_makes_visible_are_found() -> None:
    assert kinds(seen(pending=1, pending_since_ms=NOW - MINUTE)) == [RepairKind.ROUNDS_NOT_VISIBLE]
    assert kinds(seen(pending=1, pending_since_ms=NOW - 1)) == []


def test_schedules_need_an_evaluator_that_decides() -> None:
    has = {"schedules": 3, "schedules_since_ms": NOW - MINUTE, "has_evaluator": True}
    assert kinds(seen(**has)) == []
    assert kinds(seen(**has | {"has_evaluator": None})) == []
    assert kinds(seen(**has | {"has_evaluator": False})) == [RepairKind.SCHEDULES_WITHOUT_EVALUATOR]
    young = judge(seen(**has | {"has_evaluator": False, "schedules_since_ms": NOW - 1}), NOW)
    assert (young.findings, young.unsettled) == ([], 1)
    assert kinds(seen(schedules=0, has_evaluator=False)) == []
    late = {"overdue": 2, "overdue_since_ms": NOW - MINUTE}
    assert kinds(seen(**has, **late)) == [RepairKind.SCHEDULES_OVERDUE]
    just = judge(seen(**has, **late | {"overdue_since_ms": NOW - 1}), NOW)
    assert (just.findings, just.unsettled, just.schedules) == ([], 0, 0)
    assert judge(seen(**has, due_soon=2), NOW).schedules == 2, "it is looked at each minute"
    (said,) = judge(seen(**has, **late, evaluator_trouble="no store"), NOW).findings
    assert said.why.endswith("; the evaluator says: no store")


def test_an_evaluator_that_does_not_decide_is_told_once_and_then_started_anew() -> None:
    late = [finding(0, RepairKind.SCHEDULES_OVERDUE)]
    (first,) = plan_repairs(late, [], NOW).due
    assert first.action is RepairAction.WAKE_EVALUATOR
    tried = remembered(late, [], [first], NOW)
    assert plan_repairs(late, tried, NOW + 1).due == []
    (second,) = plan_repairs(late, tried, tried[0].next_ms).due
    assert second.action is RepairAction.RESTART_EVALUATOR


def test_idle_workspaces_are_looked_at_less_and_less() -> None:
    def minutes(passes: int) -> float:
        return next_look_ms(is_busy=False, is_hurried=False, idle_passes=passes) / MINUTE

    assert [minutes(passes) for passes in (0, 1, 2, 3, 4, 1_000)] == [1, 1, 2, 4, 5, 5]
    assert next_look_ms(is_busy=True, is_hurried=False, idle_passes=0) == MINUTE
    assert next_look_ms(is_busy=True, is_hurried=True, idle_passes=0) == rules.SOON_MS


def test_a_report_says_of_each_finding_what_is_done_or_when() -> None:
    look = judge(
        seen(
            active=[SeenRun(run_id=f"run_{number}", triggered_ms=0, has_workflow=False) for number in range(3)],
        ),
        NOW,
    )
    tried = [RepairTry(kind=RepairKind.RUN_WITHOUT_WORKFLOW, subject="run_1", times=2, next_ms=NOW + 5)]
    look = look.model_copy(update={"plan": plan_repairs(look.findings, tried, NOW)})
    report = report_of(look, tried, NOW, RepairsMade(failed={1: "no way"}))
    assert [(one.subject, one.action, one.times, one.next_ms, one.error) for one in report.items] == [
        ("run_0", RepairAction.START_RUN, 0, None, None),
        ("run_1", None, 2, NOW + 5, None),
        ("run_2", RepairAction.START_RUN, 0, None, "no way"),
    ]
    assert not report.dry_run
    assert report_of(look, tried, NOW, None).dry_run
