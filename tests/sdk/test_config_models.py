"""What models of configs take, as it is deployed: requests are judged by it no more strictly than by the models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    SecretStr,
    WrapValidator,
    create_model,
    model_validator,
)

from springline.definitions.config_models import problems_of_request
from springline.definitions.configs import ConfigProblem
from springline.definitions.limits import MAX_MODEL_FIELDS
from springline.definitions.nodes import AssetDefinition
from springline.sdk import Context, asset
from springline.sdk.config_models import described_model
from springline.sdk.configs import config_of
from springline.sdk.errors import ConfigRefused


class Region(StrEnum):
    """A part of the world."""

    EU = "eu"
    US = "us"


class Window(BaseModel):
    """A span of days."""

    start: date
    end: date | None = None


class Tree(BaseModel):
    """A model that holds its own kind."""

    left: Tree | None = None
    right: Tree | None = None


class Settings(BaseModel, extra="forbid"):
    """One of everything."""

    since: date = Field(description="The first day.")
    window: Window
    rows: int = Field(default=10, ge=1)
    share: float = 0.5
    region: Region | None = None
    mode: Literal["full", "new"] = Field(default="new", alias="load-mode")
    days: list[int] = Field(default_factory=list)
    password: SecretStr = SecretStr("quiet")
    hidden: str = Field(default="quiet", repr=False)
    first: str = Field(validation_alias=AliasChoices("first", "one", AliasPath("names", 0)))


def judge(model: type[BaseModel], config: Mapping[str, Any], *, key: str = "a") -> list[ConfigProblem]:
    return problems_of_request([node(model, key)], config)


def node(model: type[BaseModel], key: str = "a") -> AssetDefinition:
    return AssetDefinition.model_validate({"key": key, "config": described_model(model)})


def test_what_a_model_takes_is_told() -> None:
    found = described_model(Settings)
    assert (found["model"], found["forbids_others"], "judged" in found) == ("Settings", True, False)
    fields = {one["name"]: one for one in found["fields"]}
    assert list(fields)[:3] == ["since", "window", "rows"]
    told = {name: (one["type"], one["required"], one.get("default")) for name, one in fields.items()}
    assert told == {
        "since": ("date", True, None),
        "window": ("Window", True, None),
        "rows": ("int, ge=1", False, "10"),
        "share": ("float", False, "0.5"),
        "region": ("'eu' | 'us' | None", False, "null"),
        "load-mode": ("'full' | 'new'", False, '"new"'),
        "days": ("list[int]", False, None),
        "password": ("SecretStr", False, '"**********"'),
        "hidden": ("str", False, None),
        "first": ("str", True, None),
    }
    assert fields["since"]["description"] == "The first day."
    assert fields["first"]["also"] == ["one", "names[0]", "names"]
    assert "quiet" not in json.dumps(found)
    assert fields["window"]["refuses"] == ["null", "boolean", "number", "string", "array"]
    tree = described_model(Tree)
    assert ([one["type"] for one in tree["fields"]], "judged" in tree) == (["Tree | None"] * 2, False)


def test_a_model_that_is_built_late_and_one_of_an_unknown_form_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(BaseModel, defer_build=True, extra="forbid"):
        rows: int

    @asset(config=Late)
    def typed(context: Context[Late]) -> None: ...

    assert typed.problems == []
    assert [one.field for one in judge(Late, {"row": 1})] == ["config.rows", "config.row"]
    monkeypatch.setattr(Late, "__pydantic_core_schema__", {"type": "model", "schema": {"type": "model-fields"}})
    assert described_model(Late)["judged"] is False
    assert described_model(Late)["fields"] == [{"name": "rows", "type": "int", "required": True}]


def test_every_problem_is_told_with_place_asset_and_remedy() -> None:
    config = {"sinse": "2024-01-31", "window": 3, "rows": {"n": 1}, "first": "x"}
    found = {one.field: one for one in judge(Settings, config, key="orders")}
    assert set(found) == {"config.since", "config.window", "config.rows", "config.sinse"}
    missing = found["config.since"]
    assert missing.message == "is missing, and Settings, the config of orders, requires it"
    assert missing.remedy == "Did you write sinse for since? Give it: date."
    assert found["config.sinse"].message == "is no field of Settings, the config of orders, which refuses others"
    assert found["config.sinse"].remedy == "Did you mean since?"
    assert (
        found["config.rows"].message == 'is {"n": 1}, and no object is a value of it in Settings, the config of orders'
    )
    assert found["config.rows"].remedy == "Give another value: int, ge=1."
    assert judge(Settings, {"since": "soon", "window": {}, "rows": "many", "names": ["x"]}) == []


def test_a_name_of_another_asset_is_told_as_that() -> None:
    class Other(BaseModel):
        rows: int
        limit: int

    config = {"since": "2024-01-31", "window": {}, "first": "x", "rows": 3, "limit": 3}
    (problem,) = problems_of_request([node(Settings), node(Other, "b")], config)
    assert (problem.field, problem.value) == ("config.limit", 3)
    assert problem.remedy.startswith("b takes it, and a run has one config")


def test_what_code_of_the_model_may_change_before_is_not_judged() -> None:
    class Renames(Settings):
        @model_validator(mode="before")
        @classmethod
        def renamed(cls, data: Any) -> Any:
            return data

    class Wraps(Settings):
        @model_validator(mode="wrap")
        @classmethod
        def whole(cls, data: Any, handler: Callable[[Any], Any]) -> Any:
            return data

    class Begins(Settings):
        def __init__(self, **data: Any) -> None:
            super().__init__(**{"since": "2024-01-31", "window": {"start": "2024-01-31"}, "first": "x"} | data)

    class Reads(Settings):
        @classmethod
        def model_validate_json(cls, *given: Any, **more: Any) -> Any:
            return given

    class Whole(RootModel[dict[str, int]]): ...

    class OfChoice(BaseModel):
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], Any]) -> Any:
            return {"type": "no-info", "schema": handler(source)} | {"type": "any"}

    models: list[type[BaseModel]] = [Renames, Wraps, Begins, Reads, Whole, OfChoice]
    for model in models:
        assert described_model(model)["judged"] is False
        assert judge(model, {"other": 1}) == []
    assert len(described_model(Renames)["fields"]) == len(Settings.model_fields)
    assert described_model(Whole)["fields"] == []

    class After(Settings):
        @model_validator(mode="after")
        def whole(self) -> After:
            return self

    assert [one.field for one in judge(After, {"since": "x", "first": "x"})] == ["config.window"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({f"f{number}": (int, 0) for number in range(MAX_MODEL_FIELDS + 1)}, "has 201 fields, and 200 is the most"),
        ({f"f{number}": (int, Field(0, description="x" * 400)) for number in range(100)}, "bytes to describe"),
        ({"f": (int, Field(0, alias="x" * 201))}, "has a field whose name 'xxx"),
    ],
)
def test_a_model_that_is_too_large_is_told(fields: dict[str, Any], said: str) -> None:
    model: type[BaseModel] = create_model("Large", **fields)

    @asset(config=model)
    def wide(context: Context[Any]) -> None: ...

    (problem,) = wide.problems
    assert said in problem.message
    assert problem.message.startswith("has config Large, which ")


def _doubled(value: Any) -> Any:
    return value


def _wrapped(value: Any, handler: Callable[[Any], Any]) -> Any:
    return 3 if value in (None, {}, []) else handler(value)


_TYPES: list[Any] = [
    int,
    str,
    float,
    bool,
    date,
    list[int],
    dict[str, int],
    Window,
    Region,
    Any,
    SecretStr,
    Tree,
    tuple[int, ...],
    Literal["a", 1],
    int | None,
    list[str] | None,
    int | dict[str, int],
    Annotated[int, BeforeValidator(_doubled)],
    Annotated[int, AfterValidator(_doubled)],
    Annotated[int, WrapValidator(_wrapped)],
    Annotated[int, Field(default=3)],
]
_NAMES = ["a", "b", "c"]
_ALIASES: list[Any] = [None, None, "x", "y", AliasChoices("x", "y"), AliasPath("x", 0), AliasPath("x", "a")]
_ALIASES.append(AliasChoices(AliasPath("y", "b"), "x"))


class _Before(BaseModel):
    @model_validator(mode="before")
    @classmethod
    def renamed(cls, data: Any) -> Any:
        return {"a": 1, "b": 1, "c": 1} if isinstance(data, dict) and len(data) < 2 else data


class _After(BaseModel):
    @model_validator(mode="after")
    def whole(self) -> Any:
        return self


@st.composite
def _models(draw: st.DrawFn) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(_NAMES), unique=True)):
        alias = draw(st.sampled_from(_ALIASES))
        default = draw(st.sampled_from([..., ..., None, 3]))
        kind = draw(st.sampled_from(_TYPES))
        of_factory = kind is not _TYPES[-1] and draw(st.integers(0, 9)) == 0
        more: dict[str, Any] = {"default_factory": list} if of_factory else {"default": default}
        fields[name] = (kind, Field(validation_alias=alias, **more))
    base = draw(st.sampled_from([BaseModel, BaseModel, _After, _Before]))
    config = ConfigDict(
        extra=draw(st.sampled_from(["ignore", "forbid", "allow"])),
        strict=draw(st.booleans()),
        populate_by_name=draw(st.booleans()),
        coerce_numbers_to_str=draw(st.booleans()),
    )
    if draw(st.booleans()):
        config["alias_generator"] = str.upper
    bare: type[BaseModel] = type("Bare", (base,), {"__module__": __name__, "model_config": config})
    model: type[BaseModel] = create_model("Generated", __base__=bare, **fields)
    return model


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["a", "3", "eu", "2024-01-31", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "start"]), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=300)
@given(_models(), st.dictionaries(st.sampled_from(["a", "b", "c", "x", "y", "A", "z"]), _VALUES, max_size=5))
def test_what_a_request_is_refused_for_its_model_refuses_too(model: type[BaseModel], config: dict[str, Any]) -> None:
    found = judge(model, config)
    try:
        config_of(model, config, "a")
    except ConfigRefused as error:
        refused = str(error)
    else:
        refused = ""
    assert not found or refused, found
    # And of fields with one name, whatever is missing is found.
    takes = described_model(model)
    if takes.get("judged", True):
        missing = [one["name"] for one in takes["fields"] if one["required"] and not one.get("also")]
        told = {one.field for one in found}
        assert all(f"config.{name}" in told for name in missing if f"config.{name} is missing" in refused)
