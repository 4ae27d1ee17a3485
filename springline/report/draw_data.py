"""The report's pictures of data: partitions, versions of tables, and how late the ledger recorded."""

from __future__ import annotations

from typing import Final

from springline.report.data import states_of
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
from springline.report.facts import BUCKETS, AssetStrip, Report, StripCell, TableLane
from springline.report.markup import Child, Markup, el, joined
from springline.report.wrong import many, slug, span_text

CELLS: Final = {
    "CURRENT": ("f-soft", "current"),
    "OPEN": ("f-offsoft", "time has not ended"),
    "NEVER_MATERIALIZED": ("#p-never", "never made"),
    "CODE_CHANGED": ("f-violet", "code has changed"),
    "UPSTREAM_NEVER_MATERIALIZED": ("#p-wait", "upstream has gaps"),
    "UPSTREAM_CHANGED": ("f-teal", "upstream was made again"),
    "FRESHNESS_POLICY": ("f-warn", "too old"),
}
_HEIGHT: Final = 24
_LEAST_CELLS: Final = 45
_LAG: Final = 72


def assets_section(report: Report) -> Markup:
    """Return the part of the page about assets: how their latest partitions stand."""
    strips = report.assets
    if not strips:
        return section("assets", "Partitions", "No asset is deployed.")
    counts = states_of(strips)
    entries = [(swatch(style), f"{counts[state]:,} {said}") for state, (style, said) in CELLS.items() if counts[state]]
    if any(_failed(cell) for strip in strips for cell in strip.cells):
        entries.append((sign("cross", "s-bad"), "stale, and the last attempt failed"))
    return section(
        "assets",
        "Partitions",
        "The latest partitions of each asset, the oldest on the left, and how they stand now against the deployed "
        "definitions. An asset without partitions has one cell.",
        legend(entries),
        el("div", [_strip(one) for one in strips], class_="rows"),
        left_out_text(report.left_out["assets"], "assets"),
        table(
            "Assets, those with stale partitions first",
            ["asset", "partitions", "latest", "stale", "last made (UTC)", "why"],
            [
                [
                    el("span", one.asset, class_="name"),
                    f"{one.partitions:,}",
                    f"{len(one.cells):,}",
                    f"{one.stale:,}",
                    instant_text(max((cell.made_ms for cell in one.cells if cell.made_ms is not None), default=None)),
                    _why(one) or "-",
                ]
                for one in strips
            ],
            report.left_out["assets"],
        ),
    )


def _strip(one: AssetStrip) -> Markup:
    # Few partitions have cells of the same size as many.
    count = max(len(one.cells), _LEAST_CELLS)
    parts: list[Child] = []
    for number, cell in enumerate(one.cells):
        style, said = CELLS.get(cell.state, ("f-off", cell.state))
        text = f"{cell.key or one.asset}: {said}"
        text += f" ({cell.upstream})" if cell.upstream else ""
        text += f", since {instant_text(cell.since_ms)}" if cell.since_ms is not None else ""
        text += f"; made {instant_text(cell.made_ms)}" if cell.made_ms is not None else ""
        first = number / count
        parts.append(bar(first, first + 0.86 / count, 3, 17, style, text))
        if _failed(cell):
            place = first + 0.43 / count
            parts.append(mark(place, 11.5, "cross", "s-bad", f"{text}; the last attempt failed"))
    keys = [cell.key for cell in one.cells]
    of = "no partitions" if keys[:1] == [None] else f"{keys[0]} to {keys[-1]}" if keys else "none has begun"
    told = _why(one) or "current"
    label = [
        el("span", one.asset, class_="name"),
        el("span", told, class_="sub"),
        el("span", of, class_="sub name"),
    ]
    track = picture(_HEIGHT, f"{one.asset}: {told}", *parts)
    return lane(label, track, anchor=f"asset-{slug(one.asset)}")


def _failed(cell: StripCell) -> bool:
    return cell.failed and cell.state not in ("CURRENT", "OPEN")


def _why(one: AssetStrip) -> str | None:
    counts = states_of([one])
    said = [f"{counts[state]:,} {said}" for state, (_, said) in CELLS.items() if counts[state] and state not in _WELL]
    if not said:
        return None
    return ", ".join(said) if one.partitions > 1 else said[0].partition(" ")[2]


_WELL: Final = ("CURRENT", "OPEN")


def tables_section(report: Report) -> Markup:
    """Return the part of the page about Delta tables: versions that tasks have written."""
    lanes = report.tables
    if not lanes:
        return section("tables", "Table commits", "No task has written a Delta table in this time.")
    return section(
        "tables",
        "Table commits",
        "Each mark is a version that a task of a run has written, placed where its attempt ended; several close to "
        "each other are one larger mark. Other writers' commits are not part of the ledger.",
        el("div", [_table(report, one) for one in lanes], class_="rows"),
        axis(report.span),
        left_out_text(report.left_out["tables"], "tables"),
        table(
            "Tables, the most written first",
            ["table", "commits", "rows", "last version", "last written (UTC)", "by task"],
            [
                [
                    el("span", one.table, class_="name"),
                    f"{one.commits:,}",
                    f"{one.rows:,}",
                    f"{one.last_version:,}",
                    instant_text(one.marks[-1].at_ms),
                    el("span", one.marks[-1].task_key, class_="name"),
                ]
                for one in lanes
            ],
            report.left_out["tables"],
        ),
    )


def _table(report: Report, one: TableLane) -> Markup:
    parts: list[Child] = [el("line", x1=0, x2="100%", y1=12, y2=12, class_="base")]
    for found in one.marks:
        said = f"{instant_text(found.at_ms)}: version {found.version:,} by {found.task_key}"
        said += f", {found.operation}" if found.operation else ""
        said += f", {found.rows:,} rows" if found.rows is not None else ""
        said += f"; {found.count:,} commits" if found.count > 1 else ""
        size = min(8.0, 3.0 + found.count**0.5)
        x = f"{report.span.share(found.at_ms) * 100:.2f}%"
        parts.append(el("circle", el("title", said), cx=x, cy=12, r=size, class_="f-good", opacity=0.85))
    label = [
        el("span", one.table, class_="name"),
        el("span", f"{many(one.commits, 'commit')} · v{one.last_version} · {one.rows:,} rows", class_="sub"),
    ]
    said = f"{one.table}: {many(one.commits, 'commit')}, {one.rows:,} rows"
    return lane(label, picture(_HEIGHT, said, *parts, grid=report.span))


def ledger_section(report: Report) -> Markup:
    """Return the part of the page about the ledger: where it stands, and how late it recorded."""
    facts = report.ledger
    stand = f"{facts.events:,} events; the last that readers see is of {instant_text(facts.last_event_ms)} UTC, "
    stand += f"published {instant_text(facts.published_ms)} UTC as revision {facts.manifest_id}."
    if facts.behind:
        stand += " There are events that readers do not see yet."
    if not facts.parts:
        return section("ledger", "Ledger lag", stand, el("p", "No end of an attempt was recorded.", class_="small"))
    worst = max(1, facts.worst_ms or 1)
    parts: list[Child] = []
    for part in facts.parts:
        first = report.span.bucket(part.begin_ms) / BUCKETS
        said = f"{instant_text(part.begin_ms)}: median {span_text(part.median_ms)}, worst {span_text(part.worst_ms)}"
        said += f", of {part.count:,}"
        for lag, style in ((part.worst_ms, "f-soft"), (part.median_ms, "f-good")):
            height = max(1.5, (_LAG - 6) * lag / worst)
            parts.append(bar(first, first + 0.82 / BUCKETS, _LAG - height, height, style, said))
    track = picture(
        _LAG,
        f"Ledger lag: median {span_text(facts.median_ms or 0)}, worst {span_text(worst)}.",
        *parts,
        el("line", x1=0, x2="100%", y1=_LAG, y2=_LAG, class_="base"),
        grid=report.span,
    )
    label = [
        el("b", "Recorded later"),
        el("span", f"median {span_text(facts.median_ms or 0)}", class_="sub"),
        el("span", f"worst {span_text(worst)}", class_="sub"),
    ]
    return section(
        "ledger",
        "Ledger lag",
        stand,
        el(
            "p",
            "How long after an attempt had ended at its worker its end was in the ledger.",
            class_="quiet small",
        ),
        legend([(swatch("f-good"), "median"), (swatch("f-soft"), "worst")]),
        joined(lane(label, track), axis(report.span)),
        table(
            "Ledger lag by part of the time",
            ["from (UTC)", "ends of attempts", "median", "worst"],
            [
                [instant_text(one.begin_ms), f"{one.count:,}", span_text(one.median_ms), span_text(one.worst_ms)]
                for one in facts.parts
            ],
        ),
    )
