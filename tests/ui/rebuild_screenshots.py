"""Pictures of a rebuild in the Temporal Web UI: `python -m tests.ui.rebuild_screenshots --out FOLDER`.

Starts the embedded stack with a ledger of some size, and takes pictures of a rebuild while it runs, after it was done,
of a verification that finds differences, and of one that failed because an event is gone. They are for people to look
at: what an operator sees who never saw the system before.

Needs PyPI's `playwright` (in any Python, named by --playwright) and a Chromium (--chromium); both stay out of the
project's own dependencies.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import orjson
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from bench.ledgers import realistic_ledger
from entrypoints.temporal_rebuild import TemporalRebuilds
from springline import names, paths
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from springline.rebuild.orders import RebuildMode
from springline.rebuild.request import RebuildRequest, RebuildView

SCOPE = Scope("acme", "dev")
DEADLINE_S = 300.0

TAKER = """
import json, sys
from playwright.sync_api import sync_playwright
chromium, shots = sys.argv[1], json.loads(sys.argv[2])
with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1500, "height": 1300})
    for url, file in shots:
        page.goto(url, wait_until="domcontentloaded")
        page.wait_for_timeout(3500)
        page.screenshot(path=file)
    browser.close()
"""


class Camera:
    """Takes pictures of pages of the Web UI."""

    def __init__(self, ui: str, out: Path, python: str, chromium: str) -> None:
        self._ui, self._out, self._python, self._chromium = ui, out, python, chromium

    def take(self, name: str, run_id: str, tabs: Iterable[str]) -> None:
        """Take a picture of each tab of a run."""
        workflow = quote(names.rebuild_workflow_id(SCOPE.tenant, SCOPE.workspace), safe="")
        base = f"{self._ui}/namespaces/default/workflows/{workflow}/{run_id}"
        self._shoot([(f"{base}/{tab}", str(self._out / f"{name}-{tab}.png")) for tab in tabs])

    def take_list(self, name: str) -> None:
        """Take a picture of the list of workflows."""
        self._shoot([(f"{self._ui}/namespaces/default/workflows", str(self._out / f"{name}.png"))])

    def _shoot(self, shots: list[tuple[str, str]]) -> None:
        subprocess.run([self._python, "-c", TAKER, self._chromium, json.dumps(shots)], check=True)
        for _, file in shots:
            print(file)


async def pictures(stack: EmbeddedStack, camera: Camera, events: int) -> None:
    """Run rebuilds and take pictures of them."""
    client = await Client.connect(stack.temporal_address, data_converter=pydantic_data_converter)
    rebuilds = TemporalRebuilds(client)
    folder = Path(stack.store_url.removeprefix("file://")) / SCOPE.prefix
    listed = write_ledger(folder, events)

    def manifest(name: str, event_paths: list[paths.ObjectPath]) -> str:
        path = paths.orchestration_rebuild(name)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(orjson.dumps({"event_paths": event_paths}))
        return path

    async def begin(path: str, mode: RebuildMode = RebuildMode.FULL) -> str:
        return await rebuilds.start(SCOPE, RebuildRequest(rebuild_manifest_path=path, mode=mode))

    async def until(phase: str, at_least: float = 0.0) -> RebuildView:
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            view = await rebuilds.view(SCOPE)
            if view is not None and (view.ended or (view.phase == phase and (view.percent or 0) >= at_least)):
                return view
            await asyncio.sleep(0.2)
        raise TimeoutError(phase)

    run_id = await begin(manifest("all", listed))
    await until("reading", 20.0)
    camera.take("1-reading", run_id, ["user-metadata", "history"])
    camera.take_list("2-list")
    await until("done")
    camera.take("3-done", run_id, ["user-metadata", "history", "search-attributes"])

    extra = write_ledger(folder, events + 50, first=events)
    verified = await begin(manifest("more", listed + extra), RebuildMode.VERIFY)
    await until("done")
    camera.take("4-differs", verified, ["user-metadata"])

    gone = folder / listed[events // 3]
    gone.unlink()
    failed = await begin(manifest("gone", listed[::-1]))
    await until("failed")
    camera.take("5-failed", failed, ["user-metadata", "history"])

    unknown = await begin(paths.orchestration_rebuild("nowhere"))
    await until("failed")
    camera.take("6-no-manifest", unknown, ["user-metadata"])
    camera.take_list("7-list")


def write_ledger(folder: Path, events: int, *, first: int = 0) -> list[paths.ObjectPath]:
    """Write the events of a realistic ledger from number `first` on, each as an object; return their paths."""
    found: list[paths.ObjectPath] = []
    for body in realistic_ledger(3, events, tenant=SCOPE.tenant, workspace=SCOPE.workspace)[first:]:
        path = paths.canonical_ulid_event(orjson.loads(body)["event_id"])
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
        found.append(path)
    return found


def main() -> int:
    """Take the pictures; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--playwright", default=sys.executable, help="a Python that has playwright")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    options = parser.parse_args()
    if not Path(options.chromium).exists():
        parser.error(f"there is no {options.chromium}: install a Chromium, or name one with --chromium")
    if subprocess.run([options.playwright, "-c", "import playwright"], check=False, capture_output=True).returncode:
        parser.error(f"{options.playwright} has no playwright: pip install playwright, or name a Python that has it")
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, EmbeddedStack(Path(folder), scope=SCOPE, api=False) as stack:
        camera = Camera(stack.web_ui_url, options.out, options.playwright, options.chromium)
        asyncio.run(pictures(stack, camera, options.events))
    return 0


if __name__ == "__main__":
    sys.exit(main())
