"""Idempotency keys: which are taken, what is said of the others, and header against body."""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.errors import Code, Refusal, Refused
from springline.keys import (
    BODY_FIELD,
    HEADER_FIELD,
    LONGEST_TEXT,
    check_key,
    idempotency_key,
    key_has_time,
    key_of,
)

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


# Fixed for ever: whoever has appended under such a text must find its commit again.
STANDS_FOR = {
    "airflow/load/2026-01-01": "c3b8dd94-b90d-70ff-b1cb-1e001c5abfde",
    "a": "ca978112-ca1b-7dca-bac2-31b39a23dc4d",
    " a": "fde598b3-ff8a-7963-8e1f-9bf49260baa0",
    "A": "d59aead0-8264-7579-9d39-09718cdd05ab",
    "x" * 500: "c38c2bf3-055c-716a-98ac-5d97f30e7c36",
    "Gr\u00fc\u00dfe \U0001f600": "b436cf1c-2f91-7923-ab6c-58432bc973f1",
    "e\u0301": "bf12767b-0f2a-76b2-9900-75bae8169f65",
    "\u00e9": "ca99557e-4033-7353-9de2-eb65472017ca",
    "\n": "81ba4719-c80b-7fe9-91b0-91a7c05124b6",
    "01946B1C-0000-7000-8000-000000000001": "a163110e-de48-79aa-a0e9-199b9311f4fa",
    "6f1c9b8e-3b1a-4c6e-9d7a-1f2e3d4c5b6a": "e6d00a68-d524-7c60-b594-e19c1c5f691d",
    "01946b1c-0000-7000-8000-000000000001\n": "f27cd099-a4c3-77ed-9072-407e0d7761a9",
}

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=LONGEST_TEXT)


@pytest.mark.parametrize(("text", "key"), STANDS_FOR.items())
def test_what_a_text_stands_for_never_changes(text: str, key: str) -> None:
    assert idempotency_key(text) == key


def test_a_uuid7_stands_for_itself_whatever_its_time() -> None:
    for key in (KEY, "ffffffff-ffff-7fff-bfff-ffffffffffff", "00000000-0000-7000-8000-000000000000"):
        assert idempotency_key(key) == key


@given(TEXTS)
def test_a_text_stands_for_121_bits_of_its_sha256_in_a_key_without_time(text: str) -> None:
    key = idempotency_key(text)
    assert check_key(key) == key
    assert idempotency_key(key) == key
    assert not key_has_time(key)
    # The rule once more, by other means: as binary text, with the seven bits that are not the digest's put in.
    bits = f"{int(hashlib.sha256(text.encode()).hexdigest(), 16):0256b}"
    assert f"{uuid.UUID(key).int:0128b}" == f"1{bits[1:48]}0111{bits[52:64]}10{bits[66:128]}"


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**12 - 1), st.integers(0, 2**62 - 1))
def test_a_key_has_a_time_until_the_year_6429(unix_ms: int, middle: int, rest: int) -> None:
    key = str(uuid.UUID(int=unix_ms << 80 | 7 << 76 | middle << 64 | 2 << 62 | rest))
    assert idempotency_key(key) == key
    assert key_has_time(key) == (unix_ms < 2**47)


@pytest.mark.parametrize("other", ["", "x", KEY.upper(), KEY + "\n", "01946b1c-0000-4000-8000-000000000001"])
def test_what_is_no_key_has_no_time(other: str) -> None:
    assert not key_has_time(other)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("x" * 501, "has 501 characters"),
        ("a\0b", "holds a NUL"),
        ("a\ud800b", "lone surrogate"),
        (7, "is not a string"),
        (None, "is not a string"),
        (b"a", "is not a string"),
    ],
)
def test_a_text_that_can_be_no_key_is_refused(text: str, part: str) -> None:
    with pytest.raises(Refused) as caught:
        idempotency_key(text, field="--key")
    refusal = caught.value.refusal
    assert (refusal.code, refusal.field) == (Code.INVALID_KEY, "--key")
    assert part in refusal.message
    assert "1 to 500 characters" in (refusal.remedy or "")
    refusal.model_dump_json()  # what is shown of the text can be sent


def test_the_api_says_that_client_and_cli_take_any_text() -> None:
    assert "springline explain" in (refusal_of("airflow/load/2026-01-01", None).remedy or "")
