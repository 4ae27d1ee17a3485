"""Without any one guard of the protocol, some history breaks an invariant; with all of them the same ones hold."""

from __future__ import annotations

import pytest

from tests.exhaustive.histories import Failed, Histories
from tests.exhaustive.mutants import MUTANTS, Mutant
from tests.exhaustive.scenarios import BY_NAME
from tests.exhaustive.world import World
from tests.support import virtual_time


async def hunt(mutant: Mutant) -> Histories:
    histories = Histories(await World.create(), BY_NAME[mutant.scenario])
    await mutant.hunt(histories)
    return histories


@pytest.mark.proof
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard.replace(" ", "-"))
def test_a_guard_left_out_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.patch(monkeypatch)
    with pytest.raises(Failed) as noticed:
        virtual_time.run(hunt(mutant))
    assert "\nin " in str(noticed.value)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard.replace(" ", "-"))
def test_the_same_histories_hold_with_the_guard(mutant: Mutant) -> None:
    assert virtual_time.run(hunt(mutant)).tally.histories
