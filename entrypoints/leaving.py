"""How a process that used the Temporal SDK ends: at once, with its exit code, after everything it printed is out.

The SDK's threads outlive its clients, and one that comes back while the interpreter shuts down aborts the process
(SIGABRT) after its work was done. So the interpreter is not shut down: nothing of ours is left to its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_INTERRUPTED = 130
"""What a shell reports for a program that Ctrl-C ended: 128 and the number of SIGINT."""


def leave(code: int) -> NoReturn:
    """End the process with `code`; what was printed and logged is written first.

    A process that never loaded the SDK ends as any other.
    """
    if "temporalio" not in sys.modules:
        sys.exit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # Whoever read it may be gone, and nobody can be told.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run_and_leave(main: Callable[[], int | None]) -> NoReturn:
    """Run a program and end the process with the code it returns, or exits with; a fault prints its traceback."""
    leave(_code_of(main))


def _code_of(main: Callable[[], int | None]) -> int:
    try:
        return main() or EXIT_DONE
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or EXIT_DONE
        print(ended.code, file=sys.stderr)
        return EXIT_FAULT
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BaseException:
        traceback.print_exc()
        return EXIT_FAULT
