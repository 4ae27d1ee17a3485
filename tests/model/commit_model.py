"""The commit protocol of docs/protocol.md#commit-rules as a transition system: rules 2, 3, 4, 6 and 7, and nothing of
our code.

A state is the store (coordinator, log, markers, staged objects), the callers, and writes still under way. Every
storage operation of a caller is one step. A write has three endings: it happens and is answered; its answer is
lost and the write stays *under way*, to happen at any later moment or never; the caller dies with the write under
way. A caller may also die between two steps. A dead caller comes back with the same request and no memory.

`Rules` names each guard of the protocol; with all of them on the model must be clean, and with any one off it
must not be (`test_commit_model.py`).
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.states import (
    FAILED,
    LOST,
    MISSING,
    OK,
    STALE,
    USED,
    Content,
    Coordinator,
    Proc,
    Reservation,
    Scenario,
    State,
    Write,
    again,
    done,
    marker_of,
    restarted,
)


class Model:
    """The steps of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.requests = scenario.requests
        self.rules = scenario.rules

    # -- the store -------------------------------------------------------------------------------------------

    def apply(self, state: State, write: Write) -> tuple[str, State]:
        """Let `write` take effect and return its honest answer."""
        if write.kind == "cas":
            if not write.fresh:
                return FAILED, state
            assert write.coordinator is not None
            procs = tuple(p._replace(fresh=False) if p.fresh else p for p in state.procs)
            waiting = tuple(w for w in state.under_way if w.kind != "cas")
            return OK, state._replace(coordinator=write.coordinator, procs=procs, under_way=waiting)
        if write.kind == "log":
            if write.version < len(state.log):
                return FAILED, state
            assert write.content is not None
            gap = write.version - len(state.log)
            log = (*state.log, *(Content("hole"),) * gap, write.content)
            origins = (*state.origins, *(None,) * gap, write.origin)
            waiting = tuple(w for w in state.under_way if w.kind != "log" or w.version >= len(log))
            return OK, state._replace(log=log, origins=origins, under_way=waiting)
        request = self.requests[write.request]
        if marker_of(state, request.key) is not None:
            return FAILED, state
        markers = tuple(sorted((*state.markers, (request.key, request.payload, write.version))))
        waiting = tuple(w for w in state.under_way if w.kind != "marker" or self.requests[w.request].key != request.key)
        return OK, state._replace(markers=markers, under_way=waiting)

    def matters(self, state: State, write: Write) -> bool:
        """Return whether a write under way could still take effect."""
        if write.kind == "cas":
            return write.fresh
        if write.kind == "log":
            return write.version >= len(state.log)
        return marker_of(state, self.requests[write.request].key) is None

    # -- steps -----------------------------------------------------------------------------------------------

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield every next state with a label for the counterexample."""
        for i, proc in enumerate(state.procs):
            if proc.pc != "done":
                yield from self.step(state, i, proc)
                if state.crashes and proc != restarted(proc):
                    crashed = state._replace(crashes=state.crashes - 1)
                    yield f"{i} dies at {proc.pc}", self.put(crashed, i, restarted(proc))
        for n, write in enumerate(state.under_way):
            rest = state._replace(under_way=state.under_way[:n] + state.under_way[n + 1 :])
            yield f"late {write.kind}", self.apply(rest, write)[1]
        if state.deletes:
            for name in sorted(state.staged, key=str):
                gone = state._replace(staged=state.staged - {name}, deletes=state.deletes - 1)
                yield f"staged {name} deleted", gone
        if state.foreign:
            log = (*state.log, Content("foreign"))
            waiting = tuple(w for w in state.under_way if w.kind != "log" or w.version >= len(log))
            yield (
                "foreign file",
                state._replace(log=log, origins=(*state.origins, None), under_way=waiting, foreign=state.foreign - 1),
            )

    def step(self, state: State, i: int, proc: Proc) -> Iterator[tuple[str, State]]:
        """Yield what caller `i` can do next, with the faults of its writes."""
        write = self.intended(proc, i)
        if write is None:
            yield f"{i} {proc.pc}", self.read(state, i, proc)
            return
        if proc.pc == "reserve":
            proc = proc._replace(attempt=proc.attempt + 1)
            reservation = write.coordinator and write.coordinator.inflight
            if reservation and reservation.content.kind == "many":
                # The merged payload is staged before the reservation is tried; it is nobody else's name.
                state = state._replace(staged=state.staged | {reservation.commit_id})
        answer, after = self.apply(state, write)
        yield f"{i} {proc.pc}: {answer}", self.written(after, i, proc, write, answer)
        if not self.matters(state, write):
            return
        waiting = state._replace(under_way=tuple(sorted((*state.under_way, write), key=repr)))
        if state.lost:
            unclear = self.written(waiting._replace(lost=state.lost - 1), i, proc, write, LOST)
            yield f"{i} {proc.pc}: answer lost", unclear
        if state.crashes:
            died = waiting._replace(crashes=state.crashes - 1)
            yield f"{i} dies in {proc.pc}", self.put(died, i, restarted(proc))

    def put(self, state: State, i: int, proc: Proc) -> State:
        procs = state.procs
        return state._replace(procs=(*procs[:i], proc, *procs[i + 1 :]))

    def intended(self, proc: Proc, i: int) -> Write | None:
        """Return the write that `proc` is about to do, or None if its next step reads."""
        pc = proc.pc
        if pc == "reserve":
            return Write("cas", self.reserved(proc, i), proc.fresh)
        if pc not in ("void", "log", "fill", "clear", "move", "marker", "finalize"):
            return None
        assert proc.view is not None and proc.view.inflight is not None
        latest, reservation = proc.view.latest, proc.view.inflight
        if pc == "void":
            return Write("cas", Coordinator(latest, None), proc.fresh)
        if pc == "log":
            return Write("log", version=reservation.version, content=reservation.content, origin=reservation.staged)
        if pc == "fill":
            content = Content("fill", by=reservation.commit_id)
            return Write("log", version=reservation.version, content=content)
        if pc == "move":
            moved = reservation._replace(version=proc.free)
            return Write("cas", Coordinator(proc.free - 1, moved), proc.fresh)
        if pc == "marker":
            return Write("marker", request=reservation.members[proc.at], version=reservation.version)
        return Write("cas", Coordinator(reservation.version, None), proc.fresh)  # clear, finalize

    def reserved(self, proc: Proc, i: int) -> Coordinator:
        commit_id = (i, proc.attempt + 1)
        members = proc.todo
        payloads = tuple(self.requests[m].payload for m in members)
        forms = tuple(self.requests[m].form for m in members)
        first = self.requests[members[0]]
        if len(members) == 1:
            staged: int | tuple[int, int] = first.staged
            content = Content("one", payloads, forms=forms)
        else:
            staged, content = commit_id, Content("many", payloads, commit_id, forms)
        inflight = Reservation(commit_id, proc.free, first.strict, members, staged, content)
        return Coordinator(proc.free - 1, inflight)

    def written(self, state: State, i: int, proc: Proc, write: Write, answer: str) -> State:
        """Go on after a write that was answered, or whose answer was lost."""
        pc = proc.pc
        if pc in ("reserve", "move"):
            if answer == OK:
                proc = proc._replace(pc="check", view=write.coordinator, fresh=True, at=0)
                proc = proc._replace(owner=pc == "reserve" or proc.owner)
            else:
                proc = again(proc, "ours?" if answer == LOST and pc == "reserve" else "markers")
        elif pc in ("void", "clear"):
            proc = again(proc)
        elif pc in ("log", "fill"):
            proc = self.after_log(state, proc, answer)
        elif pc == "marker":
            if answer != LOST:  # else once more: the next attempt finds what the first one did
                proc = self.after_marker(state, proc)
        else:
            proc = self.after_finalize(proc, answer)
        return self.put(state, i, proc)

    def after_log(self, state: State, proc: Proc, answer: str) -> Proc:
        if answer == LOST:
            return proc
        assert proc.view is not None and proc.view.inflight is not None
        reservation = proc.view.inflight
        if answer == OK:
            return proc._replace(pc="clear" if proc.pc == "fill" else "marker", at=0)
        found = state.log[reservation.version]
        if proc.pc == "log" and not self.rules.compare_bytes:
            return proc._replace(pc="marker", at=0)
        if proc.pc == "log" and not self.rules.read_back:
            return proc._replace(pc="clear" if reservation.strict else "probe")
        if found == reservation.content:
            return proc._replace(pc="marker" if proc.pc == "log" or self.rules.fill_yields else "clear", at=0)
        if found == Content("fill", by=reservation.commit_id) or reservation.strict or proc.pc == "fill":
            return proc._replace(pc="clear")
        return proc._replace(pc="probe") if self.rules.move_appends else proc

    def after_marker(self, state: State, proc: Proc) -> Proc:
        assert proc.view is not None and proc.view.inflight is not None
        reservation = proc.view.inflight
        if proc.at + 1 < len(reservation.members):
            return proc._replace(at=proc.at + 1)
        answers = dict(proc.answers)
        if proc.owner:
            # Answers go out once the markers are written; finalize follows.
            answers.update({m: reservation.version for m in reservation.members})
        todo = tuple(m for m in proc.todo if m not in answers)
        return proc._replace(pc="finalize", at=0, answers=tuple(sorted(answers.items())), todo=todo)

    def after_finalize(self, proc: Proc, answer: str) -> Proc:
        if proc.todo:
            return again(proc)
        if proc.owner and answer != LOST:
            return done(proc)
        return again(proc, "look")

    # -- reads -----------------------------------------------------------------------------------------------

    def read(self, state: State, i: int, proc: Proc) -> State:
        """Do the read that `proc` is about to do and decide."""
        return self.put(state, i, getattr(self, f"read_{proc.pc.rstrip('?')}")(state, i, proc))

    def read_markers(self, state: State, i: int, proc: Proc) -> Proc:
        """First of all: has the request been answered before?"""
        proc = self.answer_from_markers(state, proc, proc.todo)
        # A replay finalizes too: with nothing left to do the caller completes what is in flight.
        return proc._replace(pc="payloads" if proc.todo else "look")

    def answer_from_markers(self, state: State, proc: Proc, asked: tuple[int, ...]) -> Proc:
        answers = dict(proc.answers)
        for member in asked:
            request = self.requests[member]
            marker = marker_of(state, request.key)
            if marker is not None:
                answers[member] = marker[1] if marker[0] == request.payload else USED
        todo = tuple(m for m in proc.todo if m not in answers)
        return proc._replace(answers=tuple(sorted(answers.items())), todo=todo)

    def read_payloads(self, state: State, i: int, proc: Proc) -> Proc:
        """Are the staged payloads there?"""
        gone = tuple(m for m in proc.todo if self.requests[m].staged not in state.staged)
        if gone:
            return self.conflict(proc, gone, MISSING)
        return proc._replace(pc="look", bytes_read=True)

    def conflict(self, proc: Proc, bad: tuple[int, ...], why: int) -> Proc:
        """Go and refuse `bad`; the state that showed the conflict was read before what is in flight is settled."""
        return proc._replace(pc="settle" if self.rules.settle_before_refusal else "refuse", bad=bad, why=why)

    def read_look(self, state: State, i: int, proc: Proc) -> Proc:
        """Read the coordinator; complete what is in flight before anything else."""
        inflight = state.coordinator.inflight
        if inflight is not None:
            mine = inflight.commit_id == (i, proc.attempt)
            proc = proc._replace(view=state.coordinator, fresh=True, owner=mine, at=0)
            return proc._replace(pc=self.first_check(owner=mine))
        if not proc.todo:
            return done(proc)
        return proc._replace(pc="probe", view=state.coordinator, fresh=True)

    def read_ours(self, state: State, i: int, proc: Proc) -> Proc:
        """After an unclear reservation: our own `commit_id` there means ours, else start over."""
        inflight = state.coordinator.inflight
        if inflight is None or (inflight.commit_id != (i, proc.attempt) and self.rules.check_commit_id):
            return again(proc)
        proc = proc._replace(view=state.coordinator, fresh=True, owner=True, at=0)
        if inflight.commit_id != (i, proc.attempt):
            # Without the check the caller believes in its own reservation at that version.
            mistaken = self.reserved(proc._replace(free=inflight.version, attempt=proc.attempt - 1), i)
            proc = proc._replace(view=mistaken)
        return proc._replace(pc=self.first_check(owner=True))

    def first_check(self, *, owner: bool) -> str:
        if self.rules.owner_reads_markers if owner else self.rules.helper_reads_markers:
            return "check"
        return "payload"

    def read_probe(self, state: State, i: int, proc: Proc) -> Proc:
        """Find the first free version; there decide whether a request is stale."""
        assert proc.view is not None
        free = len(state.log)
        if proc.view.inflight is not None:
            return proc._replace(pc="move", free=free)
        proc = proc._replace(free=free)
        stale = tuple(m for m in proc.todo if self.requests[m].strict and free - 1 != self.requests[m].read_version)
        if stale:
            return self.conflict(proc, stale, STALE)
        return proc._replace(pc="reserve")

    def read_check(self, state: State, i: int, proc: Proc) -> Proc:
        """Read the members' markers, after having read the reservation: one elsewhere makes it void."""
        assert proc.view is not None and proc.view.inflight is not None
        reservation = proc.view.inflight
        if proc.owner and not self.rules.owner_reads_markers:
            return proc._replace(pc="payload")
        for member in reservation.members:
            request = self.requests[member]
            marker = marker_of(state, request.key)
            if marker is None:
                continue
            if marker != (request.payload, reservation.version) or not self.rules.own_marker_is_ours:
                return proc._replace(pc="void")
        return proc._replace(pc="payload")

    def read_payload(self, state: State, i: int, proc: Proc) -> Proc:
        """Read the reservation's staged bytes."""
        assert proc.view is not None and proc.view.inflight is not None
        if proc.owner and proc.bytes_read and not self.rules.payload_after_reservation:
            return proc._replace(pc="log")
        if proc.view.inflight.staged in state.staged:
            return proc._replace(pc="log")
        if not self.rules.abandon:
            return proc
        return proc._replace(pc="fill" if self.rules.fill else "void")

    def read_settle(self, state: State, i: int, proc: Proc) -> Proc:
        """Before a refusal: complete what is in flight, then start over."""
        if state.coordinator.inflight is None:
            return proc._replace(pc="refuse")
        return self.read_look(state, i, proc)

    def read_refuse(self, state: State, i: int, proc: Proc) -> Proc:
        """Read the markers once more; whoever has none is refused."""
        if self.rules.reread_before_conflict:
            proc = self.answer_from_markers(state, proc, proc.bad)
        answers = dict(proc.answers) | {m: proc.why for m in proc.bad if m in proc.todo}
        todo = tuple(m for m in proc.todo if m not in answers)
        proc = proc._replace(answers=tuple(sorted(answers.items())), todo=todo)
        return again(proc) if proc.todo else done(proc)
