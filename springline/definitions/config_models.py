"""Judging the config of a request for a run by what its assets say that they take, before anything begins.

Only what is certain is judged: names that are missing, names that are refused, and kinds of values that no field of its
type takes. All else is for the models themselves, in the attempts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from springline.bounds import on_one_line
from springline.definitions.configs import ConfigProblem
from springline.definitions.ids import meant, named
from springline.definitions.nodes import AssetDefinition, ConfigDefinition, ConfigField, DefinedTask, JsonKind

_MOST_NAME: Final = 100
_MOST_VALUE: Final = 80
_MOST_TOLD: Final = 10

Node = AssetDefinition | DefinedTask


def problems_of_request(nodes: Iterable[Node], config: Mapping[str, Any]) -> list[ConfigProblem]:
    """Return what the models of the nodes of a run would refuse of its config for certain, in the order of their keys.

    All nodes of a run share the config. One whose code sees it first, or that declares no model, judges nothing.
    """
    by_key = {one.key: one for one in nodes if one.config is not None and one.config.judged}
    return [problem for _, one in sorted(by_key.items()) for problem in _refused_by(one, by_key.values(), config)]


def told_in_one(problems: Sequence[ConfigProblem]) -> str:
    """Return what is wrong with a config, for one message."""
    more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return "; ".join(f"{one.field} {one.message}" for one in problems[:_MOST_TOLD]) + more


def _refused_by(node: Node, all_nodes: Iterable[Node], config: Mapping[str, Any]) -> Iterator[ConfigProblem]:
    shape = node.config
    assert shape is not None
    taken = names_of(shape)
    who = f"{shape.model}, the config of {node.key}"
    for field in shape.fields:
        given = [name for name in (field.name, *field.also) if name in config]
        if field.required and not given:
            yield _missing(field, who, [name for name in config if name not in taken])
        elif given == [field.name] and not field.also:
            problem = _of_value(field, who, config[field.name])
            if problem is not None:
                yield problem
    if shape.forbids_others:
        for name in config:
            if name not in taken:
                yield _forbidden(name, config[name], shape, who, all_nodes)


def names_of(shape: ConfigDefinition) -> set[str]:
    """Return the names of a config that the fields of a model are read from."""
    return {name for one in shape.fields for name in (one.name, *one.also)}


def _missing(field: ConfigField, who: str, unknown: Sequence[str]) -> ConfigProblem:
    near = [name for name in unknown if meant(name, [field.name])]
    written = f"Did you write {on_one_line(near[0], _MOST_NAME)} for {field.name}? " if near else ""
    said = f"is missing, and {who}, requires it"
    return ConfigProblem(_place(field.name), None, said, f"{written}Give it: {field.type}.")


def _forbidden(name: str, value: Any, shape: ConfigDefinition, who: str, all_nodes: Iterable[Node]) -> ConfigProblem:
    fields = [one.name for one in shape.fields]
    near = meant(name, fields).strip()
    takers = [one.key for one in all_nodes if one.config is not None and name in names_of(one.config)]
    if takers:
        remedy = (
            f"{named(takers)} takes it, and a run has one config: make them in runs of their own, or let {shape.model} "
            "ignore what others take."
        )
    else:
        remedy = near or f"Leave it out; there are {named(fields)}."
    return ConfigProblem(_place(name), value, f"is no field of {who}, which refuses others", remedy)


def _of_value(field: ConfigField, who: str, value: Any) -> ConfigProblem | None:
    kind = kind_of_json(value)
    if kind not in field.refuses:
        return None
    shown = on_one_line(json.dumps(value, ensure_ascii=False), _MOST_VALUE)
    said = f"is {shown}, and no {kind} is a value of it in {who}"
    return ConfigProblem(_place(field.name), value, said, f"Give another value: {field.type}.")


def _place(name: str) -> str:
    return f"config.{on_one_line(name, _MOST_NAME)}"


def kind_of_json(value: Any) -> JsonKind:
    """Return what a JSON value is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"
