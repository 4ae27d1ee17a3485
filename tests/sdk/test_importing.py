"""Importing the library is quick and starts nothing."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = (
    *("temporalio", "pyarrow", "deltalake", "duckdb", "pydantic", "msgspec", "orjson", "httpx", "typer", "rich", "jwt"),
    *("asyncio", "logging", "socket", "subprocess", "multiprocessing", "threading", "unittest", "http"),
)
MOST_MODULES = 170
"""Python with an environment of its own has about 70 before it; pydantic alone would add 200."""


def test_importing_the_library_loads_nothing_heavy_and_starts_nothing() -> None:
    script = (
        "import json, sys, _thread\nbefore = set(sys.modules)\nimport springline.sdk\n"
        f"print(json.dumps([len(sys.modules), [one for one in {HEAVY} if one in set(sys.modules) - before], "
        "_thread._count()]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    modules, heavy, threads = json.loads(done.stdout)
    assert heavy == []
    assert modules <= MOST_MODULES
    assert threads == 0
