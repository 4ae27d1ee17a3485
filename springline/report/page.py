"""The report as one HTML page that needs nothing else: no script, no font, no picture from anywhere."""

from __future__ import annotations

from typing import Final

from springline.report.draw_automation import backfills_section, schedules_section, sensors_section
from springline.report.draw_data import assets_section, ledger_section, tables_section
from springline.report.draw_runs import runs_section
from springline.report.drawing import SYMBOLS, instant_text
from springline.report.facts import Report, Severity, Wrong
from springline.report.markup import Child, Markup, el, joined
from springline.report.style import STYLE
from springline.report.wrong import many, span_text

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""The content security policy: the page loads nothing, sends nothing and runs nothing."""
MOST_WRONG: Final = 40
_PARTS: Final = (
    ("wrong", "What is wrong now"),
    ("runs", "Runs"),
    ("schedules", "Schedules"),
    ("sensors", "Sensors"),
    ("backfills", "Backfills"),
    ("assets", "Partitions"),
    ("tables", "Table commits"),
    ("ledger", "Ledger lag"),
)


def page_of(report: Report) -> str:
    """Return the page. All that anybody could name is escaped."""
    title = f"{report.tenant}/{report.workspace}: Springline report"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("link", rel="icon", href="data:,"),
        el("style", Markup(STYLE)),
    )
    nav = el("nav", el("ul", [el("li", el("a", said, href=f"#{to}")) for to, said in _PARTS]), aria_label="Parts")
    body = el(
        "body",
        SYMBOLS,
        _header(report),
        nav,
        el(
            "main",
            _wrong_section(report),
            runs_section(report),
            schedules_section(report),
            sensors_section(report),
            backfills_section(report),
            assets_section(report),
            tables_section(report),
            ledger_section(report),
        ),
        el(
            "footer",
            "Every number is of rows of the published state, revision ",
            el("code", report.ledger.manifest_id),
            ". Hold the pointer over a mark to see what it says; each picture is a table, too.",
        ),
    )
    return joined(Markup("<!DOCTYPE html>\n"), el("html", head, body, lang="en"), "\n")


def _header(report: Report) -> Markup:
    span = report.span
    told = f"{instant_text(span.since_ms)} to {instant_text(span.until_ms)} UTC ({span_text(span.length_ms)})"
    return el(
        "header",
        el("h1", el("span", f"{report.tenant}/{report.workspace}", class_="name")),
        el("div", f"{told} · read {instant_text(report.now_ms)} UTC", class_="quiet"),
        el("div", _tiles(report), class_="tiles"),
        style="padding-bottom:18px",
    )


def _tiles(report: Report) -> list[Markup]:
    runs, states = report.runs, report.runs.states
    going_on = states["RUNNING"] + states["TRIGGERED"]
    ticks = sum(one.counts["triggered"] for one in report.schedules)
    late = sum(one.late for one in report.schedules)
    overdue = sum(one.overdue_ms > 60_000 for one in report.schedules)
    stale = sum(one.stale for one in report.assets)
    running = [one for one in report.backfills if one.state in ("RUNNING", "PAUSED", "PENDING")]
    left = sum(one.left for one in running)
    bad = sum(one.severity is Severity.BAD for one in report.wrong)
    failing = sum(one.failing_since_ms is not None for one in report.sensors)
    worst = report.ledger.worst_ms
    return [
        _tile("#wrong", f"{len(report.wrong):,}", "wrong now", "bad" if bad else "warn" if report.wrong else ""),
        _tile(
            "#runs",
            f"{runs.total:,}",
            f"runs: {states['FAILED']:,} failed, {going_on:,} going on",
            "bad" if states["FAILED"] else "",
        ),
        _tile(
            "#schedules",
            f"{ticks:,}",
            f"runs by schedules, {late:,} late" + (f", {overdue:,} overdue" if overdue else ""),
            "bad" if overdue else "warn" if late else "",
        ),
        _tile("#sensors", f"{len(report.sensors):,}", f"sensors, {failing:,} failing", "bad" if failing else ""),
        _tile("#backfills", f"{left:,}", f"partitions left in {many(len(running), 'backfill')}", ""),
        _tile("#assets", f"{stale:,}", "of the latest partitions are stale", "warn" if stale else ""),
        _tile(
            "#ledger",
            "-" if worst is None else span_text(worst),
            "worst ledger lag",
            "bad" if report.ledger.behind else "",
        ),
    ]


def _tile(anchor: str, number: str, said: str, style: str) -> Markup:
    return el("a", el("b", number), el("span", said, class_="small"), class_=f"tile {style}".strip(), href=anchor)


def _wrong_section(report: Report) -> Markup:
    found = report.wrong
    if not found:
        said = f"Nothing: {many(report.runs.total, 'run')} in this time, and nothing fails, waits or is late."
        return el("section", el("h2", "What is wrong now"), el("p", said, class_="fine"), id="wrong")
    items = [_item(report, one) for one in found[:MOST_WRONG]]
    rest = len(found) - len(items)
    return el(
        "section",
        el("h2", "What is wrong now"),
        el("ol", items, class_="wrong"),
        el("p", f"{rest:,} more are not listed; the pictures below show them.", class_="quiet small")
        if rest > 0
        else None,
        id="wrong",
    )


def _item(report: Report, one: Wrong) -> Markup:
    bad = one.severity is Severity.BAD
    since = (
        None
        if one.since_ms is None
        else f"since {instant_text(one.since_ms)[:16]} ({span_text(report.now_ms - one.since_ms)})"
    )
    said: list[Child] = [one.detail]
    if one.command is not None:
        said += [" " if one.detail else None, el("code", one.command)]
    return el(
        "li",
        el(
            "svg",
            el("title", "fails or stands still" if bad else "to be looked at"),
            el("path", d="M8 1 15 5v6l-7 4-7-4V5Z", class_="f-bad")
            if bad
            else el("path", d="M8 1 15 14H1Z", class_="f-warn"),
            el("path", d="M8 5v4M8 11v1.6", stroke_width=1.8, class_="none", style="stroke:var(--card)"),
            viewBox="0 0 16 16",
            role="img",
        ),
        el("a", one.title, href=one.anchor, class_="name"),
        el("span", since, class_="since small") if since else el("span"),
        el("div", said, class_="said small") if one.detail or one.command else None,
        class_="bad" if bad else "warn",
    )
