"""Reserving the next version for a round: the step that decides which requests commit now.

See docs/protocol.md#commits, docs/protocol.md#commit-rounds.

Nothing is refused before the reservation in flight is complete and the markers were read once more after that
(docs/protocol.md#rule-6): a request that a dead owner had already written to the log must never be refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from springline import paths
from springline.batching import FORESEEN
from springline.commit.complete import (
    Settled,
    answer_named_keys,
    finalize,
    read_markers,
    rebuild_coordinator,
    settle,
)
from springline.commit.requests import JUDGED_AT_ONCE_BYTES, StoredRequest, answer_of_marker, failed, read_requests
from springline.commit.snapshot import keeps_files, probe_by_hint, read_last_checkpoint
from springline.commit.table import CommitTable, Held, Reserved, is_unchanged
from springline.delta.compatibility import judge_against_table
from springline.delta.conflicts import MAX_READ_LAG, version_refusal, versions_in_question
from springline.delta.coordinator import Coordinator, Inflight, encode_member
from springline.delta.features import require_supported
from springline.delta.identity import sha256_hex
from springline.delta.markers import Marker, is_own_reservation
from springline.delta.messages import (
    CommitMode,
    CommitOutcome,
    CommitRequest,
    Reservation,
    RoundOrder,
    RoundResult,
    SettledReservation,
    fitting,
)
from springline.delta.payload import Payload
from springline.delta.properties import interval_of
from springline.delta.rounds import Candidate, choose_round, merged_payload, reservation, reservation_of_one
from springline.errors import Code, Refusal, Refused
from springline.storage.port import StoreRetry
from springline.storage.resolve import Other, put_once
from springline.storage.together import together

ATTEMPTS = 16


async def reserve(table: CommitTable, order: RoundOrder) -> RoundResult:
    """Answer the requests that can be answered and reserve the next version for the rest.

    If a round is `finished`, the same compare-and-swap also finalizes it (docs/protocol.md#commit-rounds). Safe to
    repeat with the same order and to run twice at once.
    """
    result = await _Reserving(table, order).run()
    if order.finished is not None:
        table.reservations.drop(order.finished.commit_id)
    return result


class _Reserving:
    def __init__(self, table: CommitTable, order: RoundOrder) -> None:
        self.table = table
        self.order = order
        self.reread = order.finished is None
        self.throttled_before = table.throttled
        self.outcomes: dict[str, CommitOutcome] = {}
        self.settled: list[SettledReservation] = []
        self.checkpoint_interval: int | None = None

    async def run(self) -> RoundResult:
        for _ in range(ATTEMPTS):
            result = await self._attempt()
            if result is not None:
                return result
            self.reread = True
        raise StoreRetry(f"the coordinator of table {self.table.table_id} changed under {ATTEMPTS} attempts")

    async def _attempt(self) -> RoundResult | None:
        """Try once; None to start over with the markers."""
        table = self.table
        waiting = [r for r in self.order.requests if r.idempotency_key not in self.outcomes]
        held, found = await together(self._coordinator(), read_requests(table, waiting))
        inflight = held.state.inflight
        if inflight is not None:
            if is_own_reservation(inflight, self.order.round_id, waiting):
                return self._reserved(Reserved(inflight, held.token), _keys(waiting), resumed=True)
            self.settled += map(_told, await settle(table, held))
            return None
        latest = await self._latest(held.state.latest_version, found)
        if await self._are_in_log(held.state.latest_version, latest, found):
            return None
        for one in found:
            if one.marker is not None:
                self.outcomes[one.key] = await self._replayed(one, one.marker)
        candidates, refusals = await self._judge(found, latest)
        if refusals and not await self._confirm(held, found, refusals):
            return None
        chosen, log = self._chosen(candidates)
        if not chosen:
            if self.order.finished is not None:
                await finalize(table, self.order.finished)
            return self._result()
        new = await self._reservation(chosen, log, latest)
        if new is None:
            return await self._staged_before(waiting)
        token = await table.swap(Coordinator(latest, new), held.token)
        if token is None:
            return None
        return self._reserved(Reserved(new, token, log), [one.member.key for one in candidates])

    def _reserved(self, reserved: Reserved, waiting: Sequence[str], *, resumed: bool = False) -> RoundResult:
        self.table.remember(reserved)
        inflight = reserved.inflight
        told = Reservation(
            commit_id=inflight.commit_id,
            identity=inflight.identity,
            version=inflight.version,
            coordinator_version=reserved.token,
            keys=list(inflight.keys),
            resumed=resumed,
        )
        members = frozenset(inflight.keys)
        return self._result(reservation=told, deferred=[key for key in waiting if key not in members])

    def _result(
        self, *, reservation: Reservation | None = None, deferred: Sequence[str] = (), redo: bool = False
    ) -> RoundResult:
        return RoundResult(
            outcomes=fitting(list(self.outcomes.values())),
            deferred=list(deferred),
            reservation=reservation,
            redo=redo,
            settled=self.settled,
            throttled=self.table.throttled - self.throttled_before,
            paced=self.table.pace.slow,
            checkpoint_interval=self.checkpoint_interval,
        )

    async def _coordinator(self) -> Held:
        """Return the coordinator, with the round before taken as finalized; its token guards the next swap."""
        finished = self.order.finished
        if finished is not None and not self.reread:
            return Held(Coordinator(finished.version), finished.coordinator_version)
        held = await self.table.read_coordinator()
        if held is None:
            return await rebuild_coordinator(self.table)
        inflight = held.state.inflight
        if (
            finished is not None
            and inflight is not None
            and (inflight.commit_id, inflight.version) == (finished.commit_id, finished.version)
        ):
            return Held(Coordinator(finished.version), held.token)
        return held

    async def _latest(self, latest: int, found: Sequence[StoredRequest]) -> int:
        """Catch up with versions that other writers committed, if a `read_version` shows that there may be some.

        See docs/protocol.md#rule-7.
        """
        members = [one.candidate.member for one in found if one.candidate is not None]
        if not any(
            one.read_version > latest or (one.mode is CommitMode.STRICT and one.read_version != latest)
            for one in members
        ):
            return latest
        hint = await read_last_checkpoint(self.table.store, self.table.root)
        return (await probe_by_hint(self.table.store, self.table.root, latest, hint))[0]

    async def _are_in_log(self, known: int, latest: int, found: Sequence[StoredRequest]) -> bool:
        """Say whether versions unknown to the coordinator have requests that seemed new; write their markers."""
        unknown = range(max(known + 1, latest - MAX_READ_LAG), latest + 1)
        named = await answer_named_keys(self.table, unknown)
        return any(one.marker is None and one.key in named for one in found)

    async def _replayed(self, one: StoredRequest, marker: Marker) -> CommitOutcome:
        try:
            return await answer_of_marker(self.table, one, marker)
        except Exception as error:
            return CommitOutcome(idempotency_key=one.key, refusal=failed(one.key, error))

    async def _judge(self, found: Sequence[StoredRequest], latest: int) -> tuple[list[Candidate], dict[str, Refusal]]:
        candidates: list[Candidate] = []
        refusals: dict[str, Refusal] = {}
        for one in found:
            if one.marker is not None:
                continue
            if one.candidate is None:
                assert one.refusal is not None
                refusals[one.key] = one.refusal
                continue
            try:
                refusal = await self._version_refusal(one.candidate, latest)
                refusal = refusal or await self._table_refusal(one.candidate.payload, latest)
            except Exception as error:
                refusal = failed(one.key, error)
            if refusal is None:
                candidates.append(one.candidate)
            else:
                refusals[one.key] = refusal
        if candidates:
            metadata = candidates[0].payload.metadata or (await self.table.versions.state(latest)).metadata
            self.checkpoint_interval = interval_of(metadata)
        return candidates, refusals

    def _chosen(self, candidates: list[Candidate]) -> tuple[tuple[Candidate, ...], bytes]:
        """Choose the requests that share the version; refuse those that fit into none, and remove them.

        Returns the log bytes, too.
        """
        try:
            return self._put_together(candidates)
        except Exception as error:
            if isinstance(error, FORESEEN):
                raise
        for one in list(candidates):
            try:
                self._put_together([one])
            except Exception as error:
                candidates.remove(one)
                key = one.member.key
                self.outcomes[key] = CommitOutcome(idempotency_key=key, refusal=failed(key, error))
        return self._put_together(candidates)

    def _put_together(self, candidates: Sequence[Candidate]) -> tuple[tuple[Candidate, ...], bytes]:
        """Choose, and check that the log bytes of the chosen can be written."""
        chosen = choose_round(candidates)
        if not chosen:
            return (), b""
        orjson.dumps([encode_member(one.member) for one in chosen])
        if len(chosen) == 1:
            return chosen, chosen[0].payload.data
        return chosen, merged_payload(self.order.round_id, self.order.now_ms, chosen)

    async def _version_refusal(self, candidate: Candidate, latest: int) -> Refusal | None:
        mode, read_version = candidate.member.mode, candidate.member.read_version
        later = await self.table.versions.read(versions_in_question(mode, read_version, latest))
        return version_refusal(mode, read_version, candidate.payload.txn_apps, latest, later, self.table.root)

    async def _table_refusal(self, payload: Payload, latest: int) -> Refusal | None:
        """Judge the payload against the table, and the table's features as it would leave them.

        See docs/protocol.md#commits.
        """
        try:
            state = await self.table.versions.state(latest)
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
            rules = None if brought else self.table.versions.rules(state)
            if len(payload.data) > JUDGED_AT_ONCE_BYTES:
                doubt = await asyncio.to_thread(judge_against_table, payload, state.protocol, state.metadata, rules)
            else:
                doubt = judge_against_table(payload, state.protocol, state.metadata, rules)
            if doubt is None or not await keeps_files(self.table.store, self.table.root, latest, doubt.removed):
                return None
        except Refused as error:
            return error.refusal
        return doubt.refusal

    async def _confirm(self, held: Held, found: Sequence[StoredRequest], refusals: dict[str, Refusal]) -> bool:
        """Answer refusals that still stand with nothing in flight and the markers read again; False to start over.

        The versions that showed a conflict were read after `held`. If the coordinator has changed since, a reservation
        came between, and the version that made a request stale can be this request's own, its marker still to come.
        """
        if not self.reread:
            return False
        doubted = [one for one in found if one.key in refusals]
        # Reading again helps neither an invalid key nor a damaged marker.
        unreadable = (Code.INVALID_KEY, Code.STORED_DAMAGED)
        wellformed = [one for one in doubted if one.refusal is None or one.refusal.code not in unreadable]
        current, markers = await together(
            self.table.read_coordinator(), read_markers(self.table, [one.key for one in wellformed])
        )
        if not is_unchanged(held, current):
            return False
        for one, marker in zip(wellformed, markers, strict=True):
            if marker is not None:
                del refusals[one.key]
                self.outcomes[one.key] = await self._replayed(one, marker)
        for key, refusal in refusals.items():
            self.outcomes[key] = CommitOutcome(idempotency_key=key, refusal=refusal)
        return True

    async def _reservation(self, chosen: Sequence[Candidate], log: bytes, latest: int) -> Inflight | None:
        """Build the reservation; for several members first stage the log bytes. None if other bytes are staged."""
        members = [one.member for one in chosen]
        if len(members) == 1:
            return reservation_of_one(latest + 1, members[0], self.order.now_ms)
        path = paths.delta_staged(self.table.table_id, self.order.round_id)
        stored = await put_once(self.table.store, path, log)
        if isinstance(stored, Other):
            return None
        return reservation(
            commit_id=self.order.round_id,
            version=latest + 1,
            staged_path=path,
            staged_version=stored.version,
            payload_sha256=sha256_hex(log),
            now_ms=self.order.now_ms,
            members=members,
        )

    async def _staged_before(self, waiting: Sequence[CommitRequest]) -> RoundResult:
        """Go on with the reservation of an earlier attempt, which staged other members, or begin again."""
        held = await self.table.read_coordinator()
        reserved = held.reserved if held else None
        if reserved is not None and reserved.inflight.commit_id == self.order.round_id:
            return self._reserved(reserved, _keys(waiting), resumed=True)
        return self._result(redo=True)


def _keys(requests: Sequence[CommitRequest]) -> list[str]:
    return [request.idempotency_key for request in requests]


def _told(settled: Settled) -> SettledReservation:
    inflight = settled.inflight
    return SettledReservation(
        kind=settled.kind, commit_id=inflight.commit_id, version=inflight.version, members=len(inflight.keys)
    )
