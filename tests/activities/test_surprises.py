"""Errors that nobody has foreseen end a rebuild's step after a number of them; faults of the store never do."""

from __future__ import annotations

import dataclasses

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.failures import MANY_SURPRISES, as_temporal_failures, many_surprises_are_final
from springline import names
from springline.storage.port import StoreRetry


async def _attempt(error: Exception, activity_id: str) -> Exception:
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, activity_id=activity_id)

    def work() -> None:
        with many_surprises_are_final(), as_temporal_failures():
            raise error

    with pytest.raises(type(error) if not isinstance(error, StoreRetry) else ApplicationError) as raised:
        environment.run(work)
    return raised.value


async def test_it_ends_after_so_many_whatever_the_store_did_between() -> None:
    for _ in range(MANY_SURPRISES - 1):
        assert isinstance(await _attempt(KeyError("nobody knows"), "a"), KeyError)
        for _ in range(20):
            passing = await _attempt(StoreRetry("the store is away"), "a")
            assert isinstance(passing, ApplicationError)
            assert not passing.non_retryable
    environment = ActivityEnvironment()
    environment.info = dataclasses.replace(environment.info, activity_id="a")

    def last() -> None:
        with many_surprises_are_final(), as_temporal_failures():
            raise KeyError("nobody knows")

    with pytest.raises(ApplicationError, match="KeyError: 'nobody knows'") as ended:
        environment.run(last)
    assert ended.value.non_retryable
    assert ended.value.type == names.UNFORESEEN
    assert isinstance(await _attempt(KeyError("nobody knows"), "another"), KeyError)
