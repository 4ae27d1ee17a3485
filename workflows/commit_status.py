"""The Markdown that the Web UI shows for a running CommitWorkflow (tab User Metadata)."""

from __future__ import annotations

from springline.delta.messages import TableRef
from workflows.messages import CommitStatus

ABOUT = """\
The one sequencer of this table. Each round commits one Delta version for all requests that wait together:
`reserve` (compare-and-swap of the coordinator object) → `write_log` (create-only; from here on it is committed) →
`write_marker` (create-only; from here on each key has its answer) → `finalize`, or `finalize_and_reserve` when more
work waits. A step that dies is repeated and finds what it had done; attempts above 1 in the history are recoveries.
"""
"""Static details of the workflow, in Markdown."""

_MEANING = {
    "completed": "completed: the log and markers were written for it",
    "abandoned": "abandoned: its staged payload was gone, the version is filled with an empty commit",
    "released": "released: another writer took its version",
    "void": "cleared: a member was already committed",
}


def describe(table: TableRef, name: str | None, status: CommitStatus) -> str:
    """Return the current details: what is going on, the last rounds, and what was recovered."""
    lines = [
        f"**Table** {'' if name is None else f'**{name}** '}`{table.table_id}` of `{table.tenant}/{table.workspace}`",
        "",
        f"**Now:** {status.phase}",
        "",
        f"{status.committed} committed in {status.rounds} version(s), {status.replayed} replayed, "
        f"{status.refused} refused, {status.waiting} waiting.",
    ]
    if status.failure:
        shown = status.failure.replace("`", "'").replace("\n", " ")[:1000]
        lines += ["", f"**The last round could not be begun, and its callers were told:** `{shown}`"]
    if status.retried:
        lines += ["", "**Steps that were interrupted and repeated** (same key, same version)", ""]
        lines += [
            f"- `{one.step}` of version {'?' if one.version is None else one.version}: attempt {one.attempts} succeeded"
            for one in status.retried
        ]
    if status.recovered:
        lines += ["", "**Reservations found in flight and brought to an end**", ""]
        lines += [
            f"- version {one.version}, {one.members} request(s), {_MEANING[one.kind]} (`{one.commit_id}`)"
            for one in status.recovered
        ]
    if status.recent_rounds:
        lines += ["", "| Version | Requests | Mode | Commit |", "|---|---|---|---|"]
        lines += [
            f"| {one.version} | {one.members} | {one.mode} | `{one.commit_id}` |"
            for one in reversed(status.recent_rounds)
        ]
    return "\n".join(lines)
