from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springline.delta.features import ALLOWED, REFUSED, declared, require_supported, unsupported, writer_duties
from springline.errors import Code, Refused

PLAIN = {"minReaderVersion": 1, "minWriterVersion": 2}


def metadata(configuration: dict[str, str] | None = None, *fields: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "struct", "fields": list(fields) or [{"name": "a", "type": "long"}]}
    return {"schemaString": json.dumps(schema), "configuration": configuration or {}}


def listed(*names: str) -> dict[str, Any]:
    return {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": list(names)}


def test_a_plain_table_is_supported() -> None:
    assert unsupported(PLAIN, metadata()) == []
    assert unsupported({"minReaderVersion": 1, "minWriterVersion": 1}, metadata()) == []


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_every_allowed_feature_is_supported_as_reader_and_writer_feature(name: str) -> None:
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [name], "writerFeatures": [name]}
    assert unsupported(protocol, metadata()) == []


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_every_refused_feature_is_refused_by_name_and_reason(name: str) -> None:
    for protocol in (
        listed(name),
        {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [name], "writerFeatures": []},
    ):
        with pytest.raises(Refused) as caught:
            require_supported(protocol, metadata(), field="location")
        refusal = caught.value.refusal
        assert refusal.code is Code.UNSUPPORTED_FEATURE
        assert refusal.value == [name]
        assert name in refusal.message
        assert REFUSED[name] in refusal.message
        assert refusal.field == "location"
        assert refusal.remedy


def test_what_the_issue_names_is_refused() -> None:
    assert {
        "inCommitTimestamp",
        "rowTracking",
        "identityColumns",
        "icebergCompatV1",
        "icebergCompatV2",
        "catalogManaged",
        "catalogOwned-preview",
        "coordinatedCommits-preview",
    } <= set(REFUSED)
    assert not set(REFUSED) & set(ALLOWED)


def test_an_unknown_feature_is_refused() -> None:
    assert unsupported(listed("timeTravelToTheFuture"), metadata()) == [
        "timeTravelToTheFuture: we do not know this table feature"
    ]


@given(st.sets(st.sampled_from(sorted(ALLOWED))), st.sets(st.sampled_from(sorted(REFUSED))), st.text(min_size=1))
def test_exactly_the_features_off_the_list_are_found(allowed: set[str], refused: set[str], unknown: str) -> None:
    extra = set() if unknown in ALLOWED or unknown in REFUSED else {unknown}
    found = unsupported(listed(*allowed, *refused, *extra), metadata())
    assert len(found) == len(refused | extra)
    for name in refused | extra:
        assert any(line.startswith(f"{name}: ") for line in found)


@pytest.mark.parametrize(
    ("reader", "writer", "expected"),
    [
        (1, 1, set()),
        (1, 2, {"appendOnly", "invariants"}),
        (1, 3, {"appendOnly", "invariants", "checkConstraints"}),
        (1, 4, {"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns"}),
        (2, 5, {"appendOnly", "invariants", "checkConstraints", "changeDataFeed", "generatedColumns", "columnMapping"}),
    ],
)
def test_legacy_versions_stand_for_features(reader: int, writer: int, expected: set[str]) -> None:
    protocol = {"minReaderVersion": reader, "minWriterVersion": writer}
    assert declared(protocol) == expected
    assert unsupported(protocol, metadata()) == []


def test_legacy_writer_version_6_implies_identity_columns_and_is_refused() -> None:
    assert unsupported({"minReaderVersion": 2, "minWriterVersion": 6}, metadata())[0].startswith("identityColumns")


@pytest.mark.parametrize(("reader", "writer", "name"), [(4, 7, "minReaderVersion"), (1, 8, "minWriterVersion")])
def test_versions_of_the_future_are_refused(reader: int, writer: int, name: str) -> None:
    assert unsupported({"minReaderVersion": reader, "minWriterVersion": writer}, metadata())[0].startswith(name)


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        ("delta.enableInCommitTimestamps", "true", "inCommitTimestamp"),
        ("delta.enableRowTracking", "TRUE", "rowTracking"),
        ("delta.enableIcebergCompatV1", "true", "icebergCompatV1"),
        ("delta.enableIcebergCompatV2", " true ", "icebergCompatV2"),
        ("delta.coordinatedCommits.commitCoordinator-preview", "dynamodb", "coordinatedCommits-preview"),
        ("delta.universalFormat.enabledFormats", "iceberg", "universalFormat"),
        ("delta.columnMapping.mode", "name", "columnMapping"),
        ("delta.columnMapping.mode", "sideways", "columnMapping"),
    ],
)
def test_a_property_that_switches_a_feature_on_is_refused(key: str, value: str, name: str) -> None:
    found = unsupported(PLAIN, metadata({key: value}))
    assert [line.split(":")[0] for line in found] == [name]


def test_properties_that_switch_nothing_on_are_fine() -> None:
    harmless = {"delta.enableRowTracking": "false", "delta.columnMapping.mode": "none", "owner": "me"}
    assert unsupported(PLAIN, metadata(harmless)) == []
    assert unsupported(listed("columnMapping"), metadata({"delta.columnMapping.mode": "name"})) == []


def test_an_identity_column_is_found_however_deep_it_lies() -> None:
    identity = {"name": "n", "type": "long", "metadata": {"delta.identity.start": 1}}
    inner = {"type": "array", "elementType": {"type": "struct", "fields": [identity]}}
    for field in (identity, {"name": "s", "type": inner}, {"name": "m", "type": {"type": "map", "valueType": inner}}):
        assert unsupported(PLAIN, metadata({}, field))[0].startswith("identityColumns")


def test_data_files_that_are_not_parquet_are_refused() -> None:
    assert unsupported(PLAIN, {**metadata(), "format": {"provider": "orc"}}) == [
        "format: data files are 'orc', not parquet"
    ]


@pytest.mark.parametrize(
    ("protocol", "body", "field"),
    [
        ({}, metadata(), "protocol.minReaderVersion"),
        ({"minReaderVersion": 1, "minWriterVersion": "2"}, metadata(), "protocol.minWriterVersion"),
        ({"minReaderVersion": True, "minWriterVersion": 2}, metadata(), "protocol.minReaderVersion"),
        ({**listed(), "writerFeatures": "appendOnly"}, metadata(), "protocol.writerFeatures"),
        (PLAIN, {"schemaString": "{"}, "metaData.schemaString"),
        (PLAIN, {"schemaString": "[]"}, "metaData.schemaString"),
        (PLAIN, {**metadata(), "configuration": []}, "metaData.configuration"),
    ],
)
def test_malformed_actions_are_no_delta_table(protocol: dict[str, Any], body: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as caught:
        unsupported(protocol, body)
    assert caught.value.refusal.code is Code.NOT_A_DELTA_TABLE
    assert caught.value.refusal.field == field


@pytest.mark.parametrize(
    ("protocol", "body", "duties"),
    [
        (PLAIN, metadata(), []),
        ({"minReaderVersion": 1, "minWriterVersion": 4}, metadata({"delta.appendOnly": "true"}), []),
        (PLAIN, metadata({"delta.constraints.positive": "a > 0"}), ["checkConstraints"]),
        (
            PLAIN,
            metadata({}, {"name": "a", "type": "long", "metadata": {"delta.invariants": "{}"}}),
            ["invariants"],
        ),
        (
            PLAIN,
            metadata({}, {"name": "a", "type": "long", "metadata": {"delta.generationExpression": "b"}}),
            ["generatedColumns"],
        ),
        (
            PLAIN,
            metadata({}, {"name": "a", "type": "long", "metadata": {"CURRENT_DEFAULT": "1"}}),
            ["allowColumnDefaults"],
        ),
        (
            {"minReaderVersion": 2, "minWriterVersion": 5},
            metadata({"delta.columnMapping.mode": "name"}),
            ["columnMapping"],
        ),
        (listed("clustering", "appendOnly"), metadata(), ["clustering"]),
    ],
)
def test_the_duties_our_client_does_not_fulfil(
    protocol: dict[str, Any], body: dict[str, Any], duties: list[str]
) -> None:
    assert writer_duties(protocol, body) == duties
