"""The page: it stands alone, shows what anybody named as text, and stays small."""

from __future__ import annotations

import itertools
import re
import time
from html.parser import HTMLParser

import pytest

from springline.report.drawing import ticks_of
from springline.report.facts import TimeSpan
from springline.report.gathering import gather
from springline.report.markup import Markup, el, text
from springline.report.page import page_of
from tests.support.definitions import asset
from tests.support.report_workspace import (
    DAY,
    DEFINITIONS,
    HOUR,
    MANIFEST,
    NOW_MS,
    QUIET_DEFINITIONS,
    Told,
    busy_day,
    manifest_of,
    many_runs,
    quiet_day,
    report_of,
)

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'`${7*7}</title></style>"
VOID = {"meta", "link", "br"}
MOST_BYTES = 2_000_000


class Seen(HTMLParser):
    """What a browser makes of a page: elements, their attributes, and whether each that opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said.append(data)

    @property
    def text(self) -> str:
        return "".join(self.said)


@pytest.fixture(scope="module")
def busy() -> str:
    return page_of(report_of(busy_day(), DEFINITIONS))


def test_the_page_needs_nothing_else(busy: str) -> None:
    seen = Seen(busy)
    assert seen.open == []
    tags = {tag for tag, _ in seen.elements}
    assert not tags & {"script", "iframe", "img", "object", "embed", "base", "form", "video", "audio"}
    for tag, attributes in seen.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "src", "action", "data", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, value)
    assert not re.search(r"@import|url\((?!#)", busy)
    policy = next(one for tag, one in seen.elements if tag == "meta" and one.get("http-equiv"))
    assert (policy["content"] or "").startswith("default-src 'none'")


def test_every_link_leads_somewhere(busy: str) -> None:
    seen = Seen(busy)
    anchors = [one["id"] for _, one in seen.elements if one.get("id")]
    assert len(anchors) == len(set(anchors))
    links = {one["href"] for tag, one in seen.elements if tag in ("a", "use") and one.get("href")}
    assert {(link or "")[1:] for link in links} <= set(anchors)
    assert len([link for link in links if (link or "").startswith(("#run-", "#schedule-", "#sensor-"))]) > 5


def test_pictures_are_described_and_tables_tell_the_same(busy: str) -> None:
    seen = Seen(busy)
    pictures = [one for tag, one in seen.elements if tag == "svg" and one.get("role") == "img"]
    assert len(pictures) > 30
    assert busy.count("<title>") >= len(pictures)
    assert sum(tag == "caption" for tag, _ in seen.elements) >= 8
    assert all(one.get("scope") == "col" for tag, one in seen.elements if tag == "th")
    (html,) = [one for tag, one in seen.elements if tag == "html"]
    assert html["lang"] == "en"


def test_light_and_dark_and_no_movement(busy: str) -> None:
    assert "prefers-color-scheme: dark" in busy
    assert "prefers-reduced-motion" in busy


def evil_day() -> Told:
    """Tell a day in which everything that anybody can name is an attack."""
    told = Told()
    told.schedule(EVIL, "0 * * * *", since_ms=NOW_MS - DAY)
    told.tick(EVIL, NOW_MS - HOUR, {"status": "skipped", "reason": EVIL})
    told.tick(EVIL, NOW_MS - 2 * HOUR, {"status": "failed", "error": EVIL})
    tasks = [(f"{EVIL}[{number}]", EVIL, EVIL) for number in range(3)]
    run = told.begun(NOW_MS - 3 * HOUR, f"{EVIL}:1", tasks)
    told.ended(NOW_MS - 3 * HOUR, NOW_MS - 3 * HOUR + 900, run, tasks[0], error=EVIL, writes=(EVIL, 3, 1))
    told.ended(NOW_MS - 3 * HOUR, NOW_MS - 3 * HOUR + 900, run, tasks[1], error=EVIL, again=True)
    told.started(NOW_MS - 3 * HOUR, run, tasks[2][0])
    told.asked(NOW_MS - HOUR, f"{EVIL}:2", [EVIL])
    told.evaluated(NOW_MS - HOUR, EVIL, {"status": "error", "message": EVIL})
    told.at(NOW_MS - HOUR, {"type": "springline_sensor_message", "sensor_id": EVIL, "message_id": EVIL})
    told.backfill(NOW_MS - HOUR, EVIL, 10, 5, [EVIL])
    told.chunk(NOW_MS - HOUR, EVIL, 0, 5)
    hold = {"type": "springline_hold_changed", "change_id": "h", "held": True, "changed_by": EVIL, "reason": EVIL}
    told.at(NOW_MS - HOUR, hold)
    return told


def test_what_anybody_named_is_text() -> None:
    keys = [asset("raw", partitions={"kind": "static", "keys": [EVIL]}, description=EVIL, code_version=EVIL)]
    told = evil_day()
    task = (f"raw[{EVIL}]", "raw", EVIL)
    run = told.begun(NOW_MS - HOUR, "cli:1", [task])
    told.ended(NOW_MS - HOUR, NOW_MS - HOUR + 5, run, task, error=EVIL, version="1")
    page = page_of(report_of(told, manifest_of(*keys)))
    seen = Seen(page)
    assert seen.open == []
    assert {tag for tag, _ in seen.elements}.isdisjoint({"script", "img"})
    assert not any(name.startswith("on") for _, attributes in seen.elements for name in attributes)
    assert "<script" not in page
    assert "alert(1)" in seen.text
    # Where names are shown: runs, failures, schedules, sensors, backfills, partitions, tables, what is wrong.
    assert seen.text.count(EVIL) > 25


def test_characters_that_no_page_holds_or_that_mislead() -> None:
    assert text("a\x00b\x1b[31m\u202ec\ud800") == "a\ufffdb\ufffd[31m\ufffdc\ufffd"
    assert text("line\nnext\ttab") == "line\nnext\ttab"
    assert len(text("x" * 5_000)) == 2_001
    assert el("a", "<b>", Markup("<i></i>"), None, [["&"]], href='"', hidden=True, id=None) == (
        '<a href="&quot;" hidden>&lt;b&gt;<i></i>&amp;</a>'
    )
    page_of(report_of(Told())).encode()


def test_empty_and_quiet_workspaces_say_so() -> None:
    assert "Nothing: 0 runs in this time" in page_of(report_of(Told()))
    quiet = Seen(page_of(report_of(quiet_day(), QUIET_DEFINITIONS))).text
    assert "Nothing: 24 runs in this time, and nothing fails, waits or is late." in quiet
    assert "There is no sensor." in quiet


def test_a_schedule_due_in_another_year_and_one_that_is_gone_are_told_as_such() -> None:
    told = Told()
    told.schedule("leap", "0 0 29 2 *", since_ms=NOW_MS - 5 * HOUR)
    told.tick("left", NOW_MS - HOUR, {"status": "skipped", "reason": "the schedule was off"})
    seen = Seen(page_of(report_of(told))).text
    assert "next 2028-02-29" in seen
    assert "no longer defined" in seen
    assert "paused" not in seen


@pytest.mark.parametrize("hours", [1, 2, 6, 24, 24 * 7, 24 * 31, 24 * 366])
def test_labels_of_the_time_do_not_overlap_and_have_a_date(hours: int) -> None:
    marks = ticks_of(TimeSpan(NOW_MS - hours * HOUR, NOW_MS))
    assert 3 <= len(marks) <= 10
    shares = [share for share, _, _ in marks]
    assert all(after - before > 0.09 for before, after in itertools.pairwise(shares))
    assert re.match(r"\d\d [A-Z][a-z]{2}", marks[0][1])
    assert all(0 <= share <= 1 for share in shares)


def test_many_runs_make_no_large_page_and_take_little_time() -> None:
    told = many_runs(2_000)
    head, snapshot = told.snapshot()
    assert head.events > 20_000
    began = time.process_time()
    page = page_of(gather(told.scope, head, snapshot, None, TimeSpan(NOW_MS - DAY, NOW_MS), NOW_MS))
    # Many times what it takes: a busy machine is no failure, a report that reads every row of every run is one.
    assert time.process_time() - began < 8.0
    assert len(page.encode()) < MOST_BYTES
    assert f"{MANIFEST}" not in page
    assert "2,000 runs were under way" in Seen(page).text
