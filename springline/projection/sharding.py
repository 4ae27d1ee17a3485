"""Sharding: which events may be folded apart, so that one fold splits into several.

See docs/protocol.md#state-of-a-set, docs/protocol.md#rebuild.

Events of runs and their tasks affect only their run, as long as all ids that could link it to others are in order. So a
run's events go to one shard, by a hash of the run id, and all other events (schedules, ticks,
sensors, run requests, backfills, timers of no run) go to shard 0. A run with an irregular id is *odd* and goes
to shard 0, too, with all its events and with the runs that it is linked to:

- its id contains a colon, so that ids and keys made from it are ambiguous;
- an event of it has an idempotency key that is not its own by form (docs/formats.md#event-keys): keys are unique across
  the workspace;
- a dispatch or timer id names another run than the event does, or none;
- its `run:` key is claimed by another run as well.

Two things remain that runs share. A partition's status is kept per field group with the event that set it, and the
greater event id wins (docs/events.md#fold-partitions), so rows merge. Retention expires runs and with them rows of
shard 0: with retention nothing is split.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from springline.ledger import events as e
from springline.ledger.envelope import Event

CONTROL_SHARD = 0
"""The shard of all events that are not of a regular run."""

_RUN_KEY = "run:"
_KEYS_WITH_RUN, _KEYS_WITH_DISPATCH, _KEYS_WITH_TIMER = (
    frozenset(row.prefix for row in e.EVENT_TYPES.values() if row.key_names is owner)
    for owner in (e.Owner.RUN, e.Owner.DISPATCH, e.Owner.TIMER)
)
_OF_A_RUN, _OF_A_DISPATCH, _OF_A_TIMER = (
    frozenset(row.tag for row in e.EVENT_TYPES.values() if row.owner is owner)
    for owner in (e.Owner.RUN, e.Owner.DISPATCH, e.Owner.TIMER)
)
_ONLY_A_RUN = frozenset(
    kind
    for tag, kind in e.PAYLOAD_TYPES.items()
    if tag in _OF_A_RUN and not {"dispatch_id", "timer_id"} & set(kind.__struct_fields__)
)
"""Payloads whose run id is the only field that names a run."""


class RoutedPayload(msgspec.Struct, gc=False):
    """The fields of a payload that routing needs."""

    type: str
    run_id: str | None = None
    dispatch_id: str | None = None
    timer_id: str | None = None


class RoutedEvent(msgspec.Struct, gc=False):
    """The fields of an event that routing needs."""

    event_id: str
    idempotency_key: str
    data: RoutedPayload


def routed_of(event: Event) -> RoutedEvent:
    """Return the fields of an event that routing needs; a payload of an unknown type belongs to no run."""
    data = event.data
    if data is None:
        return RoutedEvent(event.event_id, event.idempotency_key, RoutedPayload("unknown"))
    payload = RoutedPayload(
        str(data.__struct_config__.tag),
        getattr(data, "run_id", None),
        getattr(data, "dispatch_id", None),
        getattr(data, "timer_id", None),
    )
    return RoutedEvent(event.event_id, event.idempotency_key, payload)


def owner_of(event: RoutedEvent) -> str | None:
    """Return the run that an event belongs to by its type and ids, None for shard 0.

    A dispatch or timer that names no run belongs to the run in its id, because its row does.
    """
    payload = event.data
    kind = payload.type
    if kind in _OF_A_RUN:
        return payload.run_id
    if kind in _OF_A_DISPATCH:
        return payload.run_id if payload.run_id is not None else run_of_dispatch(payload.dispatch_id or "")
    if kind in _OF_A_TIMER and payload.timer_id is not None:
        return run_of_timer(payload.timer_id)
    return None


def run_of_dispatch(dispatch_id: str) -> str | None:
    """Return the run that a dispatch id names (docs/formats.md#identifiers), or None."""
    parts = dispatch_id.split(":", 2)
    return parts[1] if len(parts) == 3 and parts[0] == "dispatch" else None


def run_of_timer(timer_id: str) -> str | None:
    """Return the run that a timer id names (docs/formats.md#identifiers), or None for a timer of no run."""
    parts = timer_id.split(":", 3)
    return parts[2] if len(parts) == 4 and parts[0] == "timer" and parts[1] != "cron" else None


def run_of_key(key: str) -> str | None:
    """Return the run in an idempotency key, by the key's form (docs/formats.md#event-keys), or None; `run:` keys have
    no run in their form.
    """
    prefix, _, rest = key.partition(":")
    if prefix in _KEYS_WITH_RUN:
        return rest.partition(":")[0]
    if prefix in _KEYS_WITH_DISPATCH:
        return run_of_dispatch(rest)
    if prefix in _KEYS_WITH_TIMER:
        return run_of_timer(rest)
    return None


@dataclass(slots=True)
class Links:
    """The links of runs in a part of the ledger that cannot be folded apart; parts are merged in any order.

    `odd`: runs for shard 0. `claims`: `run:` key -> the run that used it; "" for an event of no run.
    """

    odd: set[str] = field(default_factory=set)
    claims: dict[str, str] = field(default_factory=dict)

    def place(self, event: Event) -> str | None:
        """Add one event, and return the run that it belongs to, None for shard 0."""
        data = event.data
        if type(data) in _ONLY_A_RUN:
            run: str = data.run_id  # type: ignore[union-attr,assignment]
            prefix, _, rest = event.idempotency_key.partition(":")
            if prefix in _KEYS_WITH_RUN and rest.partition(":")[0] == run:
                return run
        routed = routed_of(event)
        self.add(routed)
        return owner_of(routed)

    def add(self, event: RoutedEvent) -> None:
        """Add one event."""
        owner = owner_of(event)
        payload = event.data
        named = [payload.run_id]
        if payload.dispatch_id is not None:
            named.append(run_of_dispatch(payload.dispatch_id))
        if payload.timer_id is not None:
            named.append(run_of_timer(payload.timer_id))
        key = event.idempotency_key
        if key.startswith(_RUN_KEY):
            self._claim(key, owner or "")
        else:
            named.append(run_of_key(key))
            if owner is not None and named[-1] != owner:
                self.odd.add(owner)
        for run in named:
            if run is not None and (run != owner or ":" in run):
                self.odd.add(run)
                if owner is not None:
                    self.odd.add(owner)
        if owner is not None and (
            (payload.dispatch_id is not None and run_of_dispatch(payload.dispatch_id) != owner)
            or (payload.timer_id is not None and run_of_timer(payload.timer_id) != owner)
        ):
            self.odd.add(owner)

    def _claim(self, key: str, owner: str) -> None:
        other = self.claims.setdefault(key, owner)
        if other != owner:
            self.odd.update(run for run in (other, owner) if run)

    def merge(self, other: Links) -> None:
        """Add the links of another part of the ledger."""
        self.odd |= other.odd
        for key, owner in other.claims.items():
            self._claim(key, owner)


def links_of(events: Iterable[RoutedEvent]) -> Links:
    """Return the links of some events."""
    links = Links()
    for event in events:
        links.add(event)
    return links


def shard_of(event: RoutedEvent, odd: frozenset[str], shards: int) -> int:
    """Return the shard, 0 to `shards` - 1, that folds an event; `odd` are the odd runs of the whole ledger."""
    owner = owner_of(event)
    return CONTROL_SHARD if owner in odd else shard_of_run(owner, shards)


def shard_of_run(run: str | None, shards: int) -> int:
    """Return the shard, 0 to `shards` - 1, of a run that is not odd, and that of everything else for None."""
    if run is None or shards == 1:
        return CONTROL_SHARD
    return zlib.crc32(run.encode()) % shards
