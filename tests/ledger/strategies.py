"""Payloads of all types, made from the schema itself, so that no field is forgotten."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

from springline.ledger import events as e
from springline.ledger.member import MEMBER, member_type
from springline.ledger.nested import TIMESTAMP_MARK
from springline.ledger.timestamps import format_timestamp

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIMESTAMPS = st.integers(0, 4_102_444_800_000_000_000).map(format_timestamp)
_MAX_U64 = 2**64 - 1
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), _MAX_U64) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
"""Any JSON value."""


def of_type(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Return plain JSON values of a type; optional fields come absent and present."""
    if isinstance(kind, inspect.Metadata):
        return TIMESTAMPS if kind.extra == TIMESTAMP_MARK else of_type(kind.type)
    if isinstance(kind, inspect.StrType):
        return TEXT
    if isinstance(kind, inspect.BoolType):
        return st.booleans()
    if isinstance(kind, inspect.IntType):
        return st.integers(kind.ge, _MAX_U64 if kind.le is None else kind.le)
    if isinstance(kind, inspect.LiteralType):
        return st.sampled_from(sorted(kind.values, key=str))
    if isinstance(kind, inspect.ListType):
        return st.lists(of_type(kind.item_type), max_size=3)
    if isinstance(kind, inspect.DictType):
        return st.dictionaries(TEXT, of_type(kind.value_type), max_size=3)
    if isinstance(kind, inspect.StructType):
        return _of_struct(kind)
    if isinstance(kind, inspect.AnyType):
        return ANYTHING
    assert isinstance(kind, inspect.UnionType)
    members = [member for member in kind.types if not isinstance(member, inspect.NoneType)]
    return st.one_of(*map(of_type, members))


def _of_struct(kind: inspect.StructType) -> st.SearchStrategy[dict[str, Any]]:
    required = {field.encode_name: of_type(field.type) for field in kind.fields if field.required}
    optional = {
        field.encode_name: of_type(field.type)
        for field in kind.fields
        if not field.required and field.encode_name != MEMBER
    }
    member = member_type(kind.cls)
    if member is not None:
        optional[MEMBER] = of_type(inspect.type_info(member))
    if kind.tag_field is not None:
        required[kind.tag_field] = st.just(kind.tag)
    return st.fixed_dictionaries(required, optional=optional)


def data_of(payload_class: type[msgspec.Struct]) -> st.SearchStrategy[dict[str, Any]]:
    """Return `data` objects of one event type, as a caller sends them."""
    return of_type(inspect.type_info(payload_class))


DATA = st.one_of(*map(data_of, e.PAYLOAD_TYPES.values()))
"""`data` objects of all event types."""
