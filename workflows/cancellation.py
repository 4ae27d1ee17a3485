"""A cancellation that every later activation knows of, also on a worker that has to replay the run first."""

from __future__ import annotations

from temporalio import workflow

MARKED = "cancellation-marked"
"""The patch by which a run that was cancelled before marks existed is told apart, and goes on without one."""


def mark_cancellation() -> None:
    """Leave a marker in the history behind a cancellation that the run has just heard of.

    A workflow task that leaves nothing behind is joined with the next one when the run is replayed. One activation
    then brings the cancellation and an update that came after it, in the order of the SDK: updates are judged first,
    and a run that ought to take no more would take one.
    """
    workflow.patched(MARKED)
