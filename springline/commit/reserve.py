"""Reserving the next version for a round: the step that decides who commits now.

See docs/protocol.md#commits, docs/protocol.md#commit-rounds.

Nothing is refused before what is in flight is complete and the markers were read once more after that
(docs/protocol.md#rule-6): a request that a dead owner had already carried into the log must never be told that it lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field

import orjson

from springline import paths
from springline.batching import FORESEEN
from springline.commit.bootstrap import rebuild_coordinator
from springline.commit.complete import Settled, answer_named_keys, finalize, read_markers, settle
from springline.commit.requests import JUDGED_AT_ONCE_BYTES, Examined, answer_of_marker, examine, failed
from springline.commit.snapshot import keeps_files, probe_by_hint, read_last_checkpoint
from springline.commit.table import Held, Reserved, Table, is_unchanged
from springline.delta.compatibility import judge_fit
from springline.delta.conflicts import append_conflict, version_conflict
from springline.delta.coordinator import Coordinator, Inflight
from springline.delta.features import require_supported
from springline.delta.identity import sha256_hex
from springline.delta.markers import Marker, is_own_reservation
from springline.delta.properties import interval_of
from springline.delta.request import CommitRequest, Mode, Outcome
from springline.delta.rounds import Eligible, choose_round, merged_payload, reservation
from springline.errors import Code, Refusal, Refused
from springline.storage.port import StoreRetry
from springline.storage.resolve import Other, put_once
from springline.storage.together import together

ATTEMPTS = 16
MAX_READ_LAG = 10_000
"""Versions an append may lie behind: each later one must be checked for changes of metadata and txn."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round is made of. `round_id`: a UUIDv7 chosen by the workflow; `now_ms`: its time, Unix ms."""

    round_id: str
    now_ms: int
    requests: Sequence[CommitRequest]


@dataclass(slots=True)
class ReserveResult:
    """What a round came to: answers that need no version, the reservation if one was made, and who must wait.

    `redo` asks for the same again under a new round id: that id's staged payload already holds other bytes.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    deferred: list[str] = field(default_factory=list)
    reserved: Reserved | None = None
    resumed: bool = False
    redo: bool = False
    settled: list[Settled] = field(default_factory=list)
    checkpoint_interval: int | None = None
    """Versions between checkpoints as the table's own properties want it; None: they do not say, or were not read."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The round before, whose log and markers are written and which is still to be finalized."""

    inflight_id: str
    version: int
    token: str | None


async def reserve(table: Table, round_: Round, finished: Finished | None = None) -> ReserveResult:
    """Answer what can be answered and reserve the next version for the rest.

    With `finished`, the same compare-and-swap also finalizes the round before (docs/protocol.md#commit-rounds). Safe to
    repeat with the same round and to run twice at once.
    """
    return await _Reserving(table, round_, finished).run()


class _Reserving:
    def __init__(self, table: Table, round_: Round, finished: Finished | None) -> None:
        self.table = table
        self.round = round_
        self.finished = finished
        self.result = ReserveResult()
        self.reread = finished is None

    async def run(self) -> ReserveResult:
        for _ in range(ATTEMPTS):
            if await self._attempt():
                return self.result
            self.reread = True
        raise StoreRetry(f"the coordinator of table {self.table.table_id} changed under {ATTEMPTS} attempts")

    async def _attempt(self) -> bool:
        """Try once; True if the result stands, False to start over with the markers."""
        table = self.table
        waiting = [r for r in self.round.requests if r.idempotency_key not in self.result.outcomes]
        held, examined = await together(self._coordinator(), examine(table, waiting))
        inflight = held.state.inflight
        if inflight is not None:
            if is_own_reservation(inflight, self.round.round_id, waiting):
                self._resume(inflight, held, waiting)
                return True
            self.result.settled += await settle(table, held)
            return False
        latest = await self._latest(held.state.latest_version, examined)
        if await self._are_in_log(held.state.latest_version, latest, examined):
            return False
        await self._answer_replays(examined)
        eligible, refusals = await self._judge(examined, latest)
        if refusals and not await self._confirm(held, examined, refusals):
            return False
        chosen = self._chosen(eligible)
        if not chosen:
            await self._finalize_alone()
            return True
        new = await self._reservation(chosen, latest, waiting)
        if new is None:
            return True
        inflight, payload = new
        token = await table.swap(Coordinator(latest, inflight), held.token)
        if token is None:
            return False
        self._reserved(inflight, token, payload)
        self.result.deferred = [
            one.request.idempotency_key for one in eligible if one.request.idempotency_key not in inflight.keys
        ]
        return True

    async def _coordinator(self) -> Held:
        """Return the coordinator, with the round before taken as finalized; its token guards what follows."""
        finished = self.finished
        if finished is not None and not self.reread:
            return Held(Coordinator(finished.version), finished.token)
        held = await self.table.read_coordinator()
        if held is None:
            return await rebuild_coordinator(self.table)
        inflight = held.state.inflight
        if (
            finished is not None
            and inflight is not None
            and (inflight.commit_id, inflight.version) == (finished.inflight_id, finished.version)
        ):
            return Held(Coordinator(finished.version), held.token)
        return held

    def _resume(self, inflight: Inflight, held: Held, waiting: Sequence[CommitRequest]) -> None:
        self.result.resumed = True
        self._reserved(inflight, held.token, None)
        self.result.deferred = [r.idempotency_key for r in waiting if r.idempotency_key not in inflight.keys]

    def _reserved(self, inflight: Inflight, token: str | None, payload: bytes | None) -> None:
        reserved = Reserved(inflight, token, payload)
        self.table.reservations.put(inflight.commit_id, reserved, weight=len(payload or b""))
        self.result.reserved = reserved

    async def _latest(self, latest: int, examined: Sequence[Examined]) -> int:
        """Catch up with versions others wrote, when a `read_version` says that there may be some.

        See docs/protocol.md#rule-7.
        """
        doubtful = any(
            request.read_version > latest or (request.mode is Mode.STRICT and request.read_version != latest)
            for request in (one.request for one in examined if one.marker is None and one.payload is not None)
        )
        if not doubtful:
            return latest
        hint = await read_last_checkpoint(self.table.store, self.table.root)
        return (await probe_by_hint(self.table.store, self.table.root, latest, hint))[0]

    async def _are_in_log(self, known: int, latest: int, examined: Sequence[Examined]) -> bool:
        """Say whether versions that the coordinator does not know hold requests that seemed new; they are answered."""
        unknown = range(max(known + 1, latest - MAX_READ_LAG), latest + 1)
        named = await answer_named_keys(self.table, unknown)
        return any(one.marker is None and one.request.idempotency_key in named for one in examined)

    async def _answer_replays(self, examined: Sequence[Examined]) -> None:
        for one in examined:
            if one.marker is not None:
                self.result.outcomes[one.request.idempotency_key] = await self._replayed(one, one.marker)

    async def _replayed(self, one: Examined, marker: Marker) -> Outcome:
        try:
            return await answer_of_marker(self.table, one, marker)
        except Exception as error:
            key = one.request.idempotency_key
            return Outcome(idempotency_key=key, refusal=failed(one.request, error))

    async def _judge(self, examined: Sequence[Examined], latest: int) -> tuple[list[Eligible], dict[str, Refusal]]:
        eligible: list[Eligible] = []
        refusals: dict[str, Refusal] = {}
        for one in examined:
            key = one.request.idempotency_key
            if one.marker is not None:
                continue
            if one.payload is None:
                assert one.refusal is not None
                refusals[key] = one.refusal
                continue
            candidate = Eligible(one.request, one.payload)
            try:
                refusal = await self._version_refusal(candidate, latest)
                refusal = refusal or await self._table_refusal(candidate, latest)
            except Exception as error:
                refusal = failed(one.request, error)
            if refusal is None:
                eligible.append(candidate)
            else:
                refusals[key] = refusal
        if eligible:
            metadata = eligible[0].payload.metadata or (await self.table.facts.state(latest)).metadata
            self.result.checkpoint_interval = interval_of(metadata)
        return eligible, refusals

    def _chosen(self, eligible: list[Eligible]) -> tuple[Eligible, ...]:
        """Choose who shares the version; whoever cannot be put into any is refused, and taken out of `eligible`."""
        try:
            return self._put_together(eligible)
        except Exception as error:
            if isinstance(error, FORESEEN):
                raise
        for one in list(eligible):
            try:
                self._put_together([one])
            except Exception as error:
                eligible.remove(one)
                key = one.request.idempotency_key
                self.result.outcomes[key] = Outcome(idempotency_key=key, refusal=failed(one.request, error))
        return self._put_together(eligible)

    def _put_together(self, eligible: Sequence[Eligible]) -> tuple[Eligible, ...]:
        """Choose, and see that what is written of the chosen can be written."""
        chosen = choose_round(eligible)
        if len(chosen) > 1:
            merged_payload(self.round.round_id, self.round.now_ms, chosen)
        orjson.dumps([astuple(one.member) for one in chosen])
        return chosen

    async def _version_refusal(self, candidate: Eligible, latest: int) -> Refusal | None:
        """Judge `read_version` against `latest`: exactly it for a strict commit, nothing in the way for an append."""
        request = candidate.request
        read = request.read_version
        if read > latest:
            return version_conflict(
                Code.FUTURE_READ_VERSION,
                f"read_version {read} is in the future: the table's latest version is {latest}",
                read_version=read,
                latest=latest,
                since=(),
            )
        if request.mode is Mode.STRICT:
            if read == latest:
                return None
            since = await self.table.facts.since(max(read, latest - 100), latest)
            message = f"read_version {read} is stale: the table's latest version is {latest}"
            return version_conflict(Code.STALE_READ_VERSION, message, read_version=read, latest=latest, since=since)
        if latest - read > MAX_READ_LAG:
            message = f"read_version {read} lies more than {MAX_READ_LAG} versions behind the latest, {latest}"
            return version_conflict(Code.STALE_READ_VERSION, message, read_version=read, latest=latest, since=())
        later = await self.table.facts.since(read, latest)
        conflict = append_conflict(read, candidate.payload.txn_apps, later)
        if conflict is None:
            return None
        code, message = conflict
        unreadable = [self.table.log_path(one.version) for one in later if not one.readable]
        if unreadable and code is Code.METADATA_CHANGED:
            message += f"; {unreadable[0]} cannot be read, or is gone, and counts as such a change"
        return version_conflict(code, message, read_version=read, latest=latest, since=later)

    async def _table_refusal(self, candidate: Eligible, latest: int) -> Refusal | None:
        """Judge the payload against the table, and the table's features as it would leave them.

        See docs/protocol.md#commits.
        """
        payload = candidate.payload
        try:
            state = await self.table.facts.state(latest)
            protocol = payload.protocol or state.protocol
            brought = payload.protocol is not None or payload.metadata is not None
            if payload.incomplete is not None and (brought or protocol is not None or state.metadata is not None):
                return payload.incomplete
            if protocol is None:
                return None
            try:
                require_supported(protocol, payload.metadata or state.metadata, field="payload" if brought else "table")
            except Refused as error:
                if brought or state.source is None:
                    raise
                return error.refusal.model_copy(
                    update={"message": f"{error.refusal.message}; it was read from {state.source}"}
                )
            rules = None if brought else self.table.facts.rules(state)
            if len(payload.data) > JUDGED_AT_ONCE_BYTES:
                doubt = await asyncio.to_thread(judge_fit, payload, state.protocol, state.metadata, rules)
            else:
                doubt = judge_fit(payload, state.protocol, state.metadata, rules)
            if doubt is None or not await keeps_files(self.table.store, self.table.root, latest, doubt.removed):
                return None
        except Refused as error:
            return error.refusal
        return doubt.refusal

    async def _confirm(self, held: Held, examined: Sequence[Examined], refusals: dict[str, Refusal]) -> bool:
        """Answer refusals that still stand with nothing in flight and the markers read again; False to start over.

        What showed a conflict was read after `held`. If the coordinator has changed since, a reservation came
        between, and the version that made a request stale can be that very request's, its marker still to come.
        """
        if not self.reread:
            return False
        doubted = [one for one in examined if one.request.idempotency_key in refusals]
        # Neither a key that is none nor a marker that cannot be read becomes an answer by reading again.
        unreadable = (Code.INVALID_KEY, Code.STORED_DAMAGED)
        wellformed = [one for one in doubted if one.refusal is None or one.refusal.code not in unreadable]
        current, markers = await together(
            self.table.read_coordinator(),
            read_markers(self.table, [one.request.idempotency_key for one in wellformed]),
        )
        if not is_unchanged(held, current):
            return False
        for one, marker in zip(wellformed, markers, strict=True):
            if marker is not None:
                key = one.request.idempotency_key
                del refusals[key]
                self.result.outcomes[key] = await self._replayed(one, marker)
        for key, refusal in refusals.items():
            self.result.outcomes[key] = Outcome(idempotency_key=key, refusal=refusal)
        return True

    async def _finalize_alone(self) -> None:
        if self.finished is None:
            return
        held = await self.table.read_coordinator()
        inflight = held.state.inflight if held else None
        if (
            held
            and inflight
            and (inflight.commit_id, inflight.version)
            == (
                self.finished.inflight_id,
                self.finished.version,
            )
        ):
            await finalize(self.table, inflight, held.token)

    async def _reservation(
        self, chosen: tuple[Eligible, ...], latest: int, waiting: Sequence[CommitRequest]
    ) -> tuple[Inflight, bytes] | None:
        """Build the reservation; several members first stage their merged payload. None if the result now stands."""
        members = [one.member for one in chosen]
        if len(chosen) == 1:
            request, payload = chosen[0].request, chosen[0].payload
            inflight = reservation(
                commit_id=request.idempotency_key,
                version=latest + 1,
                staged_path=request.staged_path,
                staged_version=request.staged_version,
                payload_sha256=payload.sha256,
                now_ms=self.round.now_ms,
                members=members,
            )
            return inflight, payload.data
        data = merged_payload(self.round.round_id, self.round.now_ms, chosen)
        path = paths.delta_staged(self.table.table_id, self.round.round_id)
        stored = await put_once(self.table.store, path, data)
        if isinstance(stored, Other):
            # An earlier attempt of this round staged other members; it may even have reserved.
            held = await self.table.read_coordinator()
            if held and held.state.inflight and held.state.inflight.commit_id == self.round.round_id:
                self._resume(held.state.inflight, held, waiting)
            else:
                self.result.redo = True
            return None
        inflight = reservation(
            commit_id=self.round.round_id,
            version=latest + 1,
            staged_path=path,
            staged_version=stored.version,
            payload_sha256=sha256_hex(data),
            now_ms=self.round.now_ms,
            members=members,
        )
        return inflight, data
