"""How a worker's memory is managed; imported before anything that loads Arrow.

Arrow gets its memory from the C library, as Python's own does. Arrow's allocator asks the system for huge pages: a
hundred megabytes more for a worker that rebuilds, and time to clear them. An operator who has set the variable has
decided otherwise.

The C library may give threads arenas of their own, and a thread cannot use memory that another has freed: another
hundred megabytes after a million events. Python runs one thread at a time, so a second arena is enough.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

_M_ARENA_MAX: Final = -8
"""In glibc's malloc.h. Other C libraries have no such arenas, and no `mallopt`."""
_ARENAS: Final = 2


def _limit_arenas() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, _ARENAS)


os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
_limit_arenas()
