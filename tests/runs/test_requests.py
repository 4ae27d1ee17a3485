"""Whether two requests are the same: by what they ask for, in any order and spelling, and never by the definitions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.errors import Refused
from springline.ledger.fingerprints import RerunKind, rerun_run_key
from springline.runs.requests import Asker, ParentRun, RerunAsked, RunAsked, rerun_request, run_request
from tests.control.test_planning import DAYS, manifest
from tests.support.definitions import asset

ADA, BOB = Asker("ada", "r1"), Asker("bob", "r2")
GRAPH = manifest(asset("raw", partitions=DAYS), asset("report", "raw"))


def name() -> str:
    return "01JHMPFQ6G000AQKFF00000004"


def fingerprint(**asked: Any) -> str:
    return run_request(RunAsked(**asked), ADA, name).fingerprint


terms = st.lists(st.sampled_from(["raw", "*report", "report*", "*"]), min_size=1, max_size=4)
days = st.lists(st.sampled_from(["2024-01-01", "2024-01-02", "2024-01-03"]), max_size=4)
configs = st.dictionaries(st.sampled_from("ab"), st.integers(0, 2), max_size=2)
labels = st.dictionaries(st.sampled_from("xy"), st.sampled_from(["", "v"]), max_size=2)
asked = st.fixed_dictionaries(
    {"select": terms, "partitions": days, "config": configs, "labels": labels, "priority": st.integers(-1, 1)}
)


def meaning(one: dict[str, Any]) -> Any:
    return (set(one["select"]), set(one["partitions"]), one["config"], one["labels"], one["priority"])


@given(asked, asked)
def test_requests_are_the_same_if_and_only_if_they_ask_for_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (fingerprint(**one) == fingerprint(**other)) == (meaning(one) == meaning(other))


@given(asked, st.data())
def test_order_and_spelling_do_not_matter(one: dict[str, Any], data: st.DataObject) -> None:
    other = one | {
        "select": [" , ".join(data.draw(st.permutations(one["select"])))],
        "partitions": data.draw(st.permutations(one["partitions"])) + one["partitions"],
        "config": dict(reversed(one["config"].items())),
        "labels": dict(reversed(one["labels"].items())),
    }
    assert fingerprint(**other) == fingerprint(**one)


def test_who_asks_and_what_is_deployed_do_not_matter() -> None:
    sent = RunAsked(select=["*report"], partitions=["2024-01-01"], run_key="k")
    first, second = run_request(sent, ADA, name), run_request(sent, BOB, name)
    assert (first.run_key, first.fingerprint) == (second.run_key, second.fingerprint)
    event, tasks = first.compile(GRAPH)
    assert event.request_fingerprint == first.fingerprint
    assert event.code_version == GRAPH.manifest_id
    assert [task.key for task in tasks] == ["raw[2024-01-01]", "report"]
    with pytest.raises(Refused):
        first.compile(manifest(asset("other")))


PARENT = ParentRun("run_p", "FAILED", {"a": "b"}, {"n": 1}, {"raw[2024-01-01]": "SUCCEEDED", "report": "FAILED"})


def test_a_reruns_key_follows_from_its_parent_and_its_tasks() -> None:
    failed = rerun_request(RerunAsked.model_validate({"from": "failed"}), PARENT, ADA)
    assert failed.run_key == rerun_run_key("run_p", RerunKind.FROM_FAILURE, ["report"], ())
    assert len(failed.run_key.rpartition(":")[2]) == 16
    subset = rerun_request(RerunAsked(tasks=["report"]), PARENT, BOB)
    assert subset.run_key == rerun_run_key("run_p", RerunKind.SUBSET, ["report"], ())
    assert subset.fingerprint != failed.fingerprint
    again = rerun_request(RerunAsked(tasks=["report", "raw[2024-01-01]"]), PARENT, ADA)
    assert again.run_key == rerun_request(RerunAsked(tasks=["raw[2024-01-01]", "report"]), PARENT, BOB).run_key
    event, tasks = again.compile(GRAPH)
    assert [task.key for task in tasks] == ["raw[2024-01-01]", "report"]
    assert event.labels == {"a": "b", "springline/parent_run_id": "run_p"}
