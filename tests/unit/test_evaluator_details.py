"""What the Web UI shows of the evaluator of schedules and of the launcher of runs."""

from __future__ import annotations

from springline.control.runs.messages import LaunchedRun
from springline.control.schedules.messages import DecidedInstant, EvaluatedSchedules, UpcomingInstant
from workflows.evaluator_messages import launcher_text, schedules_text

DECIDED = [
    DecidedInstant(
        schedule_id="nightly", scheduled_for="2025-06-01T04:00:00Z", status="triggered", said="sched:nightly:1748750400"
    ),
    DecidedInstant(
        schedule_id="often", scheduled_for="2025-06-01T03:45:00Z", status="skipped", said="a | run `goes` on"
    ),
]


def test_next_instants_last_decisions_and_what_is_set_aside() -> None:
    last = EvaluatedSchedules(
        schedules=3,
        paused=1,
        aside=["broken: cron '61 * * * *' names no minute"],
        upcoming=[UpcomingInstant(schedule_id="often", at_ms=1_748_751_300_000)],
    )
    said = schedules_text("acme/prod", last, DECIDED, "2 runs asked for.", None)
    assert said.startswith("**Schedules of `acme/prod`**: 3, 1 of them off. 2 runs asked for.\n\n")
    assert "### Set aside\n\n- broken: cron '61 * * * *' names no minute\n" in said
    assert "| `often` | 2025-06-01 04:15:00 |" in said
    assert "| `nightly` | 2025-06-01T04:00:00Z | triggered | sched:nightly:1748750400 |" in said
    # A text of a user's breaks no table.
    assert "| skipped | a / run 'goes' on |" in said
    assert "held" not in said


def test_a_hold_trouble_and_nothing_ahead_are_said() -> None:
    held = schedules_text("a/b", EvaluatedSchedules(schedules=2, held=True), [], "0 runs.", "the store is away")
    assert "**The workspace is held**" in held
    assert "**The last pass failed** and is repeated: the store is away" in held
    assert "No instant is ahead" in schedules_text("a/b", EvaluatedSchedules(schedules=1), [], "", None)
    assert "###" not in schedules_text("a/b", EvaluatedSchedules(), [], "", None)


def test_requests_and_what_became_of_them() -> None:
    told = [LaunchedRun(run_key="sched:nightly:1", run_id="run_1", outcome="started")]
    said = launcher_text("a/b", "1 started.", 4, told, ["request 01J: is missing"], None)
    assert said.startswith("**Runs of `a/b`**: 1 started.")
    assert "**4 wait**" in said
    assert "| `sched:nightly:1` | `run_1` | started |" in said
    assert "- request 01J: is missing" in said
    assert "wait" not in launcher_text("a/b", "0 started.", 0, [], [], None)
