"""Backfills, thin over HTTP: `lake.backfills`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import uuid_utils

from springline.client.http import ApiClient, segment

_ROOT = "/api/v1/backfills"
_OVER: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
_PAUSE_S: Final = 1.0

Json = dict[str, Any]


class BackfillsOfWorkspace:
    """The backfills of the workspace that the token is for."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def create(
        self,
        select: str | Iterable[str],
        partitions: Iterable[str] | None = None,
        *,
        start: str | None = None,
        end: str | None = None,
        match: str | None = None,
        all: bool = False,
        stale: bool = False,
        reasons: Iterable[str] = (),
        chunk_size: int = 10,
        max_concurrent_runs: int = 2,
        order: str = "oldest_first",
        priority: int = -10,
        request_id: str | None = None,
        dry_run: bool = False,
    ) -> Json:
        """Start a backfill, and return its `backfill_id`, `state`, `total_partitions`, `chunks` and `assets`.

        `select` as in `lake.runs.start`; all assets are cut into the same partitions. Which ones: keys in `partitions`;
        or from `start` to `end`, both included, of which keys fit `match`, such as `2024-*-01`; or `all`. With `stale`
        it is what is stale of these, and of all partitions if none are said, for one of `reasons`, such as
        `CODE_CHANGED`, or for any. The answer's `stale` tells how many were stale, counted for each asset, and by which
        `revision`; if nothing is, there is no backfill: `backfill_id` is None, `state` NOTHING_STALE.

        `chunk_size`: partitions of one run. `max_concurrent_runs`: how many runs at once. `order`: `oldest_first` or
        `newest_first`. `priority`: -100 to 100; other runs have 0. `request_id`: under the same id the same request is
        the same backfill, for ever; give one if the call is to be repeated after a crash of this process. `dry_run`:
        write nothing, and return the partitions that come first as `first`, too, and in `stale` the `assets`.

        Raises `Refused` (final, says what to do) or `springline.client.http.Unavailable` (repeat with the id).
        """
        said = {"start": start, "end": end, "match": match}
        body: Json = {name: value for name, value in said.items() if value is not None}
        body |= {
            "select": [select] if isinstance(select, str) else list(select),
            "chunk_size": chunk_size,
            "max_concurrent_runs": max_concurrent_runs,
            "order": order,
            "priority": priority,
            "request_id": f"client:{uuid_utils.uuid7()}" if request_id is None else request_id,
            "dry_run": dry_run,
        }
        if partitions is not None:
            body["partitions"] = [partitions] if isinstance(partitions, str) else list(partitions)
        if all:
            body["all"] = True
        if stale:
            body["stale"] = True
        if listed := list(reasons):
            body["reasons"] = listed
        return self._api.call("POST", _ROOT, body=body)

    def get(self, backfill_id: str) -> Json:
        """Return a backfill with its `progress`, `settings` and latest `chunks`; raises `Refused` (NOT_FOUND)."""
        return self._api.call("GET", f"{_ROOT}/{segment(backfill_id, 'backfill_id')}")

    def list(self, *, state: str | None = None) -> Iterator[Json]:
        """Yield the backfills of the workspace with their `progress`, in the order of their ids."""
        return self._api.items(_ROOT, state=state)

    def chunks(self, backfill_id: str, *, outcome: str | None = None) -> Iterator[Json]:
        """Yield a backfill's chunks in the order of their ids; `outcome`: succeeded, failed or cancelled."""
        path = f"{_ROOT}/{segment(backfill_id, 'backfill_id')}/chunks"
        return self._api.items(path, outcome=outcome)

    def wait(self, backfill_id: str, *, timeout_s: float | None = None) -> Json:
        """Wait until a backfill and its runs have ended, or `timeout_s` seconds, and return it as `get` does."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            found = self.get(backfill_id)
            is_over = found["backfill"]["state"] in _OVER and not (found["progress"] or {}).get("chunks_running")
            if is_over or (until is not None and time.monotonic() >= until):
                return found
            time.sleep(_PAUSE_S)

    def pause(self, backfill_id: str) -> Json:
        """Let a backfill ask for no more runs; safe to repeat. Raises `Refused` (EVENT_CONFLICT if it has ended)."""
        return self._verb(backfill_id, "pause", {})

    def resume(self, backfill_id: str) -> Json:
        """Let a paused backfill go on; safe to repeat."""
        return self._verb(backfill_id, "resume", {})

    def cancel(self, backfill_id: str) -> Json:
        """End a backfill, and cancel its runs; safe to repeat."""
        return self._verb(backfill_id, "cancel", {})

    def retry_failed(self, backfill_id: str, *, request_id: str | None = None) -> Json:
        """Start a backfill of exactly the partitions of another one that are not done; answers as `create`."""
        name = f"client:{uuid_utils.uuid7()}" if request_id is None else request_id
        return self._verb(backfill_id, "retry-failed", {"request_id": name})

    def _verb(self, backfill_id: str, verb: str, body: Json) -> Json:
        return self._api.call("POST", f"{_ROOT}/{segment(backfill_id, 'backfill_id')}/{verb}", body=body or None)
