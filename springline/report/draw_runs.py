"""The report's pictures of runs: how many over time, and the ones that matter most with their attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from springline.report.drawing import (
    axis,
    bar,
    instant_text,
    lane,
    left_out_text,
    legend,
    mark,
    picture,
    section,
    sign,
    stacked,
    swatch,
    table,
)
from springline.report.facts import BUCKETS, AttemptBar, OriginLane, Report, RunBar
from springline.report.markup import Child, Markup, el
from springline.report.origins import origin_of
from springline.report.wrong import many, slug, span_text

STYLES: Final = {
    "SUCCEEDED": "f-good",
    "FAILED": "#p-bad",
    "RUNNING": "f-run",
    "TRIGGERED": "f-run",
    "DISPATCHED": "#p-wait",
    "RETRY_WAIT": "#p-wait",
    "CANCELLED": "f-off",
    "SKIPPED": "f-offsoft",
}
WORDS: Final = {
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "RUNNING": "running",
    "TRIGGERED": "not planned yet",
    "DISPATCHED": "waits for a worker",
    "RETRY_WAIT": "waits for another attempt",
    "CANCELLED": "cancelled",
    "SKIPPED": "skipped",
}
_HEIGHT: Final = 72
_LANE: Final = 26
_ROW: Final = 11
"""Height of a row of bars."""
_THIN: Final = 18
_MOST_LANES: Final = 40
"""Tasks of one run that have a lane."""
_MOST_ERRORS: Final = 8
_OPENED: Final = 2
"""Runs that show their attempts at once."""
_SEEN: Final = 0.007
"""The share of the width that what failed takes at least."""


def runs_section(report: Report) -> Markup:
    """Return the part of the page about runs."""
    runs = report.runs
    if not runs.total:
        return section("runs", "Runs", "No run was under way in this time.")
    told = (
        f"{many(runs.total, 'run')} {'was' if runs.total == 1 else 'were'} under way in this time: {_states(report)}."
    )
    ended = sum(runs.attempts.values())
    told += f" {many(ended, 'attempt')} ended, of which {runs.retries:,} repeated an attempt before."
    opened = [one.run_id for one in runs.bars if one.state != "SUCCEEDED"][:_OPENED]
    shown = "What goes on, what did not succeed, and the latest others."
    shown += f" {runs.left_out:,} more are drawn above alone." if runs.left_out else ""
    return section(
        "runs",
        "Runs",
        told,
        legend(
            [
                (swatch("f-good"), "succeeded"),
                (swatch("#p-bad"), "failed"),
                (swatch("f-run"), "running"),
                (swatch("#p-wait"), "waits for a worker or another attempt"),
                (swatch("f-off"), "cancelled"),
                (sign("cross", "s-bad"), "an attempt failed here"),
            ]
        ),
        el("div", _histogram(report), [_origin(report, one) for one in runs.lanes], class_="rows"),
        axis(report.span),
        _failures(report),
        el("h3", "One by one", style="margin-top:22px"),
        el("p", f"{shown} Open one to see the attempts of its tasks.", class_="quiet small"),
        el(
            "div",
            [_run(report, one, opened=one.run_id in opened) for one in runs.bars],
            class_="rows",
        ),
        axis(report.span),
        table(
            "Runs, in the same order",
            ["run", "state", "asked for by", "triggered (UTC)", "took", "tasks", "attempts"],
            [
                [
                    el("code", one.run_id),
                    WORDS.get(one.state, one.state),
                    el("span", origin_of(one.run_key), class_="name"),
                    instant_text(one.triggered_ms),
                    _took(report, one),
                    f"{one.tasks_succeeded:,} of {one.tasks_total:,}",
                    f"{len(one.attempts) + one.attempts_left_out:,}",
                ]
                for one in runs.bars
            ],
            runs.left_out,
        ),
    )


def _states(report: Report) -> str:
    states = report.runs.states
    order = [name for name in WORDS if states[name]]
    return ", ".join(f"{states[name]:,} {WORDS[name]}" for name in order)


_STACK: Final = ("SUCCEEDED", "CANCELLED", "RUNNING", "FAILED")


def _histogram(report: Report) -> Markup:
    span, buckets = report.span, report.runs.buckets
    peak = max((sum(one.values()) for one in buckets), default=0)
    if not peak:
        return el("p", "None of them was triggered in this time.", class_="quiet small")
    parts: list[Child] = []
    for number, counts in enumerate(buckets):
        total = sum(counts.values())
        if not total:
            continue
        merged = [(name, counts[name] + (counts["TRIGGERED"] if name == "RUNNING" else 0)) for name in _STACK]
        said = ", ".join(f"{count:,} {WORDS[name]}" for name, count in merged if count)
        at = f"{instant_text(span.begin_of(number))}: {said}"
        pieces = stacked(((STYLES[name], count, at) for name, count in merged), total, _HEIGHT, (_HEIGHT - 6) / peak)
        for style, top, height, text in pieces:
            first = number / BUCKETS
            parts.append(bar(first, first + 0.82 / BUCKETS, top, height, style, text))
    each = span_text(span.length_ms // BUCKETS)
    track = picture(
        _HEIGHT,
        f"Runs by the time they were triggered, at most {peak:,} in {each}.",
        *parts,
        el("line", x1=0, x2="100%", y1=_HEIGHT, y2=_HEIGHT, class_="base"),
        grid=span,
    )
    label = [el("b", "Triggered"), el("span", f"at most {peak:,} in {each}", class_="sub")]
    return lane(label, track)


def _origin(report: Report, one: OriginLane) -> Markup:
    """Return all runs that were asked for in one way, each a bar."""
    parts: list[Child] = []
    for number, row in enumerate(one.rows):
        for found in row:
            stop = report.now_ms if found.last_ms is None else found.last_ms
            state = WORDS.get(found.state, found.state)
            said = f"{instant_text(found.first_ms)}, {span_text(stop - found.first_ms)}: {state}"
            said = f"{found.run_id}, {said}"
            if found.count > 1:
                said = f"{found.count:,} runs {state}, triggered from {instant_text(found.first_ms)} on"
            first, last = report.span.share(found.first_ms), report.span.share(stop)
            if found.state == "FAILED":
                last = max(last, first + _SEEN)
            parts.append(bar(first, last, 5 + number * _ROW, _ROW - 2, STYLES.get(found.state, "f-off"), said))
    told = ", ".join(f"{one.states[name]:,} {WORDS[name]}" for name in WORDS if one.states[name])
    label = [el("span", one.origin, class_="name"), el("span", told, class_="sub")]
    height = 10 + max(2, len(one.rows)) * _ROW
    return lane(label, picture(height, f"Runs of {one.origin}: {told}", *parts, grid=report.span))


def _run(report: Report, one: RunBar, *, opened: bool) -> Markup:
    span = report.span
    end = report.now_ms if one.completed_ms is None else one.completed_ms
    first, last = span.share(one.triggered_ms), span.share(end)
    state = WORDS.get(one.state, one.state) + (
        ", to be cancelled" if one.cancel_requested and not one.completed_ms else ""
    )
    said = f"{one.run_id}: {state}, {_times(one)}"
    inside: list[Child] = [bar(first, last, 7, 12, STYLES.get(one.state, "f-off"), said)]
    for attempt in one.attempts:
        if attempt.state == "FAILED" and attempt.end_ms is not None and span.holds(attempt.end_ms):
            text = f"{attempt.task_key}, attempt {attempt.attempt} failed: {attempt.said or 'no message'}"
            inside.append(mark(span.share(attempt.end_ms), 13, "cross", "s-bad", text))
    tasks = f"{one.tasks_succeeded:,} of {many(one.tasks_total, 'task')}"
    label = [
        el("span", origin_of(one.run_key), class_="name"),
        el("span", f"{state} · {tasks} · {_took(report, one)}", class_="sub"),
    ]
    summary = el(
        "summary",
        el("div", label, class_="label"),
        el("div", picture(_LANE, said, *inside, grid=span), class_="track"),
        class_="lane",
    )
    return el("details", summary, _inside(report, one), class_="run", open=opened)


def _inside(report: Report, one: RunBar) -> Markup:
    lanes: dict[str, list[AttemptBar]] = {}
    for attempt in one.attempts:
        lanes.setdefault(attempt.task_key, []).append(attempt)
    shown = list(lanes.items())[:_MOST_LANES]
    end = report.now_ms if one.completed_ms is None else one.completed_ms
    failed = [attempt for attempt in one.attempts if attempt.said and attempt.state in ("FAILED", "CANCELLED")]
    errors = [
        el("li", el("b", f"{attempt.task_key}, attempt {attempt.attempt}: ", class_="name"), attempt.said)
        for attempt in failed[:_MOST_ERRORS]
    ]
    left_out = one.attempts_left_out + sum(len(attempts) for _, attempts in list(lanes.items())[_MOST_LANES:])
    return el(
        "div",
        el(
            "p",
            el("code", one.run_id),
            f" · {_times(one)} · ",
            el("code", f"springline run show {one.run_id}"),
            class_="small quiet",
        ),
        [_task(report, one, key, attempts, end) for key, attempts in shown],
        left_out_text(left_out, "attempts"),
        el("ul", errors, class_="errors") if errors else None,
        el("p", f"{len(failed) - _MOST_ERRORS:,} more messages.", class_="quiet small")
        if len(failed) > _MOST_ERRORS
        else None,
        class_="inside",
        id=f"run-{slug(one.run_id)}",
    )


def _task(report: Report, run: RunBar, key: str, attempts: Sequence[AttemptBar], end: int) -> Markup:
    """Return a task's attempts over the time of its run, which is far shorter than that of the report."""
    length = max(1, end - run.triggered_ms)
    parts: list[Child] = [el("line", x1=0, x2="100%", y1=_THIN - 1, y2=_THIN - 1, class_="g")]
    for one in attempts:
        stop = report.now_ms if one.end_ms is None else one.end_ms
        first, last = ((at - run.triggered_ms) / length for at in (one.start_ms, stop))
        said = f"{key}, attempt {one.attempt}: {WORDS.get(one.state, one.state)} after {span_text(stop - one.start_ms)}"
        if one.worker:
            said += f" at {one.worker}"
        if one.said:
            said += f": {one.said}"
        style = STYLES.get(one.state, "f-off")
        parts.append(bar(min(1.0, max(0.0, first)), min(1.0, max(0.0, last)), 3, 11, style, said))
    last_one = attempts[-1]
    tries = "" if last_one.attempt == 1 else f", attempt {last_one.attempt}"
    label = [
        el("span", key, class_="name"),
        el("span", f"{WORDS.get(last_one.state, last_one.state)}{tries}", class_="sub"),
    ]
    return lane(label, picture(_THIN, f"Attempts of {key} over the time of the run.", *parts))


def _times(one: RunBar) -> str:
    begin = instant_text(one.triggered_ms)
    return f"since {begin} UTC" if one.completed_ms is None else f"{begin} to {instant_text(one.completed_ms)} UTC"


def _took(report: Report, one: RunBar) -> str:
    if one.completed_ms is None:
        return f"{span_text(report.now_ms - one.triggered_ms)} so far"
    return span_text(one.completed_ms - one.triggered_ms)


def _failures(report: Report) -> Markup | None:
    if not report.failures and not report.made_good:
        return None
    rows = [
        [
            el("span", one.asset, class_="name"),
            f"{one.count:,}",
            instant_text(one.first_ms),
            instant_text(one.last_ms),
            el("code", one.run_id),
            one.said,
        ]
        for one in report.failures[:_MOST_LANES]
    ]
    good = f" {many(report.made_good, 'task')} that failed {'was' if report.made_good == 1 else 'were'} made since."
    return el(
        "div",
        el("h3", "What failed and was not made since", style="margin-top:18px"),
        el(
            "p",
            "The same message of the same asset is one line." + (good if report.made_good else ""),
            class_="quiet small",
        ),
        table(
            "Failures, the latest first",
            ["asset", "tasks", "first (UTC)", "last (UTC)", "last run", "message"],
            rows,
            len(report.failures) - len(rows),
            folded=False,
        )
        if rows
        else el("p", "Nothing.", class_="small"),
        id="failures",
    )
