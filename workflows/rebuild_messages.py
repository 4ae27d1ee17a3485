"""Inputs, answers and details of RebuildWorkflow, as shown in the Web UI (tab User Metadata).

Operators write the messages by hand in the Temporal CLI. Fields are only ever added, with defaults: running histories
hold these.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from activities.messages import Message
from springline.rebuild.messages import BadEvent
from springline.sequencer.messages import WorkspaceRef

CONCURRENCY = 8
MAX_CONCURRENCY = 64

PLANNING: Final = "planning"
READING: Final = "reading"
SPLITTING: Final = "splitting"
FOLDING: Final = "folding"
ASSEMBLING: Final = "assembling"
COMPARING: Final = "comparing"
SWITCHING: Final = "switching"
REPORTING: Final = "reporting"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

SHARE: Final = {
    PLANNING: (0.0, 2.0),
    READING: (2.0, 50.0),
    SPLITTING: (52.0, 3.0),
    FOLDING: (55.0, 30.0),
    ASSEMBLING: (85.0, 8.0),
    COMPARING: (93.0, 5.0),
    SWITCHING: (93.0, 5.0),
    REPORTING: (98.0, 2.0),
    DONE: (100.0, 0.0),
}
"""Phase -> per cent of the whole at its begin, and that it makes up; a rough guide, measured on one machine."""

_EXPLAINED: Final = {
    PLANNING: "reads the rebuild manifest, checks every path and cuts the list into slices",
    READING: "reads and checks the events, slice by slice, and packs them into segments",
    SPLITTING: "looks for runs that cannot be folded apart, and for accepted events that the manifest does not list",
    FOLDING: "folds the events in id order, shard by shard",
    ASSEMBLING: "merges the shards into one base and adds up its digest",
    COMPARING: "compares the published state with the rebuilt one, row by row where digests differ",
    SWITCHING: "hands the result to the workspace's sequencer, which adds what came meanwhile and moves the pointer",
    REPORTING: "writes the report",
    DONE: "has ended; what came of it stands below",
    FAILED: "has stopped; readers see the state from before",
    CANCELLED: "was cancelled; readers see the state from before",
}

_ROOM_BELOW: Final = ("", "\u00a0", "", "\u00a0")
"""Blank lines, because the Web UI cuts off the last lines of a text that is longer than it expects."""

ABOUT: Final = """\
Rebuilds the projections of a workspace from events that are named one by one: plan → read → fold → assemble →
switch (or compare). Readers see the old state until the pointer is moved, in one step, at the very end. Everything
that is finished stays in the work folder, so that a rebuild started again with the same manifest goes on from there.
An attempt above 1 in the history is a step that was interrupted and repeated.
"""
"""Static details of the workflow, in Markdown."""


class RebuildStart(Message):
    """Input of RebuildWorkflow; its id is `rebuild/{tenant}/{workspace}`.

    `mode`: `catch-up`, `full` or `verify`. `allow_missing`: go on although listed events are missing or damaged, or
    accepted ones are not listed; the report names them. `concurrency`: parts that are worked on at the same time.
    """

    tenant: str
    workspace: str
    rebuild_manifest_path: str
    mode: str = "catch-up"
    allow_missing: bool = False
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = CONCURRENCY


class RebuildResult(Message):
    """Result of RebuildWorkflow, with the fields that operators of the reference know first.

    See docs/formats.md#rebuild-result.

    `events_processed` counts the distinct events that were folded, `events_skipped` those listed at or below the
    floor of a catch-up. `gap_count`: accepted events that the manifest does not list. `visibility_status` is
    `visible`, or `not_published` for a verification. `equal` is what a verification found. `timings`: seconds by phase.
    """

    events_processed: int
    manifest_id: str | None = None
    manifest_revision: str | None = None
    visibility_status: str
    mode: str
    events_skipped: int = 0
    duplicates: int = 0
    gap_count: int = 0
    missing: int = 0
    damaged: int = 0
    later_events: int = 0
    last_event_id: str | None = None
    digest_before: str | None = None
    digest_after: str | None = None
    equal: bool | None = None
    differences: int = 0
    report_path: str | None = None
    reused_parts: int = 0
    seconds: float = 0.0
    timings: dict[str, float] = {}


class RebuildProgress(Message):
    """Answer of the query `progress`. Times in seconds, rate in events per second.

    `timings`: seconds of the phases that are over. `stopped_in`: the phase that failed or was cancelled;
    `failure_class` is the value of the search attribute, `failure` the text for people.
    """

    phase: str
    mode: str
    done: int = 0
    total: int = 0
    percent: float = 0.0
    parts_done: int = 0
    parts_total: int = 0
    reused_parts: int = 0
    events: int = 0
    events_listed: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    skipped: int = 0
    duplicates: int = 0
    gaps: int = 0
    missing: int = 0
    damaged: int = 0
    bad: list[BadEvent] = []
    last_event_id: str | None = None
    repeated_steps: int = 0
    work_id: str | None = None
    timings: dict[str, float] = {}
    stopped_in: str | None = None
    failure_class: str | None = None
    failure: str | None = None
    next_step: str = ""
    result: RebuildResult | None = None


def percent_of(phase: str, done: int, total: int) -> float:
    """Return how much of the whole rebuild is done, in per cent, when `done` of `total` of a phase are."""
    begin, size = SHARE[phase]
    return round(begin + (size * min(1.0, done / total) if total else 0.0), 1)


def describe(workspace: WorkspaceRef, manifest_path: str, progress: RebuildProgress) -> str:
    """Return the current details."""
    parts = "Shards" if progress.phase == FOLDING else "Parts"
    lines = [
        f"**Rebuild of** `{workspace.tenant}/{workspace.workspace}`, mode **{progress.mode}**, from `{manifest_path}`",
        "",
        f"**Now: {progress.phase}**{_where(progress)} — {_EXPLAINED.get(progress.phase, '')}.",
        "",
        f"`{_bar(progress.percent)}` **{progress.percent:.0f} %**",
        "",
        *([f"**Why it stopped:** {progress.failure}", ""] if progress.failure else []),
        f"**What to do next:** {progress.next_step}",
        "",
        "| | |",
        "|---|---|",
        f"| {parts} of this phase | {progress.done:,} of {progress.total:,} |",
        f"| Events read | {_events(progress)} |",
        f"| Rate | {progress.rate:,.0f} events/s over {_duration(progress.seconds)} |",
    ]
    if progress.seconds_left is not None and progress.phase != DONE:
        lines.append(f"| Estimate | {_duration(progress.seconds_left)} left |")
    lines += [
        f"| Last event | `{progress.last_event_id or '-'}` |",
        f"| Skipped, duplicates | {progress.skipped:,}, {progress.duplicates:,} |",
        f"| Missing, damaged, not listed | {progress.missing:,}, {progress.damaged:,}, {progress.gaps:,} |",
        f"| Parts found finished | {progress.reused_parts:,} |",
        f"| Steps interrupted and repeated | {progress.repeated_steps:,} |",
        f"| Phases | {_phases(progress)} |",
        f"| Work folder | `{progress.work_id or '-'}` |",
    ]
    if progress.bad:
        lines += ["", "**Events that are missing or damaged**", ""]
        lines += [f"- `{one.path}`: {one.reason.value}, {one.message}" for one in progress.bad[:20]]
        hidden = progress.missing + progress.damaged - min(20, len(progress.bad))
        if hidden > 0:
            lines.append(f"- and {hidden:,} more, in the report")
    if progress.result is not None:
        lines += ["", *_result(progress)]
    return "\n".join([*lines, *_ROOM_BELOW])


def _where(progress: RebuildProgress) -> str:
    return f" while {progress.stopped_in}" if progress.stopped_in else ""


def _phases(progress: RebuildProgress) -> str:
    return ", ".join(f"{phase} {_duration(seconds)}" for phase, seconds in progress.timings.items()) or "-"


def _events(progress: RebuildProgress) -> str:
    """Return how many events have been read; the number in a listed segment is known once it is read."""
    of_listed = f" of {progress.events_listed:,}" if progress.events <= progress.events_listed else ""
    return f"{progress.events:,}{of_listed}"


def _result(progress: RebuildProgress) -> list[str]:
    result = progress.result
    assert result is not None
    lines = [
        f"**Result:** {result.events_processed:,} events in {_duration(result.seconds)}, {result.visibility_status}",
        "",
        f"- digest before `{result.digest_before or 'none'}`",
        f"- digest after `{result.digest_after or 'none'}`",
    ]
    if result.equal is not None:
        verdict = "equal" if result.equal else f"{result.differences:,} difference(s)"
        lines.append(f"- published and rebuilt state: **{verdict}**")
    if result.manifest_id is not None:
        lines.append(f"- manifest `{result.manifest_id}`, revision `{result.manifest_revision}`")
    if result.report_path is not None:
        lines.append(f"- report `{result.report_path}`")
    return lines


def _bar(percent: float) -> str:
    filled = round(percent / 5)
    return "█" * filled + "░" * (20 - filled)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
