"""The workspace's events and the state folded from them, thin over HTTP: `lake.ledger` and `lake.state`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import uuid_utils

from springline.client.http import ApiClient, segment
from springline.keys import check_key
from springline.ledger.request import AppendMode, AppendOutcome

_ROOT = "/api/v1"

Json = dict[str, Any]


class Ledger:
    """The ledger of the workspace that the token is for."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def append(
        self,
        events: Sequence[Mapping[str, Any]],
        *,
        request_id: str | None = None,
        mode: AppendMode | Literal["all", "each"] = AppendMode.ALL,
    ) -> AppendOutcome:
        """Append events, all or none or each by itself, exactly once.

        `events`: payloads with their `type`, or objects of `data` with `idempotency_key` and `causation_id`.
        `request_id`: a UUIDv7; make it yourself (`springline.client.table.new_key`) and keep it if the append is to
        be repeated after a crash of this process; it stands for these events in this mode. Readers see the events when
        this returns, unless `visibility_status` says `persisted_not_visible`: then they will in a moment.

        With the mode `each` the events are judged in order, and a refused one takes no other with it: `refused` of the
        answer names those by their `index`, with the reason, and `results` has an entry for each event.
        Raises `Refused` (final, says what to do; of the whole request) or `springline.client.http.Unavailable` (repeat
        with the id).
        """
        chosen = str(uuid_utils.uuid7()) if request_id is None else check_key(request_id, field="request_id")
        body: Json = {"request_id": chosen, "events": [_event(one) for one in events]}
        if mode != AppendMode.ALL:
            body["mode"] = mode
        return AppendOutcome.model_validate(self._api.call("POST", "/api/v1/ledger/events", body=body))

    def status(self) -> Json:
        """Return how far the published state is and what the sequencer is doing."""
        return self._api.call("GET", "/api/v1/ledger/status")


class LedgerState:
    """The published state of the workspace. Pages of a list are fetched during the iteration.

    Filters are the parameters of the HTTP routes, such as `state="FAILED"` or `label=["team=sales"]`.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def runs(self, **filters: Any) -> Iterator[Json]:
        """Yield runs: filters `state`, `run_key`, `since`, `until`, `label`; `latest=True`: the latest first."""
        return self._rows("runs", filters)

    def run(self, run_id: str) -> Json:
        """Return a run with its `tasks`, `dependencies` and `catalog`; raises `Refused` (NOT_FOUND)."""
        return self._api.call("GET", f"{_ROOT}/runs/{segment(run_id, 'run_id')}")

    def attempts(self, run_id: str, **filters: Any) -> Iterator[Json]:
        """Yield the attempts of a run that have ended: filter `task_key`; raises `Refused` (NOT_FOUND)."""
        return self._rows(f"runs/{segment(run_id, 'run_id')}/attempts", filters)

    def tasks(self, **filters: Any) -> Iterator[Json]:
        """Yield tasks: filters `run_id`, `state`, `asset_key`."""
        return self._rows("tasks", filters)

    def partitions(self, **filters: Any) -> Iterator[Json]:
        """Yield the states of partitions: filter `asset_key`."""
        return self._rows("partitions", filters)

    def timers(self, **filters: Any) -> Iterator[Json]:
        """Yield timers: filters `state`, `timer_type`, `run_id`."""
        return self._rows("timers", filters)

    def schedules(self, **filters: Any) -> Iterator[Json]:
        """Yield schedules with their `last` tick: filter `enabled`."""
        return self._rows("schedules", filters)

    def ticks(self, **filters: Any) -> Iterator[Json]:
        """Yield ticks: filters `schedule_id`, `status`, `since`, `until`; `latest=True`: the latest first."""
        return self._rows("ticks", filters)

    def sensors(self, **filters: Any) -> Iterator[Json]:
        """Yield the states of sensors."""
        return self._rows("sensors", filters)

    def evaluations(self, **filters: Any) -> Iterator[Json]:
        """Yield evaluations of sensors: filters `sensor_id`, `status`, `since`, `until`; `latest=True`: as of ticks."""
        return self._rows("evaluations", filters)

    def backfills(self, **filters: Any) -> Iterator[Json]:
        """Yield backfills: filter `state`."""
        return self._rows("backfills", filters)

    def backfill(self, backfill_id: str) -> Json:
        """Return a backfill with its `chunks` and the states of their runs; raises `Refused` (NOT_FOUND)."""
        return self._api.call("GET", f"{_ROOT}/backfills/{segment(backfill_id, 'backfill_id')}")

    def asset_partitions(self, asset: str, **filters: Any) -> Iterator[Json]:
        """Yield how the partitions of an asset stand: filters `stale`, `latest` (the last one first).

        Each has its `state`: CURRENT, OPEN, or why it is stale. Raises `Refused` (NOT_FOUND) if it is not deployed.
        """
        return self._rows(f"assets/{segment(asset, 'asset')}/partitions", filters)

    def staleness(self, **filters: Any) -> Iterator[Json]:
        """Yield how many partitions of each asset are stale: filters `select`, `last` (so many of the latest)."""
        return self._rows("staleness", filters)

    def report(self, **time: Any) -> str:
        """Return the HTML page of what happened and what is wrong now: `since`, `until`, or `hours`, by default 24."""
        return self._api.text("/report", {name: value for name, value in time.items() if value is not None})

    def digest(self) -> Json:
        """Return the digest of the state: equal digests mean equal states."""
        return self._api.call("GET", "/api/v1/state/digest")

    def explain(self, subject: str, identity: str, **about: Any) -> Json:
        """Return why something ran, did not run, or waits: `verdict`, `answer`, `waits_for`, `decisions`, `next_steps`.

        `subject`: `schedule` (with `at`, an instant in RFC 3339, or as it stands now), `run` (by id, or by the key that
        it was asked for under), `task` (of a run, with `task`), `attempt` (with `task` and `attempt`), `sensor`,
        `evaluation` (of a sensor), `backfill`, `chunk` (of a backfill, with `chunk`, from 0), `partition` (of an asset,
        with `partition`). `since` and `until`: the time whose events are read. Raises `Refused` (NOT_FOUND).
        """
        route = f"{_ROOT}/explain/{segment(subject, 'subject')}/{segment(identity, 'identity')}"
        return self._api.call("GET", route, params={name: value for name, value in about.items() if value is not None})

    def _rows(self, route: str, filters: Mapping[str, Any]) -> Iterator[Json]:
        return self._api.items(f"{_ROOT}/{route}", **filters)


def _event(one: Mapping[str, Any]) -> Json:
    return {"data": dict(one)} if "type" in one else dict(one)
