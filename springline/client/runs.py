"""Asking for runs, thin over HTTP: `lake.runs`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import uuid_utils

from springline.client.http import ApiClient, segment
from springline.errors import Code, Refused

_ROOT = "/api/v1/runs"

Json = dict[str, Any]

_OVER: Final = ("SUCCEEDED", "FAILED", "CANCELLED")
_FIRST_LOOK_S: Final = 0.2
_LAST_LOOK_S: Final = 2.0


class StartedRun:
    """A run that was asked for: `lake.run(...)`. `run_id`: its id."""

    def __init__(self, runs: RunsOfWorkspace, run_id: str) -> None:
        self._runs = runs
        self.run_id = run_id

    def wait(self, timeout_s: float | None = None) -> Json:
        """Wait for its end, as `lake.runs.wait`."""
        return self._runs.wait(self.run_id, timeout_s)

    def __repr__(self) -> str:
        return f"<run {self.run_id}>"


class RunsOfWorkspace:
    """The runs of the workspace that the token is for. `lake.state.runs()` lists them."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def start(
        self,
        select: str | Iterable[str],
        partitions: Iterable[str] = (),
        *,
        run_key: str | None = None,
        config: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        priority: int = 0,
        max_concurrent_tasks: int | None = None,
    ) -> Json:
        """Start a run of assets, and return its `run_id`, `run_key`, `manifest_id`, `state` and number of `tasks`.

        `select`: `delays`; `*delays` with all that it depends on; `raw_flights*` with all that depends on it; `*` for
        every asset. `partitions`: keys; each is made of every selected asset that has it. `run_key`: under the same key
        the same request is the same run, for ever; give one if the start is to be repeated after a crash of this
        process. `config`: what functions find in `context.config`, without fractions; what an asset takes says
        `lake.assets.get(key)["asset"]["config"]`. `priority`: -100 to 100.
        `max_concurrent_tasks`: how many tasks of the run may be under way at once, by default 500.

        Raises `Refused` (final, says what to do) or `springline.client.http.Unavailable` (repeat with the key).
        """
        body: Json = {
            "select": [select] if isinstance(select, str) else list(select),
            "partitions": [partitions] if isinstance(partitions, str) else list(partitions),
            "run_key": f"client:{uuid_utils.uuid7()}" if run_key is None else run_key,
            "config": dict(config or {}),
            "labels": dict(labels or {}),
            "priority": priority,
        }
        if max_concurrent_tasks is not None:
            body["max_concurrent_tasks"] = max_concurrent_tasks
        return self._api.call("POST", _ROOT, body=body)

    def get(self, run_id: str) -> Json:
        """Return a run with its `tasks`, `dependencies`, `catalog`, `writes`, `checks` and `metadata`.

        Raises `Refused` (NOT_FOUND).
        """
        return self._api.call("GET", f"{_ROOT}/{segment(run_id, 'run_id')}")

    def logs(self, run_id: str, task_key: str, attempt: int | None = None) -> Iterator[Json]:
        """Yield the lines that an attempt has printed, by default the last one, as far as they are kept: `at`, `text`.

        Raises `Refused` (NOT_FOUND).
        """
        after = 0
        while True:
            asked: dict[str, Any] = {"task_key": task_key, "after": after}
            if attempt is not None:
                asked["attempt"] = attempt
            body = self._api.call("GET", f"{_ROOT}/{segment(run_id, 'run_id')}/logs", params=asked)
            yield from body["lines"]
            if body["next"] == after or not body["more"]:
                return
            attempt, after = body["attempt"], body["next"]

    def wait(self, run_id: str, timeout_s: float | None = None) -> Json:
        """Wait until a run has ended, and return it as `get`; its `state` tells how.

        Raises `TimeoutError` after `timeout_s` seconds, while the run goes on.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = _FIRST_LOOK_S
        while True:
            found = self._look(run_id)
            if found is not None and found["run"]["state"] in _OVER:
                return found
            if until is not None and time.monotonic() + pause_s > until:
                state = "requested" if found is None else found["run"]["state"]
                raise TimeoutError(f"run {run_id} has not ended after {timeout_s:g} s: it is {state}, and goes on")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LAST_LOOK_S)

    def _look(self, run_id: str) -> Json | None:
        """Return a run, None if it has not begun: it was asked for, and waits for its turn."""
        try:
            return self.get(run_id)
        except Refused as error:
            if error.refusal.code is Code.NOT_FOUND:
                return None
            raise

    def cancel(self, run_id: str, reason: str | None = None) -> Json:
        """Cancel a run, and return its `state`; raises `Refused` (NOT_FOUND, or EVENT_CONFLICT if it has ended)."""
        body = {} if reason is None else {"reason": reason}
        return self._api.call("POST", f"{_ROOT}/{segment(run_id, 'run_id')}/cancel", body=body)

    def rerun(self, run_id: str, tasks: Iterable[str] | None = None) -> Json:
        """Make tasks of a run that has ended again, by default all that did not succeed; answers as `start`.

        The same rerun asked for again is the same run. Raises `Refused` (EVENT_CONFLICT) if the run goes on, or nothing
        is left to do.
        """
        body: Json = {"from": "failed"} if tasks is None else {"tasks": list(tasks)}
        return self._api.call("POST", f"{_ROOT}/{segment(run_id, 'run_id')}/rerun", body=body)
