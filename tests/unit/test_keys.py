"""Idempotency keys: which are taken, what is said of the others, and header against body."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.delta.keys import BODY_FIELD, HEADER_FIELD, check_key, key_of
from springline.errors import Code, Refusal, Refused

KEY = "01946b1c-0000-7000-8000-000000000001"
OTHER = "01946b1c-0000-7000-8000-000000000002"


def refusal_of(header: str | None, body: str | None) -> Refusal:
    with pytest.raises(Refused) as caught:
        key_of(header, body)
    return caught.value.refusal


@pytest.mark.parametrize(("header", "body"), [(KEY, None), (None, KEY), (KEY, KEY)])
def test_a_key_is_taken_from_either_place(header: str | None, body: str | None) -> None:
    assert key_of(header, body) == KEY


# The kinds of keys that the reference system refuses too.
BAD = [
    ("not-a-uuid", "is not a UUID"),
    ("", "is not a UUID"),
    ("6f1c9b8e-3b1a-4c6e-9d7a-1f2e3d4c5b6a", "its version is 4"),
    ("01946b1c-0000-7000-0000-000000000001", "its variant"),
    ("01946B1C-0000-7000-8000-000000000001", "canonical lower-case"),
    ("01946b1c000070008000000000000001", "canonical lower-case"),
    ("{01946b1c-0000-7000-8000-000000000001}", "canonical lower-case"),
    ("urn:uuid:01946b1c-0000-7000-8000-000000000001", "canonical lower-case"),
    (KEY + "\n", "is not a UUID"),
    ("x" * 10_000, "is not a UUID"),
]


@pytest.mark.parametrize(("bad", "part"), BAD)
@pytest.mark.parametrize("where", [HEADER_FIELD, BODY_FIELD])
def test_a_bad_key_is_refused_by_kind_and_place(bad: str, part: str, where: str) -> None:
    refusal = refusal_of(bad, None) if where == HEADER_FIELD else refusal_of(None, bad)
    assert refusal.code is Code.INVALID_KEY
    assert refusal.field == where
    assert part in refusal.message
    assert refusal.value == bad[:100]
    assert "UUIDv7" in (refusal.remedy or "")


def test_no_key_at_all_is_refused() -> None:
    refusal = refusal_of(None, None)
    assert refusal.code is Code.INVALID_KEY
    assert refusal.field == HEADER_FIELD
    assert BODY_FIELD in (refusal.remedy or "")


def test_two_different_keys_are_refused_even_if_one_is_bad() -> None:
    for header, body in ((KEY, OTHER), (KEY, "junk"), ("junk", KEY), (KEY, KEY.upper())):
        refusal = refusal_of(header, body)
        assert refusal.code is Code.KEYS_DIFFER
        assert refusal.status == 409
        assert refusal.value == {HEADER_FIELD: header, BODY_FIELD: body}


@given(st.integers(0, 2**128 - 1))
def test_every_uuidv7_in_canonical_form_is_a_key_and_no_other_uuid_is(number: int) -> None:
    digits = f"{number:032x}"
    text = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    if digits[12] == "7" and digits[16] in "89ab":
        assert check_key(text) == text
    else:
        with pytest.raises(Refused):
            check_key(text)
    seven = f"{text[:14]}7{text[15:19]}a{text[20:]}"
    assert check_key(seven) == seven


GOLDEN = Path(__file__).parent.parent / "golden" / "fingerprints.json"


@pytest.mark.parametrize(
    ("key", "reason"),
    [(case["idempotency_key"], case["error"]) for case in json.loads(GOLDEN.read_text())["delta_bad_keys"]],
)
def test_what_the_reference_refuses_is_refused_for_the_same_reason(key: str, reason: str) -> None:
    message = refusal_of(key, None).message
    ours = {
        "must be a valid UUID": "is not a UUID",
        "must be UUIDv7 (RFC 9562)": "is not a UUIDv7",
        "must be a canonical lowercase UUID string": "canonical lower-case form",
    }
    assert ours[reason.removeprefix("bad request: Idempotency-Key ")] in message
