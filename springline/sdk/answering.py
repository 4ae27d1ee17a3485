"""A process that loads a pipeline file for a command: one document on standard output, whatever user code prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn


def answer_and_end(document_of: Callable[[list[str]], dict[str, Any]]) -> NoReturn:
    """Write the document that `document_of` makes of the arguments to standard output as JSON, and end the process.

    What user code prints meanwhile goes to standard error. The exit code is 130 if Ctrl-C came.
    """
    arguments = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    # Also for what writes to the descriptor itself, such as programs that user code starts.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    sys.argv[1:] = []
    try:
        document = document_of(arguments)
    except KeyboardInterrupt:
        os._exit(130)
    with answer:
        # Not escaped: what of a text of user code is no UTF-8 would come back as it was, and could be sent nowhere.
        json.dump(document, answer, ensure_ascii=False)
    # Threads that user code has started, and what it does at the interpreter's end, keep nobody waiting.
    sys.stderr.flush()
    os._exit(0)
