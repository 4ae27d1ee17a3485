"""What can be explained: one entry for each kind of thing. Routes and the client follow from it."""

from __future__ import annotations

from typing import Final

from springline.explaining.attempts import ATTEMPTS
from springline.explaining.backfills import BACKFILLS
from springline.explaining.chunks import CHUNKS
from springline.explaining.evaluations import EVALUATIONS
from springline.explaining.partitions import PARTITIONS
from springline.explaining.runs import RUNS
from springline.explaining.schedules import SCHEDULES
from springline.explaining.sensors import SENSORS
from springline.explaining.story import Subject
from springline.explaining.tasks import TASKS

SUBJECTS: Final[dict[str, Subject]] = {
    one.name: one for one in (SCHEDULES, RUNS, TASKS, ATTEMPTS, SENSORS, EVALUATIONS, BACKFILLS, CHUNKS, PARTITIONS)
}
"""Every subject, by its name."""
