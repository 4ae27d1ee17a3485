"""Digests: the stated formula, kept up to date by changes, added up from shards, and telling where states differ."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springline.projection.digest import BUCKETS, Digest, TableDigest, bucket_of
from springline.projection.golden import golden_row
from springline.projection.schema import (
    IDEMPOTENCY_KEYS,
    OWN_TABLES,
    REFERENCE_TABLES,
    RUNS,
    TABLES,
    TASKS,
    Key,
    Row,
    Table,
)
from springline.published.bases import DamagedBuckets, encode_buckets, load_digest, read_buckets
from tests.projection.stored_rows import STATES, golden_rows, rows_of, sample_row


class Change(NamedTuple):
    before: Row | None
    after: Row | None


def plain_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def plain_digests(rows: dict[str, list[Row]]) -> dict[str, TableDigest]:
    """The digests of all tables, as the design states them."""
    found = {}
    for name, table in TABLES.items():
        total = 0
        for row in rows.get(name, []):
            text = name.encode() + b"\0" + plain_json(golden_row(table, row))
            total += int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big")
        found[name] = TableDigest(len(rows.get(name, [])), f"{total % 2**128:032x}")
    return found


@pytest.mark.parametrize("state", STATES)
def test_digests_are_what_the_design_states(state: str) -> None:
    rows = golden_rows(state)
    expected = plain_digests(rows)
    digest = Digest.of(rows)
    assert digest.tables() == expected
    document = {name: {"rows": one.rows, "sum": one.sum} for name, one in expected.items()}
    theirs = {name: document[name] for name in REFERENCE_TABLES}
    assert digest.state() == hashlib.blake2b(plain_json(theirs), digest_size=16).hexdigest()
    assert len(theirs) == 17
    own = {name: document[name] for name in OWN_TABLES}
    assert digest.own() == Digest().own() == hashlib.blake2b(plain_json(own), digest_size=16).hexdigest()


def test_the_digest_of_nothing_is_fixed() -> None:
    assert Digest().state() == Digest.of({}).state() == "95401c38646dfe9f8364c922b1abc713"


@pytest.mark.parametrize("key", ["run 1", ("run", 'quo"te'), ("ключ", "a\n"), ""])
def test_the_bucket_is_told_by_the_keys_canonical_json(key: Key) -> None:
    listed = list(key) if isinstance(key, tuple) else [key]
    assert bucket_of(key) == zlib.crc32(plain_json(listed)) % BUCKETS


# Histories of two small tables: each step is a list of changes between states.

Step = dict[str, list[Change]]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Step], dict[str, dict[Key, Row]]]:
    """Steps that put and remove rows, and the rows that are there at the end."""
    tables: list[Table] = [RUNS, IDEMPOTENCY_KEYS]
    pools = {table.name: draw(st.lists(rows_of(table), min_size=1, max_size=8)) for table in tables}
    now: dict[str, dict[Key, Row]] = {table.name: {} for table in tables}
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 4))):
        step: Step = {}
        for table in tables:
            start = dict(now[table.name])
            for row in draw(st.lists(st.sampled_from(pools[table.name]), max_size=6)):
                if draw(st.booleans()):
                    now[table.name][table.key_of(row)] = row
                else:
                    now[table.name].pop(table.key_of(row), None)
            end = now[table.name]
            keys = sorted({key for key in start.keys() | end.keys() if start.get(key) != end.get(key)}, key=str)
            step[table.name] = [Change(start.get(key), end.get(key)) for key in keys]
        steps.append(step)
    return steps, now


@settings(deadline=None)
@given(histories())
def test_changes_keep_a_digest_equal_to_the_one_from_scratch(
    history: tuple[list[Step], dict[str, dict[Key, Row]]],
) -> None:
    steps, rows = history
    digest = Digest()
    for step in steps:
        digest.apply(step)
    expected = Digest.of({name: its_rows.values() for name, its_rows in rows.items()})
    assert digest == expected
    assert digest.state() == expected.state()


@settings(deadline=None)
@given(histories())
def test_buckets_of_base_and_deltas_give_the_digest_back(
    history: tuple[list[Step], dict[str, dict[Key, Row]]],
) -> None:
    steps, _ = history
    digest = Digest()
    documents: list[bytes] = []
    for step in steps:
        digest.apply(step)
        documents.append(encode_buckets(digest, only=digest.buckets_changed() if documents else None))
        digest.accept()
    loaded = load_digest(documents, digest.tables())
    assert loaded == digest
    assert not loaded.buckets_changed()
    assert load_digest([encode_buckets(digest)], digest.tables()) == digest


def test_only_changed_buckets_are_stored_and_a_zero_among_them() -> None:
    one, other = sample_row(RUNS, 1), sample_row(RUNS, 2)
    digest = Digest.of({"runs": [one, other]})
    digest.remove("runs", [one])
    bucket = bucket_of(RUNS.key_of(one))
    assert digest.buckets_changed() == {"runs": {bucket}}
    assert read_buckets(encode_buckets(digest, only=digest.buckets_changed())) == {"runs": {bucket: 0}}
    assert list(read_buckets(encode_buckets(digest))["runs"]) == [bucket_of(RUNS.key_of(other))]


def test_the_same_buckets_have_the_same_bytes() -> None:
    rows = [sample_row(RUNS, number) for number in range(9)]
    assert encode_buckets(Digest.of({"runs": rows})) == encode_buckets(Digest.of({"runs": rows[::-1]}))


def test_shards_add_up() -> None:
    rows = golden_rows(STATES[0])
    whole = Digest.of(rows)
    merged = Digest()
    for shard in range(3):
        merged.merge(Digest.of({name: its_rows[shard::3] for name, its_rows in rows.items()}))
    assert merged == whole


def test_a_copy_goes_its_own_way() -> None:
    digest = Digest.of({"runs": [sample_row(RUNS, 1)]})
    copy = digest.copy()
    copy.add("runs", [sample_row(RUNS, 2)])
    assert digest != copy
    assert digest == Digest.of({"runs": [sample_row(RUNS, 1)]})
    assert digest.buckets_changed() == {}


def test_a_difference_names_tables_and_buckets() -> None:
    rows = golden_rows(STATES[0])
    changed = sample_row(TASKS, 1, **dict(zip([c.name for c in TASKS.columns], rows["tasks"][5], strict=True)))
    other = dict(rows) | {"tasks": [row for row in rows["tasks"] if row != changed], "runs": [*rows["runs"]]}
    found = Digest.of(rows).diff(Digest.of(other))
    assert found == {"tasks": [bucket_of(TASKS.key_of(changed))]}
    assert Digest.of(rows).diff(Digest.of(rows)) == {}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "no digest buckets"),
        (b'{"format":2,"tables":{}}', "format 2"),
        (b'{"format":1,"tables":{"walks":{}}}', "'walks'"),
        (b'{"format":1,"tables":{"runs":{"256":"' + b"0" * 32 + b'"}}}', "beyond 255"),
        (b'{"format":1,"tables":{"runs":{"01":"' + b"0" * 32 + b'"}}}', "no digest buckets"),
        (b'{"format":1,"tables":{"runs":{"1":"abc"}}}', "no digest buckets"),
    ],
)
def test_buckets_that_are_none_are_refused(document: bytes, why: str) -> None:
    with pytest.raises(DamagedBuckets, match=why):
        read_buckets(document)


def test_buckets_that_do_not_add_up_are_refused_by_table() -> None:
    digest = Digest.of({"runs": [sample_row(RUNS)], "tasks": [sample_row(TASKS)]})
    stale = encode_buckets(Digest.of({"runs": [sample_row(RUNS)]}))
    with pytest.raises(DamagedBuckets, match="the buckets of tasks do not add up"):
        load_digest([stale], digest.tables())
