"""How our programs end: with which exit code (docs/formats.md#exit-codes), and at once.

The threads of the Temporal SDK outlive its clients, and one that comes back while the interpreter shuts down aborts the
process (SIGABRT) after its work was done. So a process that used the SDK does not shut the interpreter down: everything
it printed is written, and nothing of ours is left to its end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_BAD_INPUT = 2
EXIT_CONFLICT = 3
EXIT_TRY_AGAIN = 4
EXIT_INTERRUPTED = 130
"""The exit code that a shell reports for a program ended by Ctrl-C: 128 plus the number of SIGINT."""

INTERRUPTED_GRACE_SECONDS = 1.0
"""How long a program that Ctrl-C ends may put away what it has begun."""


def ends_at_once() -> None:
    """Have Ctrl-C end this program within a second, whatever it is at: threads and calls that wait are not waited for.

    What is being done ends as by an exception, so that it can put away what it has begun. For the main thread.
    """

    def end(_number: int, _frame: object) -> None:
        # A second Ctrl-C changes nothing: what is put away is not cut short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        last = threading.Timer(INTERRUPTED_GRACE_SECONDS, os._exit, (EXIT_INTERRUPTED,))
        last.daemon = True
        last.start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, end)


def leave(code: int) -> NoReturn:
    """End the process with `code`; what was printed and logged is written first.

    A process that never loaded the SDK ends as any other, unless Ctrl-C ended it: then no thread is waited for.
    """
    if "temporalio" not in sys.modules and code != EXIT_INTERRUPTED:
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
