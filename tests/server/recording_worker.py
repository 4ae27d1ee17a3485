"""A worker that writes down how far it came with parts of rebuilds: `python -m tests.server.recording_worker FOLDER`.

What it has read and folded when it is killed is in no history: the next attempt starts again. Here each process keeps
a file in FOLDER, with a line for each batch: activity, its id in the run, attempt, and events done so far.

It is the real worker, but that it folds in smaller batches, so that less than a batch goes unnoticed.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from temporalio import activity

import worker
from springline.rebuild import fold

FOLDED_AT_ONCE = 2_500


@dataclass(frozen=True)
class Work:
    """What attempts at one part of a rebuild did together: `done` events, of the `size` that the part has."""

    name: str
    size: int
    done: int


def works(folder: Path) -> list[Work]:
    """Return what workers wrote down, by part."""
    attempts: dict[tuple[str, str], dict[int, int]] = {}
    for file in folder.iterdir():
        for line in file.read_text().splitlines():
            name, activity_id, attempt, events = line.split()
            of_part = attempts.setdefault((name, activity_id), {})
            of_part[int(attempt)] = max(of_part.get(int(attempt), 0), int(events))
    return [Work(name, max(of_part.values()), sum(of_part.values())) for (name, _), of_part in attempts.items()]


def record_to(folder: Path) -> None:
    """Have every report of a part's progress written down."""
    file = os.open(folder / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    heartbeat = activity.heartbeat

    def heartbeat_and_record(*details: int) -> None:
        heartbeat(*details)
        info = activity.info()
        os.write(file, f"{info.activity_type} {info.activity_id} {info.attempt} {details[0]}\n".encode())

    setattr(activity, "heartbeat", heartbeat_and_record)  # noqa: B010 - a name of another module


def main() -> None:
    """Run the worker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    options, rest = parser.parse_known_args()
    record_to(options.folder)
    setattr(fold, "FOLDED_AT_ONCE", FOLDED_AT_ONCE)  # noqa: B010 - as above
    sys.argv[1:] = rest
    worker.main()


if __name__ == "__main__":
    main()
