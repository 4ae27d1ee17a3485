"""Ending our programs: exit codes (docs/formats.md#exit-codes), and at once.

The threads of the Temporal SDK outlive its clients, and one that comes back while the interpreter shuts down aborts the
process (SIGABRT) after its work was done. So a process that used the SDK does not shut the interpreter down: all output
is written, and none of our clean-up is left to the interpreter's end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

EXIT_DONE = 0
EXIT_FAULT = 1
EXIT_BAD_INPUT = 2
EXIT_CONFLICT = 3
EXIT_TRY_AGAIN = 4
EXIT_INTERRUPTED = 130
"""The exit code that a shell reports for a program ended by Ctrl-C: 128 plus the number of SIGINT."""

INTERRUPTED_GRACE_SECONDS = 1.0
"""How long a program may clean up after Ctrl-C."""


_LOOK_AGAIN_SECONDS = 0.01
_IMPORT_SYSTEM = "<frozen importlib."

_interrupted = threading.Event()


def ends_at_once() -> None:
    """Make Ctrl-C end this program within a second, without waiting for threads and blocked calls.

    The current work ends by an exception, so that it can clean up; an import that is under way is finished first. For
    the main thread.
    """

    def end(_number: int, frame: FrameType | None) -> None:
        # A module in C whose initialization meets an exception may crash, or report another one.
        if _imports(frame):
            signal.setitimer(signal.ITIMER_REAL, _LOOK_AGAIN_SECONDS)
        else:
            raise KeyboardInterrupt

    def interrupted(number: int, frame: FrameType | None) -> None:
        # A second Ctrl-C changes nothing, so that it does not cut the clean-up short.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _interrupted.set()
        # What is cut short anywhere would be told of: objects half made, coroutines never awaited.
        sys.unraisablehook = lambda _: None
        warnings.simplefilter("ignore")
        last = threading.Timer(INTERRUPTED_GRACE_SECONDS, os._exit, (EXIT_INTERRUPTED,))
        last.daemon = True
        last.start()
        signal.signal(signal.SIGALRM, end)
        end(number, frame)

    signal.signal(signal.SIGINT, interrupted)


def was_interrupted() -> bool:
    """Tell whether Ctrl-C ended this program: then whatever its work says after that is no finding."""
    return _interrupted.is_set()


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT_SYSTEM):
            return True
        frame = frame.f_back
    return False


def leave(code: int) -> NoReturn:
    """End the process with `code`, after all output and logs are written.

    A process that never imported the SDK ends as usual, unless Ctrl-C ended it: then it waits for no thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "temporalio" not in sys.modules and code != EXIT_INTERRUPTED:
        sys.exit(code)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # The reader of the output may be gone, and there is no way to report that.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def run_and_leave(main: Callable[[], int | None]) -> NoReturn:
    """Run a program and end the process with the code it returns, or exits with; a fault prints its traceback."""
    code = _code_of(main)
    leave(EXIT_INTERRUPTED if was_interrupted() else code)


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
        if not was_interrupted():
            traceback.print_exc()
        return EXIT_FAULT
