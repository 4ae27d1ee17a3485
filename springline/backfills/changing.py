"""Asking for backfills, and pausing, resuming, cancelling and repeating them. All who ask come here.

A request is recorded once for its id: the id of the backfill follows from it. A change names the state that it was
decided on, so that of two at once the second reads the rows again.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, cast

import uuid_utils

from springline import paths
from springline.backfills.keys import write_keys
from springline.backfills.reading import KnownBackfill, counted, known_backfill, missed_keys
from springline.backfills.requests import (
    BackfillAsked,
    BackfillSettings,
    StaleJudged,
    Wanted,
    checked_request_id,
    created_event,
    fingerprint_of,
    is_long,
    retry_fingerprint,
    settings_of,
    wanted_backfill,
    wanted_stale,
)
from springline.control.admission.cases import invalid
from springline.control.backfills.deciding import state_change
from springline.definitions.backfills import BadChoice, PartitionsAsked, backfilled_assets
from springline.definitions.manifest import DeployedManifest
from springline.deployed.reading import ManifestReader
from springline.errors import Code, Refusal, Refused, refused
from springline.ledger.envelope import as_event
from springline.ledger.events import BackfillCreated, Payload
from springline.ledger.identifiers import backfill_id_of
from springline.ledger.nested import BackfillState
from springline.ledger.request import AppendOutcome, AppendRequest, NewEvent
from springline.paths import Scope
from springline.published.reader import PublishedReader
from springline.runs.backfilled import TABLES
from springline.runs.launching import RunLedger
from springline.runs.requesting import what_is_deployed
from springline.staleness.reading import TABLES as OF_PARTITIONS
from springline.storage.port import ObjectStore
from springline.storage.scoped import ScopedStore

TRIES: Final = 20
"""How often rows are read again after somebody else was first."""
PAUSE_S: Final = 0.05
_FROM: Final[dict[BackfillState, tuple[str, ...]]] = {
    "PAUSED": ("RUNNING",),
    "RUNNING": ("PAUSED",),
    "CANCELLED": ("PENDING", "RUNNING", "PAUSED"),
}
_MOST_NAMED: Final = 5
"""Partitions that a command in a remedy names."""
_DOES: Final = {"PAUSED": "pause", "RUNNING": "resume", "CANCELLED": "cancel"}


@dataclass(frozen=True, slots=True)
class ChangedBackfill:
    """A backfill, as it is after a request. `replayed`: it was that before, and nothing was written.

    `stale`: what it was chosen by, None if it is not one of what was stale.
    """

    backfill_id: str
    state: str
    total: int
    chunks: int
    replayed: bool
    assets: tuple[str, ...] = ()
    stale: StaleJudged | None = None


@dataclass(frozen=True, slots=True)
class NothingStale:
    """The answer to a request for what is stale of a selection, of which nothing is: there is no backfill."""

    stale: StaleJudged


@dataclass(frozen=True, slots=True)
class Backfills:
    """The backfills of one workspace, to be asked for and changed. `store` is the whole store.

    `now_ms` tells the time in ms since 1970. All methods raise `Refused`, also if the ledger does not answer
    (UNAVAILABLE), `DamagedObject`, and the store's errors.
    """

    store: ObjectStore
    reader: PublishedReader
    manifests: ManifestReader
    ledger: RunLedger
    scope: Scope
    now_ms: Callable[[], int]

    async def planned(self, asked: BackfillAsked) -> Wanted:
        """Return the backfill that is asked for, and write nothing."""
        if asked.stale:
            return await self._wanted_stale(asked)
        if asked.reasons:
            raise invalid("reasons", asked.reasons, "are of what is stale", "Give stale, too, or leave reasons out.")
        return await self._wanted(asked.select, asked.chosen, settings_of(asked))

    async def create(
        self, asked: BackfillAsked, request_id: str, asked_by: str | None = None
    ) -> ChangedBackfill | NothingStale:
        """Create the backfill that is asked for, once for each request id; `asked_by`: the user who asks.

        What is stale is found now, and part of what is recorded. A request that finds nothing leaves its id free.
        """
        fingerprint = fingerprint_of(asked)
        name = checked_request_id(request_id)
        known = await self._known_request(name, fingerprint)
        if known is not None:
            return known
        wanted = await self.planned(asked)
        if wanted.stale is not None and not wanted.total:
            return NothingStale(wanted.stale)
        return await self._created(wanted, name, fingerprint, None, asked_by)

    async def pause(self, backfill_id: str, changed_by: str) -> ChangedBackfill:
        """Let a backfill plan no more chunks; the runs of those that are planned go on."""
        return await self._change(backfill_id, "PAUSED", changed_by)

    async def resume(self, backfill_id: str, changed_by: str) -> ChangedBackfill:
        """Let a paused backfill go on from where it stands."""
        return await self._change(backfill_id, "RUNNING", changed_by)

    async def cancel(self, backfill_id: str, changed_by: str) -> ChangedBackfill:
        """Cancel a backfill: no more chunks are planned, and the runs of those that are planned are cancelled."""
        return await self._change(backfill_id, "CANCELLED", changed_by)

    async def retry_failed(self, backfill_id: str, request_id: str, asked_by: str | None = None) -> ChangedBackfill:
        """Create a backfill of exactly the partitions of another one that were not done, once for each request id.

        It is made by the definitions that are deployed now. `asked_by`: the user who asks.
        """
        name = checked_request_id(f"retry:{backfill_id}:{request_id}")
        fingerprint = retry_fingerprint(backfill_id)
        known = await self._known_request(name, fingerprint)
        if known is not None:
            return known
        snapshot = await self.reader.snapshot(self.scope, TABLES)
        parent = self._found(await asyncio.to_thread(known_backfill, snapshot, backfill_id), backfill_id)
        if parent.row.state not in ("FAILED", "CANCELLED"):
            raise refused(
                Code.EVENT_CONFLICT,
                f"backfill {backfill_id} has not failed: it is {parent.row.state}",
                field="backfill_id",
                value=backfill_id,
                remedy="Nothing is left to do."
                if parent.row.state == "SUCCEEDED"
                else "Wait for its end, or cancel it first.",
            )
        counts = await asyncio.to_thread(counted, snapshot, backfill_id, 0)
        if counts.open:
            raise refused(
                Code.EVENT_CONFLICT,
                f"{len(counts.open)} chunks of backfill {backfill_id} have not ended: what is not done is unknown",
                field="backfill_id",
                value=backfill_id,
                remedy="Ask again when their runs have ended; `springline backfill watch` waits for that.",
            )
        keys = await asyncio.to_thread(missed_keys, snapshot, backfill_id)
        if not keys:
            raise refused(
                Code.EVENT_CONFLICT,
                f"no partition of backfill {backfill_id} has failed: it is {parent.row.state}",
                field="backfill_id",
                value=backfill_id,
                remedy="Ask for a new backfill of what it has not planned.",
            )
        row, member = parent.row, parent.member
        settings = BackfillSettings(
            row.chunk_size, row.max_concurrent_runs, member.order or "oldest_first", member.priority or 0
        )
        manifest = await what_is_deployed(self.manifests, self._own_store, self.scope)
        wrong = await asyncio.to_thread(_no_more, backfill_id, parent.assets, keys, manifest)
        if wrong is not None:
            raise wrong
        wanted = await self._wanted(parent.assets, PartitionsAsked(keys=tuple(keys)), settings)
        return await self._created(wanted, name, fingerprint, backfill_id, asked_by)

    async def _wanted_stale(self, asked: BackfillAsked) -> Wanted:
        manifest = await what_is_deployed(self.manifests, self._own_store, self.scope)
        snapshot = await self.reader.snapshot(self.scope, OF_PARTITIONS)
        # Off the event loop: many partitions may be judged.
        return await asyncio.to_thread(wanted_stale, asked, manifest, snapshot, self.now_ms())

    async def _wanted(self, terms: Sequence[str], chosen: PartitionsAsked, settings: BackfillSettings) -> Wanted:
        manifest = await what_is_deployed(self.manifests, self._own_store, self.scope)
        now = datetime.fromtimestamp(self.now_ms() / 1_000, UTC)
        # Off the event loop: a pattern may be held against a million keys.
        return await asyncio.to_thread(wanted_backfill, terms, chosen, settings, manifest, now)

    @property
    def _own_store(self) -> ScopedStore:
        return ScopedStore(self.store, self.scope)

    async def _created(
        self, wanted: Wanted, name: str, fingerprint: str, parent: str | None, asked_by: str | None
    ) -> ChangedBackfill:
        listed = None
        if is_long(wanted.keys):
            listed = await write_keys(self._own_store, cast("list[str]", wanted.keys))
        event: BackfillCreated = created_event(
            wanted,
            name,
            fingerprint,
            keys_name=listed,
            keys_path=None if listed is None else str(paths.backfill_keys(listed)),
            parent_backfill_id=parent,
            asked_by=asked_by,
        )
        outcome = await self._append(event)
        replayed = outcome.refusal is None and outcome.events[0].outcome == "duplicate"
        if outcome.refusal is not None or replayed:
            # Another request under the id came between, or an answer to this one was lost.
            known = await self._known_request(name, fingerprint)
            if known is not None:
                return known
        if outcome.refusal is not None:
            raise _told(outcome.refusal)
        return ChangedBackfill(
            event.backfill_id,
            "RUNNING",
            wanted.total,
            wanted.chunks,
            replayed=replayed,
            assets=wanted.assets,
            stale=wanted.stale,
        )

    async def _known_request(self, name: str, fingerprint: str) -> ChangedBackfill | None:
        """Return the backfill that a request id stands for, None if it is new; raises `Refused` if for another one."""
        snapshot = await self.reader.snapshot(self.scope, TABLES)
        backfill_id = backfill_id_of(name)
        known = await asyncio.to_thread(known_backfill, snapshot, backfill_id)
        if known is None:
            return None
        if known.member.request_fingerprint != fingerprint:
            raise refused(
                Code.KEY_REUSED,
                f"the request id stands for backfill {backfill_id}, which was asked for in another way",
                field="request_id",
                value=name,
                remedy="Ask for what was asked for then, or use another request id.",
            )
        return _changed(known, replayed=True)

    async def _change(self, backfill_id: str, to_state: BackfillState, changed_by: str) -> ChangedBackfill:
        for attempt in range(TRIES):
            snapshot = await self.reader.snapshot(self.scope, TABLES)
            known = self._found(await asyncio.to_thread(known_backfill, snapshot, backfill_id), backfill_id)
            row = known.row
            if row.state == to_state:
                return _changed(known, replayed=True)
            if row.state not in _FROM[to_state]:
                raise refused(
                    Code.EVENT_CONFLICT,
                    f"backfill {backfill_id} cannot {_DOES[to_state]}: it is {row.state}",
                    field="backfill_id",
                    value=backfill_id,
                    remedy="It has ended; ask for a new one, or retry what failed."
                    if row.state in ("SUCCEEDED", "FAILED", "CANCELLED")
                    else f"Only a backfill that is {' or '.join(_FROM[to_state])} can.",
                )
            event = state_change(backfill_id, cast(BackfillState, row.state), to_state, row.state_version, changed_by)
            outcome = await self._append(event)
            if outcome.refusal is None and outcome.events[0].outcome != "duplicate":
                return replace(_changed(known, replayed=False), state=to_state)
            if outcome.refusal is not None and outcome.refusal.code not in (Code.EVENT_CONFLICT, Code.KEY_REUSED):
                raise _told(outcome.refusal)
            # Its evaluator, or somebody else, was first.
            await asyncio.sleep(PAUSE_S * (attempt + 1))
        raise refused(
            Code.UNAVAILABLE,
            f"backfill {backfill_id} was changed by others all the while",
            field="backfill_id",
            value=backfill_id,
            remedy="Send the same request again.",
        )

    def _found(self, known: KnownBackfill | None, backfill_id: str) -> KnownBackfill:
        if known is None:
            raise no_backfill(backfill_id)
        return known

    async def _append(self, event: Payload) -> AppendOutcome:
        request = AppendRequest(request_id=str(uuid_utils.uuid7()), events=[NewEvent(data=as_event(event))])
        return await self.ledger.append(self.scope, request)


def no_backfill(backfill_id: str) -> Refused:
    """Return the refusal of a backfill that there is not, or that another system has made."""
    return refused(
        Code.NOT_FOUND,
        f"the workspace has no backfill {backfill_id!r:.120} of its own",
        field="backfill_id",
        value=backfill_id,
        remedy="`springline backfill list` shows them; one that another system has made is changed there.",
    )


def _no_more(
    backfill_id: str, assets: Sequence[str], keys: Sequence[str], manifest: DeployedManifest
) -> Refused | None:
    """Return why partitions of a backfill cannot be made again by the deployed definitions; None if they can.

    Whoever asks has named neither assets nor partitions, so that what is wrong with them is told of the backfill.
    """
    try:
        _, cut = backfilled_assets(manifest.nodes, assets)
    except BadChoice as error:
        return refused(
            Code.DEFINITION_CONFLICT,
            f"what backfill {backfill_id} has made is deployed in another way now: {error.message}",
            field="backfill_id",
            value=backfill_id,
            remedy="Deploy the assets as they were, or ask for new backfills of what is deployed now.",
        )
    known = frozenset(cut.keys)
    problems = {key: None if key in known else cut.problem_of_key(key) for key in keys}
    left = [key for key, problem in problems.items() if problem is None]
    if len(left) == len(problems):
        return None
    gone, why = next((key, problem) for key, problem in problems.items() if problem is not None)
    return refused(
        Code.DEFINITION_CONFLICT,
        f"{len(problems) - len(left)} of the {len(problems)} partitions that backfill {backfill_id} has not made are "
        f"none any more, by the definitions that are deployed now: {gone!r:.200} {why}",
        field="backfill_id",
        value=backfill_id,
        remedy=_of_what_is_left(backfill_id, assets, left),
    )


def _of_what_is_left(backfill_id: str, assets: Sequence[str], left: Sequence[str]) -> str:
    if not left:
        return "Nothing of it is left to make; ask for a new backfill of the partitions that there are."
    begin = ["springline", "backfill", "create", *assets]
    if len(left) > _MOST_NAMED:
        command = shlex.join([*begin, "--partitions-from"])
        return (
            f"Make the {len(left)} others by `{command} FILE`; `springline backfill show {backfill_id} -o json` names "
            "what is not done."
        )
    named = shlex.join([*begin, *(part for key in left for part in ("--partition", key))])
    return f"Make what is left by `{named}`."


def _changed(known: KnownBackfill, *, replayed: bool) -> ChangedBackfill:
    row = known.row
    return ChangedBackfill(
        row.backfill_id, row.state, row.total_partitions, known.chunks, replayed, known.assets, known.stale
    )


def _told(refusal: Refusal) -> Refused:
    field = (refusal.field or "").removeprefix("events[0].data.") or None
    return Refused(refusal.model_copy(update={"field": field}))
