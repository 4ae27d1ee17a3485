"""`python -m springline.sdk.describing FILE`: a pipeline file as one JSON document, for the command line.

User code runs while a file is imported, and may do anything: print, exit, crash. So that happens in this process, whose
standard output is kept for the document; what user code prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import Any

from springline.sdk.loading import LoadedPipeline, examine, problem_of_location
from springline.sdk.resolving import ResolvedAsset


def described(loaded: LoadedPipeline, location: str | None = None) -> dict[str, Any]:
    """Return what a file declares: `file`, `location`, `assets` as they are deployed, and `problems`.

    `location`: the name of the code location, by default after the file. Assets are left out while there are problems.
    """
    name = loaded.location if location is None else location
    problems = list(loaded.problems)
    wrong = problem_of_location(loaded.file, name)
    if wrong is not None:
        problems.append(wrong)
    return {
        "file": loaded.file,
        "location": name,
        "keys": list(loaded.pipeline.assets),
        "assets": [] if problems else [definition_of(one) for one in loaded.pipeline.assets.values()],
        "problems": [asdict(one) for one in problems],
    }


def definition_of(one: ResolvedAsset) -> dict[str, Any]:
    """Return an asset as it is deployed (docs/formats.md#deployed-manifest)."""
    declared = one.declared
    definition = {
        "key": one.key,
        "dependencies": [
            {
                "asset": edge.asset,
                "mapping": None if edge.mapping is None else asdict(edge.mapping),
                "argument": edge.argument,
            }
            for edge in one.dependencies
        ],
        "partitions": None if one.partitions is None else asdict(one.partitions),
        "retries": declared.retries,
        "retry_delay_ms": declared.retry_delay_ms,
        "timeout_ms": declared.timeout_ms,
        "heartbeat_ms": declared.heartbeat_ms,
        "queue": declared.queue,
        "pool": declared.pool,
        "priority": declared.priority,
        "code_version": declared.code_version,
        "description": declared.description,
        "tags": declared.tags,
        "owners": declared.owners,
    }
    return {name: value for name, value in definition.items() if value not in (None, [], {})}


def main() -> None:
    """Describe the file that the command line names, on standard output."""
    file, *rest = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Also for what writes to the descriptor itself, such as programs that user code starts.
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    sys.argv[1:] = []
    try:
        document = described(examine(file), rest[0] if rest else None)
    except KeyboardInterrupt:
        os._exit(130)
    with answer:
        json.dump(document, answer)
    # Threads that user code has started, and what it does at the interpreter's end, keep nobody waiting.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
