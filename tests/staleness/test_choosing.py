"""What of a selection a backfill makes so that nothing of it is stale: keys, assets, what cannot be one backfill."""

from __future__ import annotations

from typing import Any

import pytest

from springline.definitions.backfills import BadChoice, PartitionsAsked, Span
from springline.definitions.manifest import DeployedManifest
from springline.staleness.choosing import MOST_JUDGED, StaleChoice, chosen_stale
from springline.staleness.reading import AssetStands
from tests.staleness.test_reading import DAY_MS, DAYS, HOURS, NOW_MS, START_MS, day, manifest, partition_row, snapshot
from tests.support.definitions import asset

COMPLETE = 40
"""Days of 2024 that have ended at `NOW_MS`; one more has begun."""
ZONES = {"kind": "static", "keys": ["us", "eu", "asia"]}


def keys() -> list[str]:
    cut = manifest(asset("raw", partitions=DAYS)).assets[0].partitions
    assert cut is not None
    return [cut.key_at(place) for place in range(COMPLETE)]


def made(key: str, *without: str, at_ms: int = START_MS + 50 * DAY_MS, version: str | None = None) -> list[Any]:
    """Return rows of all complete days of an asset, but some."""
    return [partition_row(key, one, at_ms, version) for one in keys() if one not in without]


def chosen(
    rows: list[Any], known: DeployedManifest, *terms: str, asked: PartitionsAsked | None = None, reasons: Any = ()
) -> StaleChoice:
    stands = AssetStands(snapshot(partition_status=rows), known, NOW_MS)
    return chosen_stale(stands, known, terms, asked or PartitionsAsked(), reasons)


def listed(found: StaleChoice) -> list[str]:
    return found.keys.keys(range(len(found.keys))) if isinstance(found.keys, Span) else found.keys


def test_one_stretch_is_a_span_and_several_are_a_list() -> None:
    known = manifest(asset("raw", partitions=DAYS))
    found = chosen(made("raw", day(3), day(4)), known, "raw")
    assert (type(found.keys), listed(found)) == (Span, [day(3), day(4)])
    assert chosen(made("raw", day(3), day(7)), known, "raw").keys == [day(3), day(7)]
    whole = chosen([], known, "raw")
    assert (type(whole.keys), whole.stale) == (Span, COMPLETE)
    (count,) = whole.counts
    assert (count.asset, count.stale, count.states) == ("raw", COMPLETE, {"NEVER_MATERIALIZED": COMPLETE})


def test_nothing_stale_is_nothing() -> None:
    assert chosen(made("raw"), manifest(asset("raw", partitions=DAYS)), "raw") == StaleChoice()
    future = manifest(asset("raw", partitions={"kind": "daily", "start": "2025-01-01"}))
    assert chosen([], future, "*") == StaleChoice()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (PartitionsAsked(everything=True), [day(3), day(7)]),
        (PartitionsAsked(start=day(4)), [day(7)]),
        (PartitionsAsked(end=day(3)), [day(3)]),
        (PartitionsAsked(match="2024-01-0[1-4]"), [day(3)]),
        (PartitionsAsked(keys=(day(7), day(1), "2030-01-01")), [day(7)]),
        (PartitionsAsked(start="2030-01-01", end="2030-01-05"), []),
    ],
)
def test_partitions_that_are_said_are_the_most(asked: PartitionsAsked, expected: list[str]) -> None:
    found = chosen(made("raw", day(3), day(7)), manifest(asset("raw", partitions=DAYS)), "raw", asked=asked)
    assert listed(found) == expected


def test_static_partitions_keep_the_order_of_their_definition() -> None:
    known = manifest(asset("raw", partitions=ZONES))
    assert listed(chosen([partition_row("raw", "eu", 5)], known, "raw")) == ["us", "asia"]
    asked = PartitionsAsked(keys=("asia", "eu"))
    assert listed(chosen([], known, "raw", asked=asked)) == ["eu", "asia"]


def test_of_several_assets_the_keys_are_of_any_and_the_assets_those_that_have_to_be_made() -> None:
    known = manifest(
        asset("raw", partitions=DAYS),
        asset("clean", "raw", partitions=DAYS),
        asset("daily", "clean", partitions=DAYS),
        asset("other", partitions=DAYS),
    )
    rows = [*made("raw", day(2)), *made("clean", day(9)), *made("daily"), *made("other")]
    found = chosen(rows, known, "*")
    # `daily` needs what is made of `clean`; `other` has nothing to do with it.
    assert (found.assets, listed(found)) == (("clean", "daily", "raw"), [day(2), day(9)])
    assert [(one.asset, one.states) for one in found.counts] == [
        ("raw", {"NEVER_MATERIALIZED": 1}),
        ("clean", {"NEVER_MATERIALIZED": 1, "UPSTREAM_NEVER_MATERIALIZED": 1}),
        ("daily", {"UPSTREAM_NEVER_MATERIALIZED": 1}),
    ]
    alone = chosen([*made("raw"), *made("clean", day(9)), *made("daily")], known, "*clean")
    assert (alone.assets, listed(alone)) == (("clean",), [day(9)])


def test_an_asset_that_is_current_comes_along_with_what_it_depends_on() -> None:
    code = {"code_version": "2", "partitions": DAYS}
    known = manifest(asset("raw", **code), asset("clean", "raw", partitions=DAYS))
    rows = [*made("raw", version="2"), *made("clean")]
    rows[5] = partition_row("raw", day(5), START_MS, "1")
    found = chosen(rows, known, "raw*")
    assert (found.assets, listed(found), found.stale) == (("clean", "raw"), [day(5)], 1)


def test_an_input_comes_along_and_so_does_what_depends_on_it() -> None:
    clean = asset("clean", partitions=DAYS) | {"dependencies": [{"asset": "raw", "argument": "raw"}]}
    known = manifest(asset("raw", partitions=DAYS), clean, asset("side", "raw", partitions=DAYS))
    rows = [*made("raw"), *made("clean", day(5)), *made("side")]
    assert chosen(rows, known, "clean").assets == ("clean", "raw")
    assert chosen(rows, known, "clean,side").assets == ("clean", "raw", "side")


def test_only_some_reasons_count() -> None:
    known = manifest(asset("raw", partitions=DAYS, code_version="2"))
    rows = made("raw", day(3), version="2")
    rows[5] = partition_row("raw", day(6), START_MS, "1")
    assert listed(chosen(rows, known, "raw", reasons=["CODE_CHANGED"])) == [day(6)]
    assert listed(chosen(rows, known, "raw")) == [day(3), day(6)]
    assert chosen(rows, known, "raw", reasons=["FRESHNESS_POLICY"]) == StaleChoice()


def test_what_is_current_may_be_cut_in_another_way() -> None:
    known = manifest(
        asset("raw", partitions=DAYS), asset("zones", partitions=ZONES), asset("hours", partitions=HOURS), asset("one")
    )
    rows = [*made("raw", day(3)), *(partition_row("zones", one, 5) for one in ("us", "eu", "asia"))]
    assert chosen(rows, known, "raw,zones").assets == ("raw",)
    with pytest.raises(BadChoice, match="keys are those of one of them"):
        chosen(rows, known, "raw,zones", asked=PartitionsAsked(start=day(1)))


@pytest.mark.parametrize(
    ("terms", "says", "remedy"),
    [
        ("one", "one (1) is stale, and without partitions", "by `springline run start one --stale`"),
        (
            "*",
            "hours (961), days (40), one (1) are stale, and a backfill makes assets with the same partitions",
            "first: `springline backfill create hours --stale`, then `springline backfill create days --stale`, "
            "then `springline run start one --stale`.",
        ),
        ("rax", "names no asset", "Its assets are"),
    ],
)
def test_what_cannot_be_one_backfill_says_what_can(terms: str, says: str, remedy: str) -> None:
    known = manifest(asset("one", "days"), asset("days", "hours", partitions=DAYS), asset("hours", partitions=HOURS))
    with pytest.raises(BadChoice) as caught:
        chosen([], known, terms)
    assert caught.value.field == "select"
    assert says in caught.value.message
    assert remedy in caught.value.remedy or terms == "rax"


def test_more_than_can_be_judged_is_refused_before_anything_is() -> None:
    known = manifest(asset("hours", partitions={"kind": "hourly", "start": "1001-01-01T00"}))
    with pytest.raises(BadChoice, match=f"{MOST_JUDGED} is the most of one request") as caught:
        chosen([], known, "hours")
    assert caught.value.field == "start"
    with pytest.raises(BadChoice, match="is the most of one backfill"):
        chosen([], known, "hours", asked=PartitionsAsked(start="1001-01-01T00", end="9000-01-01T00"))
    assert chosen([], known, "hours", asked=PartitionsAsked(start="2024-02-09T00")).stale == 25
