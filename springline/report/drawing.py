"""Pieces of pictures: lanes along the report's time, marks, axes, legends, tables.

A lane is an SVG as wide as its column whose places are shares of that width, so that nothing is ever stretched; all
words stand beside it, in HTML, and wrap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from springline.report.facts import TimeSpan
from springline.report.markup import Child, Markup, el, joined

LEAST_PERCENT: Final = 0.25
"""The least width of a bar: shorter ones would not be seen."""
_STEPS_S: Final = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200),
    *(86_400, 2 * 86_400, 7 * 86_400, 14 * 86_400, 28 * 86_400, 91 * 86_400, 182 * 86_400, 364 * 86_400),
)
_MOST_STEPS: Final = 9

SYMBOLS: Final = Markup(
    '<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>'
    '<g id="m-dot"><circle r="4"/></g>'
    '<g id="m-ring"><circle r="3.5" fill="none" stroke-width="1.6"/></g>'
    '<g id="m-late"><path d="M0-5.5 5.5 4.5-5.5 4.5Z"/></g>'
    '<g id="m-cross"><path d="M-4.5-4.5 4.5 4.5M4.5-4.5-4.5 4.5" fill="none" stroke-width="2.4"/></g>'
    '<g id="m-diamond"><path d="M0-5 5 0 0 5-5 0Z" fill="none" stroke-width="1.6"/></g>'
    '<pattern id="p-bad" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" class="f-bad"/><rect width="2" height="6" class="f-card" opacity=".45"/></pattern>'
    '<pattern id="p-never" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect width="6" height="6" class="f-card"/><rect width="2" height="6" class="f-warn"/></pattern>'
    '<pattern id="p-wait" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">'
    '<rect width="6" height="6" class="f-card"/><rect width="2.4" height="6" class="f-off"/></pattern>'
    "</defs></svg>"
)


def instant_text(ms: int | None) -> str:
    """Return an instant for people, in UTC with its date, to the second; what is none as a dash."""
    if ms is None:
        return "-"
    return f"{_at(ms):%Y-%m-%d %H:%M:%S}"


def ticks_of(span: TimeSpan) -> list[tuple[float, str, int]]:
    """Return where an axis is labelled: shares of its length, the labels, and their instants.

    The first label of a day has the date, so that no label stands without one.
    """
    seconds = span.length_ms / 1_000
    step = next((one for one in _STEPS_S if seconds / one <= _MOST_STEPS), _STEPS_S[-1])
    first = -(-span.since_ms // (step * 1_000))
    found: list[tuple[float, str, int]] = []
    day = None
    for number in range(first, span.until_ms // (step * 1_000) + 1):
        ms = number * step * 1_000
        share = span.share(ms)
        if not span.since_ms <= ms <= span.until_ms:
            continue
        at = _at(ms)
        if step >= 86_400:
            label = f"{at:%d %b %Y}" if day is None or day.year != at.year else f"{at:%d %b}"
        else:
            time = f"{at:%H:%M:%S}" if step < 60 else f"{at:%H:%M}"
            label = time if day is not None and day.date() == at.date() else f"{at:%d %b} {time}"
        day = at
        found.append((share, label, ms))
    return found


def axis(span: TimeSpan) -> Markup:
    """Return the labels of the time below a chart."""
    marks = [
        el("span", label, class_=_place(number, share), style=f"left:{share * 100:.2f}%")
        for number, (share, label, _) in enumerate(ticks_of(span))
    ]
    return el(
        "div",
        el("div", el("span", "Time, UTC", class_="sub"), class_="label"),
        el("div", marks, class_="axis"),
        class_="lane axislane",
        aria_hidden="true",
    )


def _place(number: int, share: float) -> str | None:
    """Return the classes of a label: every second one goes in a narrow window, and none sticks out at an end."""
    found = ["odd"] if number % 2 else []
    found += ["begin"] if share < 0.05 else ["end"] if share > 0.95 else []
    return " ".join(found) or None


def lane(label: Sequence[Child], track: Markup, *, anchor: str | None = None) -> Markup:
    """Return a row of a chart: a name with what is said of it, and its picture."""
    return el("div", el("div", *label, class_="label"), el("div", track, class_="track"), class_="lane", id=anchor)


def picture(height: int, said: str, *content: Child, grid: TimeSpan | None = None) -> Markup:
    """Return an SVG as wide as its column; `said` describes it to those who do not see it.

    `grid`: the time whose labels it has lines for.
    """
    lines = [] if grid is None else [_line(share, height) for share, _, _ in ticks_of(grid)]
    return el("svg", el("title", said), lines, *content, height=height, role="img", focusable="false")


def bar(first: float, last: float, y: float, height: float, style: str, said: str) -> Markup:
    """Return a bar between two shares of the width."""
    width = max(LEAST_PERCENT, (last - first) * 100)
    begin = min(first * 100, 100 - LEAST_PERCENT)
    fill = f"url(#{style[1:]})" if style.startswith("#") else None
    return el(
        "rect",
        el("title", said),
        x=f"{begin:.2f}%",
        y=y,
        width=f"{width:.2f}%",
        height=height,
        rx=min(2, height / 4),
        class_=None if fill else style,
        fill=fill,
    )


def mark(share: float, y: float, symbol: str, style: str, said: str) -> Markup:
    """Return a mark at a share of the width. `symbol`: one of dot, ring, late, cross, diamond."""
    return el("g", el("title", said), el("use", href=f"#m-{symbol}", x=f"{share * 100:.2f}%", y=y), class_=style)


def legend(entries: Iterable[tuple[Markup, str]]) -> Markup:
    """Return what marks and colours mean: for each a small picture and words."""
    items = [el("li", el("svg", sign, aria_hidden="true"), el("span", said)) for sign, said in entries]
    return el("ul", items, class_="legend")


def swatch(style: str) -> Markup:
    """Return a small picture of a bar's colour or hatching."""
    fill = f"url(#{style[1:]})" if style.startswith("#") else None
    return el("rect", x=0, y=2, width=16, height=10, rx=2, class_=None if fill else style, fill=fill)


def sign(symbol: str, style: str) -> Markup:
    """Return a small picture of a mark."""
    return el("use", href=f"#m-{symbol}", x=8, y=7, class_=style)


def table(
    caption: str, names: Sequence[str], rows: Sequence[Sequence[Child]], left_out: int = 0, *, folded: bool = True
) -> Markup:
    """Return the same as a picture in rows, by default folded; the last column may be long."""
    head = el("tr", [el("th", name, scope="col") for name in names])
    body = [
        el("tr", [el("td", one, class_="long" if place == len(names) - 1 else None) for place, one in enumerate(row)])
        for row in rows
    ]
    more = f"; {left_out:,} more are not shown" if left_out else ""
    shown = el(
        "div",
        el("table", el("caption", f"{caption}{more}"), el("thead", head), el("tbody", body)),
        class_="scroll small",
        tabindex=0,
        role="region",
        aria_label=caption,
    )
    return el("details", el("summary", "As a table"), shown, class_="data") if folded else shown


def section(anchor: str, title: str, said: Child, *content: Child) -> Markup:
    """Return a part of the page."""
    head = el("div", el("h2", title), class_="head")
    return el("section", head, el("p", said, class_="quiet small"), *content, id=anchor)


def left_out_text(count: int, what: str) -> Markup | None:
    """Return a line that says how many things there was no room for; None if there was for all."""
    return el("p", f"{count:,} more {what} are not drawn.", class_="quiet small") if count > 0 else None


def spread(parts: Iterable[Child]) -> Markup:
    """Return children as one piece of markup."""
    return joined(*parts)


def _line(share: float, height: int) -> Markup:
    x = f"{share * 100:.2f}%"
    return el("line", x1=x, x2=x, y1=0, y2=height, class_="g")


def _at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


def stacked(
    counts: Iterable[tuple[str, int, str]], total: int, height: float, scale: float
) -> Iterator[tuple[str, float, float, str]]:
    """Yield parts of a bar from its foot up: style, top, height, what it says; `scale` is the height of one."""
    foot = height
    for style, count, said in counts:
        if count:
            size = max(1.5, count * scale)
            foot -= size
            yield style, max(0.0, foot), size, said
