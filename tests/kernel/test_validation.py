"""What breaks a rule is named by its path."""

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from hypothesis import given

from kernel.errors import FieldInvalidError
from kernel.validation import validate
from portolan.connections.v1 import connections_pb2
from portolan.jobs.v1 import jobs_pb2, runs_pb2
from portolan.mapper.v1 import mappings_pb2
from tests.messages import messages


def faults(message: Message) -> dict[str, str]:
    with pytest.raises(FieldInvalidError) as caught:
        validate(message)
    return caught.value.fields


def mapping(*columns: mappings_pb2.MappingColumn) -> mappings_pb2.Mapping:
    return mappings_pb2.Mapping(reference="DIM_X", columns=columns)


def test_a_sound_request_passes() -> None:
    validate(jobs_pb2.GetJobRequest(reference="DIM_X"))
    validate(runs_pb2.ListRunsRequest())


def test_a_nested_field_is_named_by_its_path() -> None:
    connection = connections_pb2.Connection(name="a", sqlite=connections_pb2.SqliteSettings())
    request = connections_pb2.CreateConnectionRequest(connection=connection)
    assert list(faults(request)) == ["connection.sqlite.path"]


def test_an_item_is_named_by_its_place() -> None:
    good, bad = mappings_pb2.MappingColumn(name="A"), mappings_pb2.MappingColumn(name="B" * 999)
    found = faults(mappings_pb2.CreateMappingRequest(mapping=mapping(good, bad)))
    assert "mapping.columns[1].name" in found
    assert "mapping.columns[0].name" not in found


def test_a_map_entry_is_named_by_its_key() -> None:
    request = jobs_pb2.RunJobRequest(reference="DIM_X", parameters={"day": "x" * 10_000})
    assert list(faults(request)) == ['parameters["day"]']


def test_a_rule_of_the_whole_names_what_it_can() -> None:
    request = connections_pb2.CreateConnectionRequest(connection=connections_pb2.Connection(name="a"))
    assert list(faults(request)) == ["connection.settings"]


def test_all_fields_at_fault_are_told_at_once() -> None:
    request = runs_pb2.ListRunsRequest(page_size=5000, page_token="x" * 5000)
    found = faults(request)
    assert set(found) == {"page_size", "page_token"}
    with pytest.raises(FieldInvalidError, match="and 1 more"):
        validate(request)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (jobs_pb2.GetJobRequest(reference="DIM\0X"), "reference"),
        (
            connections_pb2.UpdateConnectionRequest(
                name="a", connection=connections_pb2.Connection(description="a\0")
            ),
            "connection.description",
        ),
        (jobs_pb2.RunJobRequest(reference="A", parameters={"day": "\0"}), 'parameters["day"]'),
        (
            connections_pb2.UpdateConnectionRequest(name="a", update_mask=FieldMask(paths=["\0"])),
            "update_mask.paths[0]",
        ),
        (
            mappings_pb2.UpdateMappingRequest(
                reference="A", mapping=mapping(mappings_pb2.MappingColumn(logic="SELECT '\0'"))
            ),
            "mapping.columns[0].logic",
        ),
    ],
)
def test_a_text_with_nul_is_refused_since_no_database_keeps_it(message: Message, path: str) -> None:
    assert path in faults(message)


def test_bytes_may_hold_nul() -> None:
    validate(HttpBody(data=b"\0"))


@given(messages(mappings_pb2.CreateMappingRequest))
def test_no_message_is_a_fault(message: Message) -> None:
    try:
        validate(message)
    except FieldInvalidError as error:
        assert error.fields
        assert all("\0" not in path for path in error.fields)
