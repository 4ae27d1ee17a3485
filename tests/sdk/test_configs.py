"""Configs with types: what models take and refuse, where it is told, and that all else is as it was."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Any, assert_type

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from springline.definitions.configs import (
    MAX_CONFIG_BYTES,
    MAX_CONFIG_DEPTH,
    MAX_CONFIG_FIELDS,
    problem_of_config,
)
from springline.ledger.json_text import canonical_json
from springline.sdk import (
    ConfigRefused,
    Context,
    InvalidConfig,
    NonRetryable,
    asset,
    http_asset,
    materialize,
    task,
)
from springline.sdk.attempting import Attempts
from springline.sdk.describing import described
from springline.sdk.loading import examine


class Load(BaseModel):
    """What a load is asked with."""

    model_config = ConfigDict(frozen=True)

    rows: int = Field(default=10, ge=1)
    share: float = 0.5
    since: date | None = None
    days: tuple[int, ...] = ()


class Exact(BaseModel, extra="forbid", strict=True):
    """One that takes nothing else."""

    region: str
    since: date = date(2024, 1, 31)


def test_a_config_is_an_instance_of_the_model_with_its_defaults_and_others_see_it_as_it_is() -> None:
    @asset(config=Load)
    def typed(context: Context[Load]) -> float:
        assert isinstance(context.config, Load)
        assert_type(context.config.rows, int)
        assert context.config.since == date(2024, 1, 31)
        assert context.config.days == (1, 2)
        return context.config.rows * context.config.share

    @task(config=Load)
    def told(context: Context[Load], typed: float) -> int:
        return context.config.rows

    @asset
    def plain(context: Context, told: int) -> dict[str, Any]:
        assert_type(context.config, Mapping[str, Any])
        return dict(context.config)

    config = {"share": "0.25", "since": "2024-01-31", "days": (1, 2), "other": None}
    made = materialize([typed, told, plain], config=config)
    assert (made.value(typed), made.value(told)) == (2.5, 10)
    assert made.value(plain) == {"share": "0.25", "since": "2024-01-31", "days": [1, 2], "other": None}
    assert materialize([typed], config={"since": "2024-01-31", "days": [1, 2]}).value(typed) == 5.0


def test_a_function_is_tested_alone_with_an_instance() -> None:
    @asset(config=Load)
    def typed(context: Context[Load]) -> int:
        return context.config.rows

    assert typed(Context(config=Load(rows=3))) == 3
    assert_type(Context(config=Load()), Context[Load])
    assert_type(Context(config={"rows": 3}), Context[Mapping[str, Any]])


def test_a_strict_model_takes_what_json_can_say() -> None:
    @asset(config=Exact)
    def typed(context: Context[Exact]) -> str:
        return f"{context.config.region} {context.config.since}"

    assert materialize(typed, config={"region": "eu", "since": "2024-02-01"}).value(typed) == "eu 2024-02-01"


@pytest.mark.parametrize(
    ("model", "config", "said"),
    [
        (Load, {"rows": "soon"}, "config.rows is 'soon', which does not fit: input should be a valid integer"),
        (Load, {"rows": 0}, "config.rows is 0, which does not fit: input should be greater than or equal to 1"),
        (Load, {"days": [1, "x"]}, "config.days[1] is 'x', which does not fit"),
        (Exact, {}, "config.region is missing: give it"),
        (Exact, {"region": "eu", "sinse": 1}, "config.sinse is no field of Exact: did you mean since?"),
        (Exact, {"region": "eu", "xyz": 1}, "config.xyz is no field of Exact: leave it out; there are region, since"),
    ],
)
def test_a_config_that_does_not_fit_is_told_before_anything_runs(
    model: type[BaseModel], config: dict[str, Any], said: str
) -> None:
    ran: list[str] = []

    @asset
    def before() -> None:
        ran.append("before")

    @asset(config=model, deps=[before], retries=3)
    def typed(context: Context[Any]) -> None:
        ran.append("typed")

    @asset(config=model, key="twin")
    def other(context: Context[Any]) -> None: ...

    with pytest.raises(InvalidConfig) as raised:
        materialize([before, typed, other], config=config)
    lines = str(raised.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"the run's config does not fit {model.__name__}, the config of {key}" for key in ("typed", "twin")
    ]
    assert all(said in line for line in lines)
    assert ran == []
    # What is not made judges nothing.
    assert materialize([before, typed], select=["before"], config=config).success


def test_an_attempt_with_such_a_config_fails_and_is_not_tried_again() -> None:
    called: list[int] = []

    @asset(config=Load)
    def typed(context: Context[Load]) -> None:
        called.append(1)

    made = Attempts().make(typed, Context("typed", config={"rows": 0, "share": "x"}), {})
    assert isinstance(made.error, ConfigRefused)
    assert isinstance(made.error, NonRetryable)
    assert "config.rows is 0" in str(made.error)
    assert "config.share is 'x'" in str(made.error)
    assert called == []


def test_what_a_models_validator_raises_of_its_own_is_the_error_of_its_attempt() -> None:
    class Odd(BaseModel):
        name: str = "a"

        @field_validator("name")
        @classmethod
        def known(cls, value: str) -> str:
            if value == "exits":
                raise SystemExit(3)
            return {"b": "B"}[value]

        @model_validator(mode="after")
        def whole(self) -> Odd:
            return self

    @asset(config=Odd, retries=1)
    def typed(context: Context[Odd]) -> str:
        return context.config.name

    assert materialize(typed, config={"name": "b"}).value(typed) == "B"
    for name, kind in (("c", KeyError), ("exits", SystemExit)):
        failed = materialize(typed, config={"name": name}, raise_on_error=False)
        assert (type(failed["typed"].error), failed["typed"].attempts) == (kind, 2)


def test_a_rule_of_the_whole_model_and_a_hidden_input_are_told() -> None:
    class Span(BaseModel, hide_input_in_errors=True):
        begin: int = 0
        end: int = 1

        @model_validator(mode="after")
        def ordered(self) -> Span:
            if self.begin > self.end:
                raise ValueError("begin lies behind end")
            return self

    @asset(config=Span)
    def typed(context: Context[Span]) -> None: ...

    with pytest.raises(InvalidConfig, match="config does not fit: value error, begin lies behind end"):
        materialize(typed, config={"begin": 2})
    with pytest.raises(InvalidConfig) as raised:
        materialize(typed, config={"begin": "secret"})
    assert "config.begin does not fit" in str(raised.value)
    assert "secret" not in str(raised.value)


class Kind(StrEnum):
    A = "a"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"share": 0.5}, "config.share is written with a fraction"),
        ({"a": [1, {"b": float("nan")}]}, "config.a[1].b is written with a fraction"),
        ({"a": 2**64}, "config.a is a number that does not fit into 64 bits"),
        ({"a": date(2024, 1, 31)}, "config.a is a date, which is no JSON"),
        ({"a": {1: 2}}, "config.a has the name 1, which is no text"),
        ({"a": "\ud800"}, "config.a has a text that is not UTF-8"),
        ({"a": "x" * MAX_CONFIG_BYTES}, "config has 12296 bytes"),
        ({str(number): 1 for number in range(MAX_CONFIG_FIELDS + 1)}, "config has 1001 fields"),
    ],
)
def test_a_config_that_no_run_could_have_is_refused_here_too(config: dict[str, Any], said: str) -> None:
    @asset
    def plain(context: Context) -> None: ...

    with pytest.raises(InvalidConfig) as raised:
        materialize(plain, config=config)
    assert said in str(raised.value)


def test_a_config_that_is_nested_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(MAX_CONFIG_DEPTH - 1):
        deep = [deep]
    assert problem_of_config({"a": deep}) is None
    found = problem_of_config({"a": [deep]})
    assert found is not None
    assert "objects and arrays deep" in found.message


def test_what_is_handed_over_is_plain_json() -> None:
    @asset
    def plain(context: Context) -> str:
        kind = context.config["kind"]
        return f"{type(kind).__name__} {kind!r}"

    assert materialize(plain, config={"kind": Kind.A}).value(plain) == "str 'a'"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), _VALUES, max_size=4))
def test_what_is_judged_fit_is_as_large_as_its_canonical_json(config: Mapping[str, Any]) -> None:
    assert problem_of_config(config) is None
    padded = {**config, "pad": ""}
    missing = MAX_CONFIG_BYTES - len(canonical_json(padded))
    assert problem_of_config({**config, "pad": "x" * missing}) is None
    assert problem_of_config({**config, "pad": "x" * (missing + 1)}) is not None


_HEAD = "from pydantic import BaseModel, Field\nfrom springline.sdk import Context, asset, task\n\n"
_MODEL = "class S(BaseModel):\n    rows: int = 3\n\nclass T(S): ...\n\n"
WRONG = [
    (
        "@asset(config={'rows': 3})\ndef a(context: Context): ...",
        "config {'rows': 3}, which is no Pydantic model",
        "Derive",
    ),
    (
        "@task(config=int)\ndef a(context: Context): ...",
        "is no Pydantic model",
        "@task(config=Settings)",
    ),
    ("@asset(config=S())\ndef a(context: Context): ...", "which is an instance of S", "config=S"),
    ("@asset(config=BaseModel)\ndef a(context: Context): ...", "which has no fields", "Derive"),
    ("@asset(config=S)\ndef a(): ...", "config S, and no parameter that it could be read from", "context: Context[S]"),
    ("@asset\ndef a(context: Context[S]): ...", "takes a Context[S] and declares no config", "@asset(config=S)"),
    ("@asset(config=T)\ndef a(context: Context[S]): ...", "config T, and takes a Context[S]", "the same model"),
    ("@asset\ndef a(config: S): ...", "the parameter config, and no asset is called that", "context.config"),
    ("@asset(config_schema=S)\ndef a(context: Context): ...", "unknown option config_schema", "Did you mean config?"),
    (
        "class D(BaseModel, frozen=True):\n    n: int\n    rows: int = 'x'\n    m: int = Field(default=0, ge=1)\n\n"
        "@asset(config=D)\ndef a(context: Context[D]): ...",
        "config D, whose field m has the default 0: input should be greater than or equal to 1",
        "Give a default",
    ),
    (
        "class D(BaseModel):\n    one: 'Missing'\n\n@asset(config=D)\ndef a(context: Context): ...",
        "which cannot be built",
        "above the model",
    ),
]


@pytest.mark.parametrize("later", ["", "from __future__ import annotations\n"])
@pytest.mark.parametrize(("source", "said", "remedy"), WRONG)
def test_a_wrong_declaration_is_told_with_line_asset_and_remedy(
    tmp_path: Path, later: str, source: str, said: str, remedy: str
) -> None:
    file = tmp_path / "flow.py"
    text = later + _HEAD + _MODEL + textwrap.dedent(source)
    file.write_text(text)
    found = examine(str(file)).problems
    (told,) = [one for one in found if said in one.message]
    line = next(number for number, one in enumerate(text.splitlines(), 1) if one.startswith(("@asset", "@task")))
    assert (told.line, told.asset) == (line, "a")
    assert remedy in told.remedy
    if "D(BaseModel, frozen" in source:
        assert [one.message for one in found if "field rows has the default 'x'" in one.message]


def test_what_is_fine_is_no_problem_and_what_it_takes_is_all_that_is_deployed_of_it(tmp_path: Path) -> None:
    functions = (
        "def a(context: Context[S]): ...",
        "def a(context: Context): ...",
        "def a(what: Context[S] | None = None): ...",
        "def a(what: 'Context[S]'): ...",
        "def a(context): ...",
    )
    documents = []
    for number, function in enumerate((*functions, functions[1])):
        option = "(config=S)" if number < len(functions) else ""
        file = tmp_path / "flow.py"
        file.write_text(f"{_HEAD}{_MODEL}@asset{option}\n{function}\n")
        document = described(examine(str(file)))
        assert document["problems"] == []
        takes = document["assets"][0].pop("config", None)
        field = {
            "name": "rows",
            "type": "int",
            "required": False,
            "default": "3",
            "refuses": ["null", "array", "object"],
        }
        assert takes == ({"model": "S", "fields": [field]} if option else None)
        documents.append(json.dumps(document, sort_keys=True))
    assert len(set(documents)) == 1


def test_a_default_that_cannot_be_judged_is_left_to_the_attempt() -> None:
    class Closed(BaseModel):
        rows: int = 3

        def __init_subclass__(cls, **more: Any) -> None:
            raise TypeError("nobody derives from me")

    class Needs(BaseModel):
        rows: int
        more: list[int] = Field(default_factory=list)

        @model_validator(mode="before")
        @classmethod
        def needs(cls, value: Any) -> Any:
            return {"rows": value["rows"]}

    @asset(config=Closed)
    def closed(context: Context[Closed]) -> int:
        return context.config.rows

    @asset(config=Needs)
    def needs(context: Context[Needs]) -> int:
        return context.config.rows

    assert (closed.problems, needs.problems) == ([], [])
    made = materialize([closed, needs], config={"rows": 4})
    assert (made.value(closed), made.value(needs)) == (4, 4)


def test_a_default_that_a_function_makes_is_made_by_the_attempt_and_others_are_judged() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(1)
        return len(made)

    class Made(BaseModel):
        number: int = Field(default_factory=make)
        share: float = "half"  # type: ignore[assignment]

    @asset(config=Made)
    def wrong(context: Context[Made]) -> int:
        return context.config.number

    assert ["field share has the default 'half'" in one.message for one in wrong.problems] == [True]
    assert made == []
    fine = asset(config=type("Fine", (Made,), {"__annotations__": {"share": float}, "share": 0.5}))(wrong.function)
    assert fine.problems == []
    # Once before anything runs, once for the attempt.
    assert materialize(fine).value(fine) == 2


def test_what_is_made_over_http_gets_json_and_takes_no_model() -> None:
    made = http_asset("a", url="https://example.com/a", config=Load)
    assert "unknown option config" in made.problems[0].message
