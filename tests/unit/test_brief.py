"""Answers that may be a moment old: one question for many, nothing kept beyond its time."""

from __future__ import annotations

import asyncio

import pytest

from springline.caches import Brief

SECONDS = 0.05


class Oracle:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.fails = False

    async def ask(self, key: str) -> int:
        self.asked.append(key)
        await self.may_answer.wait()
        if self.fails:
            raise RuntimeError("no answer")
        return len(self.asked)


async def test_many_share_one_question_and_its_answer_for_a_moment() -> None:
    oracle = Oracle()
    brief = Brief(oracle.ask, 60)
    assert await asyncio.gather(*(brief.get("a") for _ in range(50))) == [1] * 50
    assert await brief.get("a") == 1
    assert await brief.get("b") == 2
    assert oracle.asked == ["a", "b"]


async def test_an_old_answer_is_asked_for_again_and_nothing_is_kept() -> None:
    oracle = Oracle()
    brief = Brief(oracle.ask, SECONDS)
    assert [await brief.get(str(key)) for key in range(20)] == list(range(1, 21))
    assert brief.held == 20
    while brief.held:  # noqa: ASYNC110
        await asyncio.sleep(SECONDS)
    assert await brief.get("0") == 21


async def test_a_failure_is_told_to_all_and_not_remembered() -> None:
    oracle = Oracle()
    oracle.fails = True
    brief = Brief(oracle.ask, 60)
    told = await asyncio.gather(*(brief.get("a") for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in told] == ["no answer"] * 3
    assert (oracle.asked, brief.held) == (["a"], 0)
    oracle.fails = False
    assert await brief.get("a") == 2


async def test_whoever_gives_up_leaves_the_question_to_the_others() -> None:
    oracle = Oracle()
    oracle.may_answer.clear()
    brief = Brief(oracle.ask, 60)
    impatient, patient = (asyncio.ensure_future(brief.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    oracle.may_answer.set()
    assert await patient == 1
    assert oracle.asked == ["a"]
