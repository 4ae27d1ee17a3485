"""Garbage collection: one pass marks what the published state no longer needs, a later one deletes it
(docs/protocol.md#garbage). In this room only garbage collection lists.

It deletes three kinds of objects. An object that was published and is superseded is deleted a quarantine after it was
marked: until then a reader may still use its revision. An object that no known revision has ever named may be work that
its writer, such as a rebuild, has not published yet, so it is deleted only after it was found unnamed for days; so is
the log of a run that retention has removed from the rows. Events, request markers and records of refusals are never
touched. Records of rounds that were folded long ago lose the texts of their events, which other objects have, and keep
their names and ids: a sequencer that was stopped for long must find the names taken, and the ids say what was accepted
even if everything else is lost.
"""

from springline.sequencer.garbage.mark import mark_garbage
from springline.sequencer.garbage.sweep import sweep_garbage

__all__ = ["mark_garbage", "sweep_garbage"]
