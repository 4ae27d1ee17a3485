"""Files of paths: what is taken, in which order, and what is refused with its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from springline.errors import Refused
from springline.paths import ledger_prefix
from springline.rebuild.offline import event_paths, ordered

PATHS = [f"{ledger_prefix()}/2025-01-15/{name}.json" for name in ("B", "A", "D", "C", "A")]


def test_a_list_is_read_plain_or_compressed(tmp_path: Path) -> None:
    text = json.dumps({"event_paths": PATHS, "more": 1}).encode()
    plain, packed = tmp_path / "a.json", tmp_path / "b"
    plain.write_bytes(text)
    packed.write_bytes(gzip.compress(text))
    assert event_paths(plain) == event_paths(packed) == PATHS


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "not JSON"),
        (b"[]", "event_paths"),
        (b"{}", "event_paths"),
        (b'{"event_paths": []}', "at least one"),
        (b'{"event_paths": "a"}', "event_paths"),
        (b'{"event_paths": ["a", 7]}', "event_paths[1]"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (gzip.compress(b'{"event_paths": ["a"]}', mtime=0)[:-9], "cannot be read"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "paths.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Refused) as caught:
        event_paths(file)
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field) == ("INVALID_REQUEST", "--manifest")
    assert said in refusal.message
    assert refusal.remedy


def test_orders_keep_every_entry() -> None:
    assert ordered(PATHS, "listed") == PATHS
    assert ordered(PATHS, "id") == sorted(PATHS)
    shuffled = ordered(PATHS, "random:7")
    assert shuffled == ordered(PATHS, "random:7")
    assert sorted(shuffled) == sorted(PATHS)
    assert len({tuple(ordered(PATHS, f"random:{seed}")) for seed in range(20)}) > 5


@pytest.mark.parametrize("order", ["", "random", "random:", "random:x", "random:1.5", "ids", "random:07"])
def test_an_unknown_order_is_refused(order: str) -> None:
    with pytest.raises(Refused) as caught:
        ordered(PATHS, order)
    assert (caught.value.refusal.field, caught.value.refusal.value) == ("--order", order)
