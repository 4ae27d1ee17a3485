"""The status of a LedgerWorkflow, and the Markdown that the Web UI shows of it (tab User Metadata)."""

from __future__ import annotations

from collections.abc import Iterable

from springline.sequencer.messages import WorkspaceRef
from workflows.ledger_messages import LedgerStatus
from workflows.ledger_progress import time_of
from workflows.ledger_rounds import Rounds

ABOUT = """\
The one sequencer of this workspace's ledger. A round takes all requests that wait together:
`admit` judges them and creates the round's record (from here on its events are kept), `append_events` writes event
objects and request markers while `fold` folds them and writes the new manifest, `publish` moves the pointer (from here
on readers see them), then the answers go out. Foreign events come in through `admit_foreign`. A run begins with
`open_ledger`, which finds rounds that somebody else left. A step that dies is repeated and finds what it had done;
attempts above 1 in the history are recoveries.

**When it is stuck**: a pending activity with many attempts names its trouble under *Pending Activities*. The store
does not answer: `springline doctor`. An object is damaged: the message names it and what to do. Nothing is lost
meanwhile: what `admit` has recorded is finished by whoever comes, and any start of this workflow tries again.
"""
"""Static details of the workflow, in Markdown."""


def status_of(rounds: Rounds, *, draining: bool) -> LedgerStatus:
    """Return the answer of the query `status`."""
    progress, head, accepted = rounds.progress, rounds.last_head, list(rounds.accepted.values())
    return LedgerStatus(
        phase=progress.phase,
        loading=progress.loading,
        waiting_requests=len(rounds.appends) + len(rounds.ingests) + len(rounds.switches),
        waiting_events=rounds.appends.units,
        waiting_paths=rounds.ingests.units,
        lag_events=sum(one.round.events for one in accepted),
        lag_since_ms=min((one.since_ms for one in accepted), default=None),
        events_per_second=progress.events_per_second,
        head_manifest_id=head and head.manifest_id,
        head_revision=head and head.manifest_revision,
        head_events=head.events if head else 0,
        watermark=head and head.last_event_id,
        digest=progress.digest,
        rounds=progress.rounds,
        appended=progress.appended,
        replayed=progress.replayed,
        refused=progress.refused,
        ingested=progress.ingested,
        setbacks=progress.setbacks,
        switched=progress.switched,
        recent_rounds=list(progress.recent),
        retried=list(progress.retried),
        deferred=rounds.deferred.shown(),
        damaged=list(progress.damaged),
        failure=progress.failure,
        draining=draining,
    )


def describe(workspace: WorkspaceRef, status: LedgerStatus, rows: Iterable[str]) -> str:
    """Return the current details: lag, rate, what is published, what was recovered, and `rows` of the last rounds."""
    lag = "none"
    if status.lag_since_ms is not None:
        lag = f"{status.lag_events} event(s) kept and not visible, the oldest since {time_of(status.lag_since_ms)}"
    lines = [
        f"**Ledger** of `{workspace.tenant}/{workspace.workspace}`",
        "",
        f"**Now:** {status.phase}" + (f" ({status.loading})" if status.loading else ""),
        "",
        f"**Lag:** {lag}. {status.events_per_second:g} events/s over the recent rounds.",
        "",
        f"{status.appended} appended, {status.replayed} replayed, {status.refused} refused request(s) and "
        f"{status.ingested} foreign event(s) in {status.rounds} round(s); {status.waiting_requests} waiting.",
    ]
    if status.head_revision:
        lines += [
            "",
            f"**Published:** revision `{status.head_revision}`, manifest `{status.head_manifest_id}`, "
            f"{status.head_events} event(s) up to `{status.watermark}`"
            + (f", digest `{status.digest}`" if status.digest else ""),
        ]
    if status.failure:
        lines += ["", f"**The last step failed for good:** {_plain(status.failure)}"]
    if status.damaged:
        lines += ["", "**Something else stands at the place of** (an operator must look; nobody else is held up)", ""]
        lines += [f"- `{path}`" for path in status.damaged]
    if status.switched:
        lines += ["", f"{status.switched} rebuilt state(s) switched in."]
    if status.setbacks:
        lines += ["", f"Another publisher was faster {status.setbacks} time(s); nothing was lost."]
    if status.retried:
        lines += ["", "**Steps that were interrupted and repeated** (same names, same bytes)", ""]
        lines += [
            f"- `{one.step}`{'' if one.round is None else f' of round {one.round}'}: attempt {one.attempts} succeeded"
            for one in status.retried
        ]
    if status.deferred:
        lines += ["", f"**Deferred:** {len(status.deferred)} foreign event(s) from the future", ""]
        lines += [f"- `{one.path}`, due {time_of(one.due_ms)}" for one in status.deferred[:5]]
    if rows:
        lines += ["", "| Round | Events | Requests | Written as | Took | Visible at | Revision |"]
        lines += ["|---|---|---|---|---|---|---|", *rows]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Return text of an error so that it cannot look like Markdown."""
    return "`" + text.replace("`", "'").replace("\n", " ")[:1000] + "`"
