"""Putting a code location into a workspace: what changes, what stays, and what stands in the way."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from springline.definitions.composing import (
    AssetChange,
    Changes,
    CurrentManifest,
    changes_between,
    compose,
    named_manifest,
)
from springline.definitions.manifest import CodeLocation, DeployedManifest, as_stored, fingerprint_of, read_model
from springline.definitions.nodes import AssetDefinition
from springline.errors import Code, Refused
from springline.ledger.json_text import canonical_json
from tests.support.definitions import asset, part

IDS = [f"01JHMP8000000000000000000{one}" for one in "ABCDEFGH"]


def after(current: CurrentManifest | None, *parts: CodeLocation) -> CurrentManifest:
    """Return the manifest after these deploys, as it is read back."""
    for number, one in enumerate(parts):
        composition = compose(current, one)
        plain = orjson.loads(canonical_json(named_manifest(composition, one, IDS[number], number)))
        current = CurrentManifest(read_model(DeployedManifest, orjson.dumps(plain)), plain)
    assert current is not None
    return current


def keys(current: CurrentManifest) -> dict[str, str]:
    return {one.key: one.location for one in current.manifest.assets}


FLIGHTS = part("flights", asset("raw_flights"), asset("delays", "raw_flights"))
MART = part("mart", asset("report", "delays"))


def refusal(current: CurrentManifest | None, wanted: CodeLocation) -> Any:
    with pytest.raises(Refused) as raised:
        compose(current, wanted)
    assert raised.value.refusal.remedy
    return raised.value.refusal


def test_a_part_is_replaced_and_others_stay() -> None:
    current = after(None, FLIGHTS, MART)
    assert keys(current) == {"delays": "flights", "raw_flights": "flights", "report": "mart"}
    wanted = part("flights", asset("raw_flights", retries=2), asset("delays", "raw_flights"), asset("airports"))
    composition = compose(current, wanted)
    assert composition.changes == Changes(
        ["airports"], [AssetChange("raw_flights", {"retries": {"from": 0, "to": 2}})], []
    )
    assert composition.assets == 4
    later = after(current, wanted)
    assert keys(later)["report"] == "mart"
    assert later.manifest.previous_manifest_id == current.manifest.manifest_id
    assert {one.location: one.manifest_id for one in later.manifest.locations} == {"flights": IDS[0], "mart": IDS[1]}


def test_the_same_again_changes_nothing_whatever_the_order() -> None:
    current = after(None, part("a", asset("x"), asset("y"), asset("z", "x", "y", tags={"b": "1", "a": "2"})))
    wanted = part("a", asset("z", "y", "x", tags={"a": "2", "b": "1"}), asset("y"), asset("x"))
    composition = compose(current, wanted)
    assert not composition.changes
    assert composition.fingerprint == current.manifest.fingerprint


def test_a_code_location_without_assets_is_removed() -> None:
    current = after(None, FLIGHTS, MART, part("mart"))
    assert keys(current) == {"delays": "flights", "raw_flights": "flights"}
    assert [one.location for one in current.manifest.locations] == ["flights"]
    assert current.manifest.fingerprint == after(None, FLIGHTS).manifest.fingerprint


def test_what_a_newer_build_has_written_of_others_is_kept() -> None:
    current = after(None, FLIGHTS)
    plain = orjson.loads(orjson.dumps(current.plain))
    plain["assets"][0]["sla"] = {"minutes": 5}
    plain["schedules"] = [{"id": "nightly", "location": "flights"}, {"id": "hourly", "location": "mart"}]
    plain["holidays"] = ["2025-12-24"]
    newer = CurrentManifest(read_model(DeployedManifest, orjson.dumps(plain)), plain)
    later = after(newer, MART).plain
    assert later["assets"][0]["sla"] == {"minutes": 5}
    # The part that is deployed is replaced as a whole.
    assert later["schedules"] == [{"id": "nightly", "location": "flights"}]
    assert later["holidays"] == ["2025-12-24"]
    again = after(newer, FLIGHTS).plain
    assert "sla" not in again["assets"][0]


@pytest.mark.parametrize(
    ("wanted", "code", "field", "said", "remedy"),
    [
        (part("b", asset("delays")), "DEFINITION_CONFLICT", "assets[0].key", "code location flights", "--location"),
        (part("flights", asset("delays")), "INVALID_REQUEST", None, "", ""),
        (part("b", asset("x"), asset("x")), "INVALID_REQUEST", "assets[1].key", "assets 0 and 1", "its own"),
        (part("b", asset("x", "rawfligt")), "INVALID_REQUEST", "assets[0].dependencies", "rawfligt", "raw_flights"),
        (part("b", asset("x", "x")), "INVALID_REQUEST", "assets[0].dependencies", "depends on itself", "Remove"),
        (part("b", asset("x", "y"), asset("y", "x")), "INVALID_REQUEST", "assets[0].dependencies", "x -> y -> x", ""),
        (part("b", asset("x", "delays", "delays")), "INVALID_REQUEST", "assets[0].dependencies", "twice", "once"),
        (part("flights", asset("raw_flights")), "DEFINITION_CONFLICT", "assets", "report of code location mart", ""),
        (part("flights"), "DEFINITION_CONFLICT", "assets", "depends on 'delays'", "first deploy mart"),
        (
            part("flights", asset("raw_flights", "report"), asset("delays", "raw_flights")),
            "INVALID_REQUEST",
            "assets[1].dependencies",
            "delays -> raw_flights -> report -> delays",
            "",
        ),
        (
            part("b", asset("x", "y", "z")),
            "INVALID_REQUEST",
            "assets[0].dependencies",
            "1 more problem",
            "",
        ),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_named(
    wanted: CodeLocation, code: str, field: str | None, said: str, remedy: str
) -> None:
    current = after(None, FLIGHTS, MART)
    if field is None:
        # Nothing does: the part's own other asset goes, and what is left is whole.
        assert compose(after(None, FLIGHTS), wanted).changes.removed == ["raw_flights"]
        return
    found = refusal(current, wanted)
    assert (found.code, found.field) == (Code(code), field)
    assert said in found.message
    assert remedy in found.remedy


def test_partitions_that_do_not_fit_across_code_locations() -> None:
    daily = {"kind": "daily", "start": "2024-01-01"}
    static = {"kind": "static", "keys": ["eu"]}
    current = after(None, part("a", asset("x", partitions=daily)), part("b", asset("y", "x", partitions=daily)))
    found = refusal(current, part("a", asset("x", partitions=static)))
    assert found.code is Code.DEFINITION_CONFLICT
    assert "asset y of code location b" in found.message
    found = refusal(current, part("c", asset("z", "y", partitions=static)))
    assert found.code is Code.INVALID_REQUEST
    assert "cannot depend on y" in found.message


def test_what_was_wrong_elsewhere_before_stands_in_nobodys_way() -> None:
    current = after(None, FLIGHTS, MART)
    plain = orjson.loads(orjson.dumps(current.plain))
    plain["assets"] = [one for one in plain["assets"] if one["key"] != "delays"]
    broken = CurrentManifest(read_model(DeployedManifest, orjson.dumps(plain)), plain)
    assert compose(broken, part("other", asset("x"))).changes.added == ["x"]
    assert "depends on 'delays'" in refusal(broken, part("mart", asset("report", "delays", retries=1))).message


def test_a_workspace_has_a_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("springline.definitions.composing.MAX_WORKSPACE_ASSETS", 2)
    current = after(None, FLIGHTS)
    assert refusal(current, part("b", asset("x"))).field == "assets"
    assert compose(current, part("flights", asset("x"), asset("y"))).assets == 2


TAKES = {"model": "Settings", "fields": [{"name": "rows", "type": "int", "default": "null"}]}


def test_what_a_config_takes_leaves_the_format_and_every_other_definition_as_they_are() -> None:
    without = after(None, FLIGHTS)
    plain = [{"dependencies": [], "key": "x", "location": "x", "owners": [], "priority": 0, "retries": 0, "tags": {}}]
    assert after(None, part("x", asset("x"))).plain["assets"] == plain
    current = after(None, part("flights", asset("raw_flights", config=TAKES), asset("delays", "raw_flights")))
    assert current.plain["format"] == without.plain["format"] == 1
    assert current.plain["assets"][0] == without.plain["assets"][0]
    found = current.manifest.nodes["raw_flights"].config
    assert found is not None
    assert (found.fields[0].default, found.fields[0].required, found.judged) == ("null", False, True)
    changed = compose(without, part("flights", asset("raw_flights", config=TAKES), asset("delays", "raw_flights")))
    assert [list(one.fields) for one in changed.changes.changed] == [["config"]]
    # A build that does not know it passes over it, and leaves it where it is for others.
    assert after(current, MART).plain["assets"][1] == current.plain["assets"][1]


VALUES: dict[str, Any] = {
    "retries": st.integers(0, 100),
    "retry_delay_ms": st.none() | st.integers(1, 10_000_000),
    "timeout_ms": st.none() | st.integers(10_000, 10_000_000),
    "heartbeat_ms": st.none() | st.integers(1_000, 10_000),
    "memory_bytes": st.none() | st.sampled_from([2**26, 2**44]),
    "queue": st.none() | st.sampled_from(["gpu", "default"]),
    "priority": st.integers(-5, 5),
    "code_version": st.none() | st.sampled_from(["1", "2"]),
    "description": st.none() | st.sampled_from(["", "what", "two\n\nlines"]),
    "tags": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
    "owners": st.lists(st.sampled_from("ab"), max_size=2),
    "config": st.sampled_from([None, TAKES, TAKES | {"forbids_others": True}]),
    "partitions": st.sampled_from([None, {"kind": "monthly", "start": "2024-01"}, {"kind": "static", "keys": ["a"]}]),
}  # fmt: skip
ASSETS = st.dictionaries(st.sampled_from("abcdef"), st.fixed_dictionaries(VALUES), max_size=6).map(
    lambda made: [{"key": key, **one} for key, one in made.items()]
)


@given(ASSETS, ASSETS)
def test_changes_are_the_differences(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
    before = [as_stored(AssetDefinition.model_validate(one), "x") for one in old]
    then = [as_stored(AssetDefinition.model_validate(one), "x") for one in new]
    changes = changes_between(before, then)
    state = {one["key"]: one for one in before}
    for key in changes.removed:
        del state[key]
    by_key = {one["key"]: one for one in then}
    for key in changes.added:
        assert key not in state
        state[key] = by_key[key]
    for one in changes.changed:
        assert one.fields
        for name, field in one.fields.items():
            assert state[one.key].get(name) == field["from"] != field["to"]
            state[one.key] = {**state[one.key], name: field["to"]}
            if field["to"] is None:
                del state[one.key][name]
    assert state == by_key
    assert bool(changes) == ({one["key"]: one for one in before} != by_key)
    ordered = {"assets": sorted(then, key=lambda one: str(one["key"]))}
    assert (fingerprint_of({"assets": sorted(before, key=lambda one: str(one["key"]))}) == fingerprint_of(ordered)) == (
        not changes
    )


@pytest.mark.parametrize(
    "odd",
    [
        {"key": "a:b"},
        {"key": ""},
        {"key": "a" * 101},
        {},
        {"key": "a", "retries": -1},
        {"key": "a", "retries": 101},
        {"key": "a", "retries": "3"},
        {"key": "a", "retries": True},
        {"key": "a", "retries": 1.0},
        {"key": "a", "timeout_ms": 0},
        {"key": "a", "retry_delay_ms": 0},
        {"key": "a", "retry_delay_ms": "30s"},
        {"key": "a", "timeout_ms": 5_000, "heartbeat_ms": 6_000},
        {"key": "a", "heartbeat_ms": 999},
        {"key": "a", "memory_bytes": 2**26 - 1},
        {"key": "a", "memory_bytes": 2**44 + 1},
        {"key": "a", "memory_bytes": "512MiB"},
        {"key": "a", "memory_bytes": 2**26, "url": "https://workers.example.com/tasks"},
        {"key": "a", "queue": "a b"},
        {"key": "a", "pool": "../x"},
        {"key": "a", "priority": 1_001},
        {"key": "a", "code_version": ""},
        {"key": "a", "code_version": "a\nb"},
        {"key": "a", "tags": {"": "x"}},
        {"key": "a", "tags": {"x": "\x1b"}},
        {"key": "a", "owners": "ada"},
        {"key": "a", "partitions": {"kind": "yearly", "start": "2024"}},
        {"key": "a", "partitions": {"kind": "daily"}},
        {"key": "a", "partitions": {"kind": "daily", "start": "2024-01-01", "step": 2}},
        {"key": "a", "dependencies": [{"asset": "b", "mapping": {"kind": "window", "start_offset": 1.5}}]},
        {"key": "a", "dependencies": [{"asset": "b", "mapping": {"kind": "window", "start_offset": 100_001}}]},
        {"key": "a", "dependencies": [{"asset": "b", "argument": ""}]},
        {"key": "a", "dependencies": [{"asset": "b", "partition": "x"}]},
        {"key": "a", "config": {"model": "S"}},
        {"key": "a", "config": {"model": "S", "fields": [{"name": "x"}]}},
        {"key": "a", "config": {"model": "S", "fields": [{"name": "x\n", "type": "int"}]}},
        {"key": "a", "config": {"model": "S", "fields": [{"name": "x", "type": "int", "default": "soon"}]}},
        {"key": "a", "config": {"model": "S", "fields": [{"name": "x", "type": "int", "refuses": ["float"]}]}},
        {"key": "a", "config": {"model": "S", "fields": [{"name": str(n), "type": "int"} for n in range(201)]}},
        {"key": "a", "config": {"model": "S", "fields": [{"name": "x" * 190, "type": "y" * 190}] * 150}},
        {"key": "a", "retires": 3},
        {"key": "a", "location": "b"},
    ],
)
def test_what_is_no_definition_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AssetDefinition.model_validate(odd)


def test_a_limit_of_memory_is_stored_where_there_is_one() -> None:
    plain, limited = asset("a"), asset("a", memory_bytes=2**29)
    before, then = after(None, part("x", plain)), after(None, part("x", limited))
    assert "memory_bytes" not in before.plain["assets"][0]
    assert then.plain["assets"][0] == before.plain["assets"][0] | {"memory_bytes": 2**29}
    assert before.manifest.fingerprint != then.manifest.fingerprint
    # Builds that do not know of it make the same attempts, without a limit.
    assert before.manifest.format == then.manifest.format == 1


def test_unknown_fields_are_passed_over_when_read_and_refused_when_written() -> None:
    stored = {"key": "a", "new": 1, "partitions": {"kind": "daily", "start": "2024-01-01", "newer": []}}
    with pytest.raises(ValidationError):
        AssetDefinition.model_validate(stored)
    read = read_model(AssetDefinition, orjson.dumps(stored))
    assert read.partitions is not None
    assert read.partitions.start == "2024-01-01"
