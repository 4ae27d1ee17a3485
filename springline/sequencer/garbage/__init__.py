"""Collecting what the published state no longer needs: marked now, deleted later (docs/protocol.md#garbage). This alone
lists.

Two kinds of objects go. What was published once and is superseded goes a quarantine after it was marked: until then
somebody may still be reading the revision it belongs to. What no revision that we know of has ever named may be
somebody's work that is not published yet, such as a rebuild's, and goes only when it has been seen like that for
days. Events, request markers and records of refusals are never touched. Records of rounds that were folded long ago
lose the texts of their events, which stand elsewhere, and keep their names and ids: a sequencer of long ago must find
the names taken, and the ids say what was accepted even if everything else is lost.
"""

from springline.sequencer.garbage.mark import mark_garbage
from springline.sequencer.garbage.sweep import sweep_garbage

__all__ = ["mark_garbage", "sweep_garbage"]
