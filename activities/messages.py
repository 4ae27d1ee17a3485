"""What every message across the Temporal wire is, and what a worker tells of itself."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Base of workflows' messages: immutable, unknown fields of a newer writer are passed over."""

    model_config = ConfigDict(frozen=True)


class Probed(Message):
    """What a worker says of itself: the id of its store, its build, and under which name Temporal knows it."""

    store_id: str
    build_id: str
    identity: str
