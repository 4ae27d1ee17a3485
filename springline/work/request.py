"""What `springline work` asks the process for that it becomes."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from springline.definitions.nodes import DefinitionId
from springline.definitions.sizes import LEAST_MEMORY_BYTES, MAX_MEMORY_BYTES

DEFAULT_QUEUE: Final = "default"
"""What the command line calls the queue of assets that name none."""
DEFAULT_GRACE_S: Final = 10.0
MOST_CONCURRENCY: Final = 1_000


class WorkRequest(BaseModel):
    """A worker's code, workspace, queues and bounds.

    `file`: a pipeline file, or a module by its dotted name. `queues`: those to take attempts from, empty: all of the
    file. `grace_s`: how long a function may take to end when it is told to stop. `memory_bytes`: how much memory an
    attempt may use whose asset does not say it, None for any. `python_path`: the PYTHONPATH of what user code starts,
    None for none: the worker's own names where our modules are, and may not fit another Python.
    `ready_file`: where the worker writes its process id as soon as it takes attempts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    tenant: str
    workspace: str
    location: DefinitionId | None = None
    concurrency: Annotated[int, Field(ge=1, le=MOST_CONCURRENCY)]
    queues: list[str] = []
    python_path: str | None = None
    ready_file: str | None = None
    grace_s: Annotated[float, Field(ge=0)] = DEFAULT_GRACE_S
    memory_bytes: Annotated[int, Field(ge=LEAST_MEMORY_BYTES, le=MAX_MEMORY_BYTES)] | None = None
