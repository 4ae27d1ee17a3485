"""The scenarios, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest
from _pytest.mark import ParameterSet

from springline.delta.messages import CommitMode
from springline.storage.memory import MemoryStore
from tests.exhaustive.histories import Scenario
from tests.exhaustive.world import Wish, delete_staged, foreign_commit, foreign_metadata, foreign_txn, rewrite_staged

STRICT = CommitMode.STRICT
Event = Callable[[MemoryStore], None]

A = Wish(1, "a")
A_STRICT = Wish(1, "a", STRICT)
A_LATER = Wish(1, "a", STRICT, read_version=1)
"""Strict, computed from version 1."""
B = Wish(2, "b")
B_STRICT = Wish(2, "b", STRICT)
B_LATER = Wish(2, "b", STRICT, read_version=1)
C = Wish(3, "c")
OTHER_A = Wish(1, "z")
OTHER_A_STRICT = Wish(1, "z", STRICT)
A_AGAIN = Wish(1, "a", copy=1)
"""The same request from another staged copy of its payload."""
SAME_PATH = Wish(2, "a", app="other")
"""Another request that adds the same data file."""
A_ROWS = Wish(1, "a", rows="a")
A_ROWS_ANEW = Wish(1, "a-anew", rows="a")
"""The same rows written anew: other bytes, another file, the same request."""
A_OTHER_ROWS = Wish(1, "a", rows="z")
"""Other rows under the same key, even if the file is named alike."""
B_ROWS = Wish(2, "b", rows="b")
A_ROWS_STRICT = Wish(1, "a", STRICT, rows="a")
A_ROWS_STRICT_ANEW = Wish(1, "a-anew", STRICT, rows="a")
A_TXN = Wish(1, "a", app="app")
B_TXN = Wish(2, "b", app="app")

# One sequencer run.
ALONE = [
    Scenario("one append", ((A,),)),
    Scenario("one strict", ((A_STRICT,),)),
    Scenario("append, append, strict", ((A, B, Wish(3, "c", STRICT)),)),
    Scenario("strict, append, append", ((A_STRICT, B, C),)),
    Scenario("one append, every step on a cold worker", ((A,),), cold=True),
    Scenario("strict, append, append, cold", ((A_STRICT, B, C),), cold=True),
    Scenario("two appends that may not share a version", ((A, SAME_PATH),)),
    Scenario("two appends of one application", ((A_TXN, B_TXN),)),
    Scenario("one append of rows", ((A_ROWS,),)),
    Scenario("one append behind a rival", ((A,),), before=foreign_commit),
    Scenario("one strict behind a rival", ((A_LATER,),), before=foreign_commit),
]

# One sequencer run, and something else that happens to the store at any instant.
ALONE_WITH_EVENTS = [
    Scenario("one append, its payload deleted", ((A,),), event=partial(delete_staged, A)),
    Scenario(
        "one strict, its payload deleted, cold", ((A_STRICT,),), event=partial(delete_staged, A_STRICT), cold=True
    ),
    Scenario("one append, a rival commits", ((A,),), event=foreign_commit),
]

# Two sequencer runs that know nothing of each other.
CONTENDERS = [
    Scenario("same key, append", ((A,), (A,))),
    Scenario("same key, strict", ((A_STRICT,), (A_STRICT,))),
    Scenario("same key, payload staged twice", ((A,), (A_AGAIN,))),
    Scenario("same key, other payload, append", ((A,), (OTHER_A,))),
    Scenario("same key, other payload, strict", ((A_STRICT,), (OTHER_A_STRICT,))),
    Scenario("same key, append and strict", ((A,), (A_STRICT,))),
    Scenario("same rows written twice", ((A_ROWS,), (A_ROWS_ANEW,))),
    Scenario("same rows written twice, strict", ((A_ROWS_STRICT,), (A_ROWS_STRICT_ANEW,))),
    Scenario("same key, other rows", ((A_ROWS,), (A_OTHER_ROWS,))),
    Scenario("rows of two together, one of them again anew", ((A_ROWS, B_ROWS), (A_ROWS_ANEW,))),
    Scenario("same rows written twice, cold", ((A_ROWS,), (A_ROWS_ANEW,)), cold=True),
    Scenario("other keys, append", ((A,), (B,))),
    Scenario("other keys, strict", ((A_STRICT,), (B_STRICT,))),
    Scenario("other keys, strict and append", ((A_STRICT,), (B,))),
    Scenario("two together, one of them again alone", ((A, B), (A,))),
    Scenario("two together, one of them again with a third", ((A, B), (A, C))),
    Scenario("three mixed against one of them", ((A_STRICT, B, C), (B,))),
    Scenario("same key, append, cold", ((A,), (A,)), cold=True),
    Scenario("same key, strict, cold", ((A_STRICT,), (A_STRICT,)), cold=True),
    Scenario("same strict behind a rival", ((A_LATER,), (A_LATER,)), before=foreign_commit),
    Scenario("two strict behind a rival", ((A_LATER,), (B_LATER,)), before=foreign_commit),
]

# Contenders, and something else that happens to the store at any instant.
WITH_EVENTS = [
    Scenario("the staged payload is deleted", ((A,), (A,)), event=partial(delete_staged, A)),
    Scenario("the staged payload is deleted, another copy stays", ((A,), (A_AGAIN,)), event=partial(delete_staged, A)),
    Scenario("rows, their payload is deleted", ((A_ROWS,), (A_ROWS_ANEW,)), event=partial(delete_staged, A_ROWS)),
    Scenario("rows, a rival commits", ((A_ROWS,), (A_ROWS_ANEW,)), event=foreign_commit),
    Scenario("the staged payload of the other is deleted", ((A,), (B,)), event=partial(delete_staged, A)),
    Scenario("a strict request's payload is deleted", ((A_STRICT,), (B,)), event=partial(delete_staged, A_STRICT)),
    Scenario("the staged payload is rewritten", ((A,), (B,)), event=partial(rewrite_staged, A)),
    Scenario("the staged payload is rewritten, cold", ((A,), (A,)), event=partial(rewrite_staged, A), cold=True),
    Scenario("a rival commits", ((A,), (B,)), event=foreign_commit),
    Scenario("a rival commits, same key", ((A,), (A,)), event=foreign_commit),
    Scenario("a rival commits, strict and append", ((A_STRICT,), (B,)), event=foreign_commit),
    Scenario("a rival commits, same key, strict", ((A_STRICT,), (A_STRICT,)), event=foreign_commit),
    Scenario("a rival commits, two together", ((A, B), (A,)), event=foreign_commit),
    Scenario("a rival changes the metadata", ((A,), (B_STRICT,)), event=foreign_metadata),
    Scenario("a rival uses the application's id", ((A_TXN,), (B,)), event=foreign_txn),
]

ALL = [*ALONE, *ALONE_WITH_EVENTS, *CONTENDERS, *WITH_EVENTS]
BY_NAME = {scenario.name: scenario for scenario in ALL}
assert len(BY_NAME) == len(ALL)

SAMPLE = frozenset(
    {
        "one append",
        "one strict",
        "append, append, strict",
        "one append of rows",
        "one append behind a rival",
        "two appends of one application",
        "one append, its payload deleted",
        "same key, append",
        "same key, strict",
        "same rows written twice",
        "same key, other payload, append",
        "other keys, append",
        "other keys, strict and append",
        "the staged payload is deleted",
        "a rival commits",
    }
)
"""What is explored at every run of the tests; the others are proofs, explored when the code they use has changed."""
assert BY_NAME.keys() >= SAMPLE


def sampled(scenarios: Sequence[Scenario]) -> list[ParameterSet]:
    """Return scenarios as parameters of a test: all but the sample are proofs."""
    return [pytest.param(one, marks=() if one.name in SAMPLE else pytest.mark.proof) for one in scenarios]
