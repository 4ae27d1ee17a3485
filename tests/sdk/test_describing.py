"""A pipeline file as a document, by a process of its own: what is deployed, whatever user code does meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from springline.definitions.composing import compose
from springline.definitions.manifest import CodeLocation
from springline.sdk.describing import described
from springline.sdk.loading import examine

FLIGHTS = """
from springline.sdk import *
orders = external("shop.orders")
disk = pool("disk", slots=2)

@asset(partitions=daily("2024-01-01", timezone="Europe/Oslo"), retries=3, timeout="10m", heartbeat="30s", pool="disk",
       retry_delay="5s", memory="512MiB")
def raw(context): ...

@asset(key="mart.delays", deps=[dep(raw, window(start=-6))], partitions=monthly("2024-01"), tags={"a": "b"})
async def delays(raw, orders):
    '''How late.'''
"""


def run(file: Path, *more: str) -> tuple[subprocess.CompletedProcess[str], Any]:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "springline.sdk.describing", str(file), *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done, json.loads(done.stdout) if done.stdout else None


def test_what_is_deployed(tmp_path: Path) -> None:
    file = tmp_path / "flights.py"
    file.write_text(FLIGHTS)
    _, document = run(file)
    assert document == json.loads(json.dumps(described(examine(file)))) | {"imports": []}
    assert (document["file"], document["location"]) == (str(file), "flights")
    assert document["keys"] == ["raw", "mart.delays"]
    assert document["problems"] == []
    part = CodeLocation.model_validate(
        {"location": "flights", "assets": document["assets"], "pools": document["pools"]}
    )
    assert [(one.name, one.slots) for one in part.pools] == [("disk", 2)]
    raw, delays = part.assets
    assert (raw.retries, raw.timeout_ms, raw.heartbeat_ms, raw.pool) == (3, 600_000, 30_000, "disk")
    assert (raw.retry_delay_ms, delays.retry_delay_ms) == (5_000, None)
    assert (raw.memory_bytes, delays.memory_bytes) == (512 * 1024 * 1024, None)
    assert ["memory_bytes" in one for one in document["assets"]] == [True, False]
    assert raw.partitions is not None
    assert raw.partitions.timezone == "Europe/Oslo"
    assert delays.description == "How late."
    assert [(one.asset, one.argument) for one in delays.dependencies] == [("raw", "raw"), ("shop.orders", "orders")]
    assert delays.dependencies[0].mapping is not None
    assert delays.dependencies[0].mapping.start_offset == -6
    shop = CodeLocation.model_validate({"location": "shop", "assets": [{"key": "shop.orders"}]})
    assert compose(None, shop).changes.added == ["shop.orders"]


@pytest.mark.parametrize("location", ["a:b", "", "x" * 101])
def test_a_name_of_a_code_location_that_is_none(location: str, tmp_path: Path) -> None:
    file = tmp_path / "flights.py"
    file.write_text(FLIGHTS)
    _, document = run(file, location)
    (problem,) = document["problems"]
    assert "the name of the code location" in problem["message"]
    assert document["assets"] == []
    assert run(file, "mart")[1]["location"] == "mart"


NOISY = """
import atexit, os, subprocess, sys, threading, time
print("said at import")
sys.stdout.write("written\\n")
os.write(1, b"to the descriptor\\n")
subprocess.run([sys.executable, "-c", "print('by a child')"], check=True)
atexit.register(lambda: print("at the end"))
threading.Thread(target=threading.Event().wait).start()
print(sys.argv[1:])
"""


def test_what_user_code_prints_or_leaves_running_is_not_in_the_way(tmp_path: Path) -> None:
    file = tmp_path / "flights.py"
    file.write_text(NOISY + FLIGHTS)
    done, document = run(file)
    assert done.returncode == 0
    assert len(document["assets"]) == 2
    for said in ("said at import", "written", "to the descriptor", "by a child", "[]"):
        assert said in done.stderr


def test_a_process_that_is_ended_leaves_no_document(tmp_path: Path) -> None:
    file = tmp_path / "flights.py"
    file.write_text("import os\nos._exit(7)\n")
    done, document = run(file)
    assert (done.returncode, document) == (7, None)
