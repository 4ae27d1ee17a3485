"""Tracebacks of user code, without the lines that are this library's."""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from types import TracebackType
from typing import Final

_OWN: Final = str(Path(__file__).parents[1])


def told(error: BaseException, own: TracebackType) -> str:
    """Return a traceback as Python prints it, without the lines of this library and of the import machinery."""
    whole = traceback.TracebackException(type(error), error, own)
    waiting: list[traceback.TracebackException | None] = [whole]
    while waiting:
        one = waiting.pop()
        if one is not None:
            one.stack = traceback.StackSummary.from_list([line for line in one.stack if not _is_ours(line.filename)])
            waiting += [one.__cause__, one.__context__]
    return "".join(whole.format())


def _is_ours(file: str) -> bool:
    return file.startswith((_OWN + os.sep, "<frozen ")) or Path(file).parent.name == "importlib"


def own_part(trace: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins in the user's code."""
    while trace is not None:
        if not _is_ours(trace.tb_frame.f_code.co_filename):
            return trace
        trace = trace.tb_next
    return None
