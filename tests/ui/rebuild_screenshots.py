"""Pictures of a rebuild in the Temporal Web UI: `python -m tests.ui.rebuild_screenshots --out FOLDER`.

Starts the embedded stack with a ledger of some size, and takes pictures of a rebuild while it runs, after it was done,
of a verification that finds differences, of one that failed because an event is gone, and of one that is cancelled
there. They are for people to look at: what an operator sees who never saw the system before.

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

from bench.ledgers import realistic_ledger
from entrypoints.connection import connect
from entrypoints.temporal_rebuild import TemporalRebuilds
from springline import names, paths
from springline.local.stack import EmbeddedStack
from springline.paths import Scope
from springline.rebuild.messages import RebuildMode, RebuildRequest, RebuildView

SCOPE = Scope("acme", "dev")
DEADLINE_S = 300.0

BROWSER = """
import json, sys
from playwright.sync_api import sync_playwright
chromium, steps = sys.argv[1], json.loads(sys.argv[2])
with sync_playwright() as p:
    browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page(viewport={"width": 1500, "height": 1300})
    for step, value in steps:
        if step == "open":
            page.goto(value, wait_until="domcontentloaded")
            page.wait_for_timeout(3500)
        elif step == "press":
            page.get_by_role("button", name=value, exact=True).last.click()
            page.wait_for_timeout(500)
        else:
            page.screenshot(path=value)
    browser.close()
"""


class Operator:
    """Somebody in front of the Web UI, who looks at pages, takes pictures of them, and presses buttons."""

    def __init__(self, ui: str, out: Path, python: str, chromium: str) -> None:
        self._ui, self._out, self._python, self._chromium = ui, out, python, chromium

    def take(self, name: str, run_id: str, tabs: Iterable[str]) -> None:
        """Take a picture of each tab of a run."""
        steps: list[tuple[str, str]] = []
        for tab in tabs:
            steps += [("open", f"{self._page(run_id)}/{tab}"), ("picture", str(self._out / f"{name}-{tab}.png"))]
        self._do(steps)

    def take_list(self, name: str) -> None:
        """Take a picture of the list of workflows."""
        self._do([("open", f"{self._ui}/namespaces/default/workflows"), ("picture", str(self._out / f"{name}.png"))])

    def cancel(self, run_id: str) -> None:
        """Ask for the cancellation of a run by the button that is there for it, and confirm it."""
        page = f"{self._page(run_id)}/user-metadata"
        self._do([("open", page), ("press", "Request Cancellation"), ("press", "Confirm")])

    def _page(self, run_id: str) -> str:
        workflow = quote(names.rebuild_workflow_id(SCOPE.tenant, SCOPE.workspace), safe="")
        return f"{self._ui}/namespaces/default/workflows/{workflow}/{run_id}"

    def _do(self, steps: list[tuple[str, str]]) -> None:
        subprocess.run([self._python, "-c", BROWSER, self._chromium, json.dumps(steps)], check=True)
        for step, value in steps:
            if step == "picture":
                print(value)


async def pictures(stack: EmbeddedStack, operator: Operator, events: int) -> None:
    """Run rebuilds and take pictures of them."""
    client = await connect(address=stack.temporal_address)
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
    operator.take("1-reading", run_id, ["user-metadata", "history"])
    operator.take_list("2-list")
    await until("done")
    operator.take("3-done", run_id, ["user-metadata", "history", "search-attributes"])

    extra = write_ledger(folder, events + 50, first=events)
    verified = await begin(manifest("more", listed + extra), RebuildMode.VERIFY)
    await until("done")
    operator.take("4-differs", verified, ["user-metadata"])

    gone = folder / listed[events // 3]
    body = gone.read_bytes()
    gone.unlink()
    failed = await begin(manifest("gone", listed[::-1]))
    await until("failed")
    operator.take("5-failed", failed, ["user-metadata", "history"])

    unknown = await begin(paths.orchestration_rebuild("nowhere"))
    await until("failed")
    operator.take("6-no-manifest", unknown, ["user-metadata"])
    operator.take_list("7-list")

    # The same events in another list are other work: all are read again, which takes longer than to press a button.
    gone.write_bytes(body)
    whole = manifest("whole", [*listed[1:], listed[0]])
    cancelled = await begin(whole)
    await until("reading", 10.0)
    operator.cancel(cancelled)
    stopped = await until("cancelled")
    if stopped.phase != "cancelled":
        raise RuntimeError(f"the rebuild was to be cancelled and is {stopped.phase}: give more --events")
    operator.take("8-cancelled", cancelled, ["user-metadata", "history"])
    again = await begin(whole)
    await until("done")
    operator.take("9-again", again, ["user-metadata"])


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
        operator = Operator(stack.web_ui_url, options.out, options.playwright, options.chromium)
        asyncio.run(pictures(stack, operator, options.events))
    return 0


if __name__ == "__main__":
    sys.exit(main())
