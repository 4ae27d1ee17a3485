"""The report's pictures of schedules, sensors and backfills."""

from __future__ import annotations

from math import log10
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
    swatch,
    table,
)
from springline.report.facts import GONE, BackfillLine, EvaluationMark, Report, ScheduleLane, SensorLane, TickMark
from springline.report.markup import Child, Markup, el
from springline.report.wrong import STALLED_MS, many, slug, span_text, stalled_ms

_HEIGHT: Final = 38
_FOOT: Final = 31
_LATE_S: Final = 60
_AT_ONCE_S: Final = 5
_TALLEST: Final = 24
_BURN: Final = 110


def schedules_section(report: Report) -> Markup:
    """Return the part of the page about schedules and their ticks."""
    lanes = report.schedules
    if not lanes:
        return section("schedules", "Schedules", "There is no schedule.")
    said = (
        "Each mark is an instant of a schedule. The higher it stands, the later it was decided on: on the line at "
        "once, half way up a minute late, at the top an hour or more."
    )
    return section(
        "schedules",
        "Schedules",
        said,
        legend(
            [
                (sign("dot", "f-good"), "a run was asked for"),
                (sign("late", "f-warn"), "a run was asked for, more than a minute late"),
                (sign("ring", "s-off"), "skipped"),
                (sign("cross", "s-bad"), "could not be decided on"),
                (swatch("#p-never"), "due and not decided on"),
            ]
        ),
        el("div", [_schedule(report, one) for one in lanes], class_="rows"),
        axis(report.span),
        left_out_text(report.left_out["schedules"], "schedules"),
        table(
            "Schedules, those with trouble first",
            ["schedule", "due", "state", "runs", "late", "worst", "skipped", "failed", "next (UTC)"],
            [
                [
                    el("span", one.schedule_id, class_="name"),
                    one.due,
                    "on" if one.enabled else "gone" if one.due == GONE else "paused",
                    f"{one.counts['triggered']:,}",
                    f"{one.late:,}",
                    span_text(one.worst_late_ms),
                    f"{one.counts['skipped']:,}",
                    f"{one.counts['failed']:,}",
                    instant_text(one.next_ms),
                ]
                for one in lanes
            ],
            report.left_out["schedules"],
        ),
    )


def _schedule(report: Report, one: ScheduleLane) -> Markup:
    counts = one.counts
    parts = [f"{counts['triggered']:,} run{'' if counts['triggered'] == 1 else 's'}"]
    parts += [f"{one.late:,} late"] if one.late else []
    parts += [f"{counts[name]:,} {name}" for name in ("skipped", "failed") if counts[name]]
    if one.due == GONE:
        pass
    elif not one.enabled:
        parts.append("paused")
    elif one.next_ms is not None:
        at, now = instant_text(one.next_ms), instant_text(report.now_ms)
        # One of another year is told by its day.
        parts.append(f"next {at[5:16] if at[:4] == now[:4] else at[:10]}")
    label = [
        el("span", one.schedule_id, class_="name"),
        el("span", " · ".join(parts), class_="sub"),
        el("span", one.due, class_="sub"),
    ]
    drawn: list[Child] = [el("line", x1=0, x2="100%", y1=_FOOT, y2=_FOOT, class_="base")]
    drawn += [_tick(report, tick) for tick in one.marks]
    if one.overdue_ms > _LATE_S * 1_000:
        first, last = (report.span.share(at) for at in (report.now_ms - one.overdue_ms, report.now_ms))
        said = f"Due since {instant_text(report.now_ms - one.overdue_ms)}, and not decided on"
        drawn.append(bar(first, last, _FOOT - 8, 8, "#p-never", said))
    track = picture(_HEIGHT, f"Ticks of {one.schedule_id}: {', '.join(parts)}.", *drawn, grid=report.span)
    return lane(label, track, anchor=f"schedule-{slug(one.schedule_id)}")


def height_of(late_ms: int | None) -> float:
    """Return how high a mark stands above its line: half way up for a minute, at the top for an hour or more."""
    seconds = (late_ms or 0) / 1_000
    if seconds < _AT_ONCE_S:
        return 0.0
    return min(_TALLEST, _TALLEST * log10(1 + seconds) / log10(1 + _LATE_S) / 2)


def _tick(report: Report, one: TickMark) -> list[Child]:
    share = report.span.share(one.scheduled_ms)
    late = (one.late_ms or 0) > _LATE_S * 1_000
    symbol, style = {
        "failed": ("cross", "s-bad"),
        "skipped": ("ring", "s-off"),
    }.get(one.status, ("late", "f-warn") if late else ("dot", "f-good"))
    said = f"{instant_text(one.scheduled_ms)}: {one.status}" + (f" ({one.count:,} ticks)" if one.count > 1 else "")
    if one.late_ms is not None:
        said += f", decided on {span_text(one.late_ms)} later"
    if one.said:
        said += f": {one.said}"
    up = height_of(one.late_ms) if one.status == "triggered" else 0.0
    x = f"{share * 100:.2f}%"
    stem = el("line", x1=x, x2=x, y1=_FOOT, y2=_FOOT - up, class_="s-warn" if late else "base") if up > 4 else None
    return [stem, mark(share, _FOOT - up, symbol, style, said)]


def sensors_section(report: Report) -> Markup:
    """Return the part of the page about sensors: evaluations, and what waits for them."""
    lanes = report.sensors
    if not lanes:
        return section("sensors", "Sensors", "There is no sensor.")
    return section(
        "sensors",
        "Sensors",
        "Each mark is an evaluation on record; a poll that finds nothing new need not be. A hatched bar begins where "
        "the oldest message came that still waits for its evaluation: that is how far the sensor lags.",
        legend(
            [
                (sign("dot", "f-good"), "asked for runs"),
                (sign("ring", "s-off"), "found nothing new"),
                (sign("diamond", "s-violet"), "was made on an older state, and repeated"),
                (sign("cross", "s-bad"), "failed"),
                (swatch("#p-never"), "messages wait"),
            ]
        ),
        el("div", [_sensor(report, one) for one in lanes], class_="rows"),
        axis(report.span),
        left_out_text(report.left_out["sensors"], "sensors"),
        table(
            "Sensors, failing ones first",
            [
                "sensor",
                "state",
                "last evaluation (UTC)",
                "runs",
                "nothing new",
                "errors",
                "waiting",
                "oldest (UTC)",
                "last message",
            ],
            [
                [
                    el("span", one.sensor_id, class_="name"),
                    "paused" if one.paused else one.status.lower(),
                    instant_text(one.last_ms),
                    f"{one.requests:,}",
                    f"{one.counts['no_new_data']:,}",
                    f"{one.counts['error']:,}",
                    f"{one.waiting:,}",
                    instant_text(one.oldest_waiting_ms),
                    one.last_said or "-",
                ]
                for one in lanes
            ],
            report.left_out["sensors"],
        ),
    )


def _sensor(report: Report, one: SensorLane) -> Markup:
    parts = [many(one.requests, "run")]
    if one.counts["error"]:
        parts.append(many(one.counts["error"], "error"))
    if one.waiting and one.oldest_waiting_ms is not None:
        parts.append(f"{one.waiting:,} waiting, lag {span_text(report.now_ms - one.oldest_waiting_ms)}")
    state = "paused" if one.paused else None
    last = "never evaluated" if one.last_ms is None else f"last {span_text(report.now_ms - one.last_ms)} ago"
    label = [
        el("span", one.sensor_id, class_="name"),
        el("span", " · ".join(parts), class_="sub"),
        el("span", " · ".join(filter(None, [state, last])), class_="sub"),
    ]
    drawn: list[Child] = [el("line", x1=0, x2="100%", y1=20, y2=20, class_="base")]
    if one.oldest_waiting_ms is not None:
        said = f"{many(one.waiting, 'message')} wait, the oldest since {instant_text(one.oldest_waiting_ms)}"
        first, last_share = report.span.share(one.oldest_waiting_ms), report.span.share(report.now_ms)
        drawn.append(bar(first, last_share, 27, 7, "#p-never", said))
    drawn += [_evaluation(report, evaluation) for evaluation in one.marks]
    track = picture(_HEIGHT, f"Evaluations of {one.sensor_id}: {', '.join(parts)}.", *drawn, grid=report.span)
    return lane(label, track, anchor=f"sensor-{slug(one.sensor_id)}")


def _evaluation(report: Report, one: EvaluationMark) -> Markup:
    symbol, style = {
        "error": ("cross", "s-bad"),
        "no_new_data": ("ring", "s-off"),
        "skipped_stale_cursor": ("diamond", "s-violet"),
    }.get(one.status, ("dot", "f-good"))
    said = f"{instant_text(one.at_ms)}: {one.status.replace('_', ' ')}"
    said += f" ({one.count:,} evaluations)" if one.count > 1 else ""
    said += f", {many(one.requests, 'run')} asked for" if one.requests else ""
    return mark(report.span.share(one.at_ms), 20, symbol, style, said + (f": {one.said}" if one.said else ""))


def backfills_section(report: Report) -> Markup:
    """Return the part of the page about backfills: how many partitions are left, over time."""
    lines = report.backfills
    if not lines:
        return section("backfills", "Backfills", "No backfill was under way in this time.")
    return section(
        "backfills",
        "Backfills",
        "How many partitions are left, from the begin of each backfill until its end or now.",
        el("div", [_backfill(report, one) for one in lines], class_="burn"),
        left_out_text(report.left_out["backfills"], "backfills"),
        table(
            "Backfills",
            ["backfill", "state", "of", "total", "done", "failed", "skipped", "left", "chunks ended", "created (UTC)"],
            [
                [
                    el("span", one.backfill_id, class_="name"),
                    one.state.lower(),
                    el("span", one.selection, class_="name"),
                    f"{one.total:,}",
                    f"{one.done:,}",
                    f"{one.failed:,}",
                    f"{one.skipped:,}",
                    f"{one.left:,}",
                    f"{one.chunks_ended:,} of {one.chunks_planned:,} planned",
                    instant_text(one.created_ms),
                ]
                for one in lines
            ],
            report.left_out["backfills"],
        ),
    )


def estimate_ms(one: BackfillLine, now_ms: int) -> int | None:
    """Return how long a backfill will go on at its rate so far; None if it does not run or nothing has ended."""
    ended = one.total - one.left
    if one.state != "RUNNING" or not ended or not one.left:
        return None
    return (now_ms - one.created_ms) * one.left // ended


def _backfill(report: Report, one: BackfillLine) -> Markup:
    over = one.state in ("SUCCEEDED", "FAILED", "CANCELLED")
    end = max([one.created_ms + 1, *(at for at, _ in one.points)]) if over else report.now_ms
    length = max(1, end - one.created_ms)
    places = [(min(1.0, max(0.0, (at - one.created_ms) / length)), left) for at, left in one.points]
    corners: list[str] = []
    before = one.total
    top = max(1, one.total)
    for share, left in [*places, (1.0, places[-1][1])]:
        x = share * 1_000
        corners += [f"{x:.1f},{_y(before, top):.1f}", f"{x:.1f},{_y(left, top):.1f}"]
        before = left
    still = one.state == "RUNNING" and stalled_ms(one, report.now_ms) > STALLED_MS
    state = "stands still" if still else one.state.lower()
    ahead = estimate_ms(one, report.now_ms)
    tail = (
        f"about {span_text(ahead)} to go"
        if ahead is not None and not still
        else f"created {instant_text(one.created_ms)}"
    )
    repeats = "" if one.parent is None else f" · repeats {one.parent}"
    parts = [f"{one.done:,} done", *([f"{one.failed:,} failed"] if one.failed else [])]
    parts += [f"{one.skipped:,} skipped"] if one.skipped else []
    parts.append(f"{one.left:,} left of {one.total:,}")
    said = f"{one.backfill_id}: {', '.join(parts)}"
    chart = el(
        "svg",
        el("title", said),
        el("line", x1=0, x2=1_000, y1=_BURN - 1, y2=_BURN - 1, class_="base", vector_effect="non-scaling-stroke"),
        el("polygon", points=f"0,{_BURN - 1} {' '.join(corners)} 1000,{_BURN - 1}", class_="f-soft"),
        el(
            "polyline",
            points=" ".join(corners),
            class_="none s-good",
            stroke_width=2,
            vector_effect="non-scaling-stroke",
        ),
        viewBox=f"0 0 1000 {_BURN}",
        height=_BURN,
        preserveAspectRatio="none",
        role="img",
    )
    begin, last = instant_text(one.created_ms)[:16], instant_text(end)[:16]
    return el(
        "div",
        el("h3", el("span", one.backfill_id, class_="name"), f": {state}"),
        el("div", el("span", one.selection, class_="name"), f" · {tail}{repeats}", class_="quiet small"),
        el("div", el("span", f"{one.total:,} partitions"), class_="peak"),
        chart,
        el("div", el("span", begin), el("span", last if over else f"now, {last}"), class_="peak"),
        _progress(one, said),
        el("div", " · ".join(parts), class_="small"),
        id=f"backfill-{slug(one.backfill_id)}",
    )


def _y(left: int, top: int) -> float:
    return _BURN - 1 - (_BURN - 6) * left / top


def _progress(one: BackfillLine, said: str) -> Markup:
    parts: list[Child] = [el("rect", x=0, y=2, width="100%", height=10, rx=2, class_="f-offsoft")]
    at = 0.0
    for count, style in ((one.done, "f-good"), (one.failed, "#p-bad"), (one.skipped, "f-off")):
        if count:
            last = at + count / max(1, one.total)
            parts.append(bar(at, min(1.0, last), 2, 10, style, said))
            at = last
    return picture(14, said, *parts)
