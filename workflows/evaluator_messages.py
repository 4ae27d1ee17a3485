"""Details of ScheduleEvaluator and RunLauncher, as shown in the Web UI (tab User Metadata).

They change no command: a run that replays shows them as its build words them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from springline.bounds import on_one_line
from springline.control.runs.messages import LaunchedRun
from springline.control.schedules.messages import DecidedInstant, EvaluatedSchedules

MOST_KEPT = 12
"""Decisions that the details show, the last ones."""

ABOUT_SCHEDULES = """\
Decides on the instants of one workspace's schedules, and sleeps until the next one. It has no state of its own: what is
due follows from what the ledger has on record, so that it may be terminated and starts again with the next event.

`springline schedule list` shows the schedules; *schedule-drift* among the runbooks says what to do if they are late.
"""
ABOUT_LAUNCHER = """\
Launches the runs of one workspace: plans what is requested, and starts a workflow for each run. What waits is what the
ledger has requested and not triggered, so that it may be terminated and starts again with the next request.

`springline run list` shows the runs; *run-stuck* among the runbooks says what to do if one does not begin.
"""


def schedules_text(
    where: str, last: EvaluatedSchedules, decided: Sequence[DecidedInstant], counts: str, trouble: str | None
) -> str:
    """Return the current details of a schedule evaluator.

    Args:
        where: the workspace.
        last: what the last pass came to.
        decided: the last decisions, the latest first.
        counts: what this run has done, in words.
        trouble: why the last pass failed, None if it did not.
    """
    paused = f", {last.paused} of them off" if last.paused else ""
    parts = [f"**Schedules of `{where}`**: {last.schedules}{paused}. {counts}"]
    if trouble is not None:
        parts.append(f"**The last pass failed** and is repeated: {_cell(trouble)}")
    if last.held:
        parts.append("**The workspace is held**: nothing is decided until the hold ends.")
    parts.append(_listed("Set aside", last.aside))
    if last.upcoming:
        rows = ([f"`{_cell(one.schedule_id)}`", _instant(one.at_ms)] for one in last.upcoming)
        parts.append(_table("Next instants", ("schedule", "due (UTC)"), rows))
    elif not last.held:
        parts.append("No instant is ahead: every schedule is off, or has none.")
    rows = (
        [f"`{_cell(one.schedule_id)}`", _cell(one.scheduled_for), _cell(one.status), _cell(one.said or "")]
        for one in decided
    )
    parts.append(_table("Last decisions", ("schedule", "instant (UTC)", "what became of it", "run key, or why"), rows))
    return "\n\n".join(part for part in parts if part)


def launcher_text(
    where: str, counts: str, waiting: int, told: Sequence[LaunchedRun], aside: Sequence[str], trouble: str | None
) -> str:
    """Return the current details of a run launcher.

    Args:
        where: the workspace.
        counts: what this run has done, in words.
        waiting: requests that wait for others, or for a hold to end.
        told: the last requests and what became of them, the latest first.
        aside: what is wrong with requests that cannot be read or are refused.
        trouble: why the last pass failed, None if it did not.
    """
    parts = [f"**Runs of `{where}`**: {counts}"]
    if trouble is not None:
        parts.append(f"**The last pass failed** and is repeated: {_cell(trouble)}")
    if waiting:
        parts.append(f"**{waiting} wait**: as many runs as may be are under way, or the workspace is held.")
    parts.append(_listed("Set aside", aside))
    rows = ([f"`{_cell(one.run_key)}`", f"`{_cell(one.run_id)}`", _cell(one.outcome)] for one in told)
    parts.append(_table("Last requests", ("run key", "run", "what became of it"), rows))
    return "\n\n".join(part for part in parts if part)


def _table(title: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    head = f"| {' | '.join(names)} |\n|{'---|' * len(names)}"
    return "\n".join([f"### {title}", "", head, *lines])


def _listed(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"### {title}", "", *(f"- {_cell(one)}" for one in lines)]) if lines else ""


def _cell(text: str) -> str:
    """Return a text that breaks no table and no code: on one line, without the characters that Markdown takes."""
    return on_one_line(text, 300).replace("|", "/").replace("`", "'")


def _instant(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1_000, UTC):%Y-%m-%d %H:%M:%S}"
