"""Asking for runs, thin over HTTP: `lake.runs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import uuid_utils

from springline.client.http import ApiClient

_ROOT = "/api/v1/runs"

Json = dict[str, Any]


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
    ) -> Json:
        """Start a run of assets, and return its `run_id`, `run_key`, `manifest_id`, `state` and number of `tasks`.

        `select`: `delays`; `*delays` with all that it depends on; `raw_flights*` with all that depends on it; `*` for
        every asset. `partitions`: keys; each is made of every selected asset that has it. `run_key`: under the same key
        the same request is the same run, for ever; give one if the start is to be repeated after a crash of this
        process. `config`: what functions find in `context.config`, without fractions. `priority`: -100 to 100.

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
        return self._api.call("POST", _ROOT, body=body)

    def get(self, run_id: str) -> Json:
        """Return a run with its `tasks`, `dependencies` and `catalog`; raises `Refused` (NOT_FOUND)."""
        return self._api.call("GET", f"{_ROOT}/{quote(run_id, safe='')}")

    def cancel(self, run_id: str, reason: str | None = None) -> Json:
        """Cancel a run, and return its `state`; raises `Refused` (NOT_FOUND, or EVENT_CONFLICT if it has ended)."""
        body = {} if reason is None else {"reason": reason}
        return self._api.call("POST", f"{_ROOT}/{quote(run_id, safe='')}/cancel", body=body)

    def rerun(self, run_id: str, tasks: Iterable[str] | None = None) -> Json:
        """Make tasks of a run that has ended again, by default all that did not succeed; answers as `start`.

        The same rerun asked for again is the same run. Raises `Refused` (EVENT_CONFLICT) if the run goes on, or nothing
        is left to do.
        """
        body: Json = {"from": "failed"} if tasks is None else {"tasks": list(tasks)}
        return self._api.call("POST", f"{_ROOT}/{quote(run_id, safe='')}/rerun", body=body)
