"""Where Arrow's memory comes from in a worker; imported before anything that loads Arrow.

From the C library, as Python's own does. Arrow's allocator asks the system for huge pages: a hundred megabytes more for
a worker that rebuilds, and time to clear them. Whoever has set the variable has decided otherwise.
"""

from __future__ import annotations

import os

os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
