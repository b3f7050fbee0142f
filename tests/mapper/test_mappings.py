"""Mappings over gRPC: versions, etags, validation, activation, compilation."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from portolan.connections.v1 import connections_pb2
from portolan.mapper.v1 import mappings_pb2 as pb
from tests.mapper.service import Suite
from tests.servers import refusal


def column(name: str, **changes: Any) -> pb.MappingColumn:
    values: dict[str, Any] = {
        "name": name,
        "data_type": "String50",
        "logic": "SELECT code, name, city FROM harbours",
        "key_columns": ["code"],
        "value_column": name.lower(),
    }
    return pb.MappingColumn(**values | changes)


def harbours(**changes: Any) -> pb.Mapping:
    values: dict[str, Any] = {
        "reference": "DIM_HARBOUR",
        "description": "Harbours and their cities",
        "source_connection": "charts",
        "target_connection": "warehouse",
        "target_table": "DIM_HARBOUR",
        "table_type": pb.TABLE_TYPE_DIMENSION,
        "source_system": "Charts",
        "columns": [
            column("CODE", key=True, key_sequence=1),
            column("NAME"),
            column("CITY", scd_type=pb.SCD_TYPE_NEW_VERSION),
        ],
    }
    return pb.Mapping(**values | changes)


def calls(**changes: Any) -> pb.Mapping:
    logic = "SELECT no, harbour, day, dues FROM calls"
    lookup = pb.Lookup(mapping="DIM_HARBOUR", match_columns=["HARBOUR"], as_of_column="DAY", default_key=-1)
    given = {"logic": logic, "key_columns": ["no"]}
    values: dict[str, Any] = {
        "reference": "FCT_CALL",
        "target_table": "FCT_CALL",
        "table_type": pb.TABLE_TYPE_FACT,
        "columns": [
            column("NO", data_type="Integer", key=True, key_sequence=1, **given),
            column("HARBOUR", **given),
            column("DAY", data_type="Date", **given),
            column("DUES", data_type="Decimal(15,2)", **given),
            pb.MappingColumn(name="HARBOUR_SKEY", lookup=lookup),
        ],
    }
    return harbours(**values | changes)


def sources(mapper: Suite, path: Path) -> None:
    charts = sqlite3.connect(path / "charts.db")
    charts.execute("CREATE TABLE harbours (code TEXT, name TEXT, city TEXT, founded DATE)")
    charts.execute("CREATE TABLE calls (no INTEGER, harbour TEXT, day DATE, dues DECIMAL(15,2))")
    charts.close()
    sqlite3.connect(path / "warehouse.db").close()
    mapper.connections.files = {"charts": path / "charts.db", "warehouse": path / "warehouse.db"}


def told(faults: list[pb.Fault]) -> list[tuple[int, str, str, str]]:
    return [
        (fault.row, fault.field, pb.Fault.Reason.Name(fault.reason).removeprefix("REASON_"), fault.cell)
        for fault in faults
    ]


def get(reference: str, version: int = 0) -> pb.GetMappingRequest:
    return pb.GetMappingRequest(reference=reference, version=version)


async def test_a_mapping_is_kept_as_version_one(mapper: Suite) -> None:
    created = await mapper.create(calls())
    assert (created.version, created.active_version, created.validated) == (1, 0, False)
    assert created.creator == "ada"
    assert created.columns == calls().columns
    assert await mapper.call("GetMapping", get("FCT_CALL")) == created
    taken = await refusal(mapper.call("CreateMapping", pb.CreateMappingRequest(mapping=calls())))
    assert taken.reason == "MAPPING_EXISTS"


async def test_an_update_makes_a_version_and_the_older_one_stays(mapper: Suite) -> None:
    first = await mapper.create(harbours())
    request = pb.UpdateMappingRequest(
        reference="DIM_HARBOUR",
        mapping=pb.Mapping(description="  New  ", etag=first.etag),
        update_mask=FieldMask(paths=["description"]),
    )
    second = await mapper.call("UpdateMapping", request)
    assert (second.version, second.description, second.columns) == (2, "New", first.columns)
    assert second.etag != first.etag
    assert (await mapper.call("GetMapping", get("DIM_HARBOUR", 1))).description == first.description
    assert (await refusal(mapper.call("UpdateMapping", request))).reason == "ETAG_MISMATCH"
    request.mapping.etag = second.etag
    assert await mapper.call("UpdateMapping", request) == second
    versions = await mapper.call(
        "ListMappingVersions", pb.ListMappingVersionsRequest(reference="DIM_HARBOUR")
    )
    assert [version.version for version in versions.versions] == [2, 1]


async def test_what_cannot_be_changed_or_does_not_exist_is_refused(mapper: Suite) -> None:
    await mapper.create(harbours())
    wrong = pb.UpdateMappingRequest(reference="DIM_HARBOUR", update_mask=FieldMask(paths=["reference"]))
    assert (await refusal(mapper.call("UpdateMapping", wrong))).reason == "FIELD_INVALID"
    for name, request in {
        "GetMapping": get("NONE"),
        "UpdateMapping": pb.UpdateMappingRequest(reference="NONE"),
        "DeleteMapping": pb.DeleteMappingRequest(reference="NONE"),
        "ValidateMapping": pb.ValidateMappingRequest(reference="NONE"),
        "ActivateMapping": pb.ActivateMappingRequest(reference="NONE"),
        "CompileMapping": pb.CompileMappingRequest(reference="NONE"),
    }.items():
        assert (await refusal(mapper.call(name, request))).reason == "MAPPING_NOT_FOUND"
    assert (await refusal(mapper.call("GetMapping", get("DIM_HARBOUR", 2)))).reason == "MAPPING_NOT_FOUND"


async def test_another_organization_sees_nothing(mapper: Suite) -> None:
    await mapper.create(harbours())
    there = {"organization": "org-2"}
    assert (
        await refusal(mapper.call("GetMapping", get("DIM_HARBOUR"), **there))
    ).reason == "MAPPING_NOT_FOUND"
    listed = await mapper.call("ListMappings", pb.ListMappingsRequest(), **there)
    assert not listed.mappings
    await mapper.call("CreateMapping", pb.CreateMappingRequest(mapping=harbours()), **there)


async def test_lists_are_searched_by_words_and_paged(mapper: Suite) -> None:
    await mapper.create(harbours())
    await mapper.create(calls(description="100% of calls"))
    await mapper.create(harbours(reference="DIM_X", description="x"))

    async def found(**arguments: Any) -> list[str]:
        response = await mapper.call("ListMappings", pb.ListMappingsRequest(**arguments))
        return [mapping.reference for mapping in response.mappings]

    assert await found() == ["DIM_HARBOUR", "DIM_X", "FCT_CALL"]
    assert await found(search="city CITIES") == []
    assert await found(search="harbour CITIES") == ["DIM_HARBOUR"]
    assert await found(search="100%") == ["FCT_CALL"]
    assert await found(search="_x") == ["DIM_X"]
    assert await found(table_type=pb.TABLE_TYPE_FACT) == ["FCT_CALL"]
    first = await mapper.call("ListMappings", pb.ListMappingsRequest(page_size=2))
    assert not any(mapping.columns for mapping in first.mappings)
    assert await found(page_size=2, page_token=first.next_page_token) == ["FCT_CALL"]


async def test_a_source_that_is_away_takes_back_no_validation(mapper: Suite, tmp_path: Path) -> None:
    sources(mapper, tmp_path)
    mapping = harbours()
    await mapper.create(mapping)
    assert await mapper.validate("DIM_HARBOUR") == []
    del mapper.connections.files[mapping.source_connection]
    faults = await mapper.validate("DIM_HARBOUR")
    assert {fault.reason for fault in faults} == {pb.Fault.REASON_CONNECTION}
    assert (await mapper.activate("DIM_HARBOUR")).active_version == 1


async def test_a_sound_mapping_is_validated_activated_and_compiled(mapper: Suite, tmp_path: Path) -> None:
    sources(mapper, tmp_path)
    await mapper.create(harbours())
    compiled = pb.CompileMappingRequest(reference="FCT_CALL")
    assert await mapper.validate("DIM_HARBOUR") == []
    await mapper.create(calls())
    not_yet = await refusal(mapper.call("ActivateMapping", pb.ActivateMappingRequest(reference="FCT_CALL")))
    assert not_yet.reason == "MAPPING_NOT_VALIDATED"
    assert (await refusal(mapper.call("CompileMapping", compiled))).reason == "MAPPING_NOT_ACTIVE"
    assert await mapper.validate("FCT_CALL") == []
    assert (await mapper.activate("FCT_CALL")).active_version == 1
    plan = await mapper.call("CompileMapping", compiled)
    assert (plan.version, plan.source_kind, plan.target_kind) == (1, 2, 2)
    assert not plan.stage.fill
    assert 'LEFT OUTER JOIN (SELECT "DIM_HARBOUR"."CODE"' in plan.merge.insert_all
    deactivate = pb.DeactivateMappingRequest(reference="FCT_CALL")
    assert (await mapper.call("DeactivateMapping", deactivate)).active_version == 0
    assert (await refusal(mapper.call("CompileMapping", compiled))).reason == "MAPPING_NOT_ACTIVE"
    compiled.version = 1
    assert (await mapper.call("CompileMapping", compiled)).version == 1


async def test_a_new_version_must_be_validated_anew_while_the_active_one_stays(
    mapper: Suite, tmp_path: Path
) -> None:
    sources(mapper, tmp_path)
    await mapper.create(harbours())
    await mapper.validate("DIM_HARBOUR")
    await mapper.activate("DIM_HARBOUR")
    changed = pb.UpdateMappingRequest(reference="DIM_HARBOUR", mapping=pb.Mapping(description="other"))
    updated = await mapper.call("UpdateMapping", changed)
    assert (updated.version, updated.validated, updated.active_version) == (2, False, 1)
    refused = await refusal(
        mapper.call("ActivateMapping", pb.ActivateMappingRequest(reference="DIM_HARBOUR"))
    )
    assert refused.reason == "MAPPING_NOT_VALIDATED"
    assert (
        await mapper.call("CompileMapping", pb.CompileMappingRequest(reference="DIM_HARBOUR"))
    ).version == 1


async def test_every_fault_is_told_at_once_at_its_place(mapper: Suite, tmp_path: Path) -> None:
    sources(mapper, tmp_path)
    lookup = pb.Lookup(mapping="NONE", as_of_column="NAME", match_columns=["CODE", "NONE"])
    own = pb.Lookup(mapping="DIM_HARBOUR", match_columns=[" "])
    await mapper.create(
        harbours(
            target_table="1 table",
            target_schema="dw",
            source_system="",
            table_type=pb.TABLE_TYPE_UNSPECIFIED,
            columns=[
                column("CODE", key=True, key_columns=["code", "name"]),
                column("Name", data_type="Varchar2"),
                column("name", value_column="city", key_sequence=2),
                column(
                    "SKEY",
                    logic="SELECT code, founded FROM harbours",
                    value_column="founded",
                    data_type="Integer",
                ),
                column("A", logic="SELECT code FROM nowhere", combination_code="X"),
                column("B", logic="DELETE FROM harbours", combination_code="X"),
                column("C", logic="", value_column="", key_columns=[]),
                column("D", value_column="town", combination_code="X", key_columns=["Code "]),
                pb.MappingColumn(name="E", lookup=lookup),
                pb.MappingColumn(name="F", key=True, key_sequence=1, lookup=own),
            ],
        )
    )
    faults = await mapper.validate("DIM_HARBOUR")
    assert set(told(faults)) == {
        (0, "source_system", "MISSING", "C3"),
        (0, "table_type", "MISSING", "E3"),
        (0, "target_table", "ILLEGAL", "D3"),
        (0, "target_schema", "ILLEGAL", "F3"),
        (1, "key_sequence", "MISSING", "B7"),
        (2, "data_type", "ILLEGAL", "D8"),
        (3, "name", "DUPLICATE", "C9"),
        (3, "key_sequence", "CONFLICT", "B9"),
        (3, "key_columns", "CONFLICT", "G9"),
    } | {fault for fault in told(faults) if fault[0] > 3 or fault[1:3] == ("key_columns", "CONFLICT")}
    by_place = {(fault.row, fault.field): fault for fault in faults}
    assert by_place[4, "name"].reason == pb.Fault.REASON_ILLEGAL
    assert by_place[4, "data_type"].reason == pb.Fault.REASON_TYPE_MISMATCH
    assert by_place[5, "logic"].reason == pb.Fault.REASON_QUERY_INVALID
    assert "nowhere" in by_place[5, "logic"].message
    assert by_place[6, "logic"].reason == pb.Fault.REASON_QUERY_REFUSED
    assert {(7, "logic"), (7, "key_columns"), (7, "value_column")} <= by_place.keys()
    assert by_place[8, "value_column"].reason == pb.Fault.REASON_COLUMN_NOT_RETURNED
    assert by_place[9, "lookup.mapping"].reason == pb.Fault.REASON_UNKNOWN
    assert by_place[9, "lookup.match_columns"].reason == pb.Fault.REASON_UNKNOWN
    assert by_place[9, "lookup.as_of_column"].reason == pb.Fault.REASON_TYPE_MISMATCH
    assert by_place[10, "lookup.match_columns"].reason == pb.Fault.REASON_MISSING
    assert by_place[10, "lookup.mapping"].reason == pb.Fault.REASON_ILLEGAL
    assert by_place[10, "key"].reason == pb.Fault.REASON_CONFLICT
    read = await mapper.call("GetMapping", get("DIM_HARBOUR"))
    assert not read.validated
    assert read.HasField("validate_time")


async def test_connections_at_fault_are_told(mapper: Suite, tmp_path: Path) -> None:
    sources(mapper, tmp_path)
    mapper.connections.kinds = {"folder": connections_pb2.KIND_FILES}
    await mapper.create(harbours(source_connection="none", target_connection="folder"))
    assert told(await mapper.validate("DIM_HARBOUR")) == [
        (0, "target_connection", "ILLEGAL", "J3"),
        (0, "source_connection", "CONNECTION", "I3"),
    ]


async def test_a_look_up_must_fit_the_dimension(mapper: Suite, tmp_path: Path) -> None:
    sources(mapper, tmp_path)
    await mapper.create(harbours())
    await mapper.validate("DIM_HARBOUR")
    columns = calls().columns
    columns[4].lookup.match_columns[:] = ["NO"]
    await mapper.create(calls(columns=columns))
    assert told(await mapper.validate("FCT_CALL")) == [
        (5, "lookup.match_columns", "TYPE_MISMATCH", "M11"),
    ]
    columns[4].lookup.match_columns[:] = ["HARBOUR", "NO"]
    await mapper.create(calls(reference="FCT_2", columns=columns))
    assert told(await mapper.validate("FCT_2")) == [(5, "lookup.match_columns", "CONFLICT", "M11")]
    await mapper.create(calls(reference="FCT_3", target_connection="charts"))
    assert told(await mapper.validate("FCT_3")) == [(5, "lookup.mapping", "CONFLICT", "L11")]


async def test_a_dimension_whose_key_changed_must_be_looked_up_anew(mapper: Suite, tmp_path: Path) -> None:
    sources(mapper, tmp_path)
    await mapper.create(harbours())
    await mapper.validate("DIM_HARBOUR")
    await mapper.create(calls())
    assert await mapper.validate("FCT_CALL") == []
    both = {"key": True, "key_columns": ["code", "name"]}
    columns = [column("CODE", key_sequence=1, **both), column("NAME", key_sequence=2, **both)]
    update = pb.UpdateMappingRequest(reference="DIM_HARBOUR", mapping=pb.Mapping(columns=columns))
    await mapper.call("UpdateMapping", update)
    assert await mapper.validate("DIM_HARBOUR") == []
    compiled = pb.CompileMappingRequest(reference="FCT_CALL", version=1)
    refused = await refusal(mapper.call("CompileMapping", compiled))
    assert refused.reason == "MAPPING_NOT_VALIDATED"
    assert "CODE, NAME" in refused.message


async def test_a_mapping_with_a_job_cannot_be_deleted(mapper: Suite) -> None:
    await mapper.create(harbours())
    mapper.jobs.references.add("DIM_HARBOUR")
    delete = pb.DeleteMappingRequest(reference="DIM_HARBOUR")
    assert (await refusal(mapper.call("DeleteMapping", delete))).reason == "MAPPING_IN_USE"
    mapper.jobs.references.clear()
    delete.etag = '"7"'
    assert (await refusal(mapper.call("DeleteMapping", delete))).reason == "ETAG_MISMATCH"
    delete.etag = ""
    await mapper.call("DeleteMapping", delete)
    assert (await refusal(mapper.call("GetMapping", get("DIM_HARBOUR")))).reason == "MAPPING_NOT_FOUND"
    assert (await mapper.create(harbours())).version == 1


async def test_a_mapping_that_others_look_up_cannot_be_deleted(mapper: Suite, tmp_path: Path) -> None:
    sources(mapper, tmp_path)
    await mapper.create(harbours())
    await mapper.validate("DIM_HARBOUR")
    await mapper.create(calls())
    await mapper.create(harbours(reference="DIM_X", description='"DIM_HARBOUR"'))
    delete = pb.DeleteMappingRequest(reference="DIM_HARBOUR")
    refused = await refusal(mapper.call("DeleteMapping", delete))
    assert (refused.reason, refused.metadata["mappings"]) == ("MAPPING_IN_USE", "FCT_CALL")
    await mapper.validate("FCT_CALL")
    await mapper.activate("FCT_CALL")
    without = pb.Mapping(columns=calls().columns[:4])
    await mapper.call("UpdateMapping", pb.UpdateMappingRequest(reference="FCT_CALL", mapping=without))
    active = await refusal(mapper.call("DeleteMapping", delete))
    assert active.message == "DIM_HARBOUR is looked up by FCT_CALL"
    await mapper.call("DeactivateMapping", pb.DeactivateMappingRequest(reference="FCT_CALL"))
    await mapper.call("DeleteMapping", delete)


async def test_the_first_mappings_that_look_one_up_are_named(mapper: Suite) -> None:
    await mapper.create(harbours())
    for number in range(7):
        await mapper.create(calls(reference=f"FCT_{number}"))
    there = {"organization": "org-2"}
    await mapper.call("CreateMapping", pb.CreateMappingRequest(mapping=harbours()), **there)
    delete = pb.DeleteMappingRequest(reference="DIM_HARBOUR")
    refused = await refusal(mapper.call("DeleteMapping", delete))
    assert refused.message.endswith("by FCT_0, FCT_1, FCT_2, FCT_3, FCT_4 and 2 more")
    await mapper.call("DeleteMapping", delete, **there)


async def test_a_mapping_that_looks_itself_up_can_be_deleted(mapper: Suite) -> None:
    lookup = pb.Lookup(mapping="DIM_HARBOUR", match_columns=["CODE"])
    await mapper.create(harbours(columns=[pb.MappingColumn(name="OWN", lookup=lookup)]))
    await mapper.call("DeleteMapping", pb.DeleteMappingRequest(reference="DIM_HARBOUR"))


async def test_mappings_are_found_by_the_connections_of_their_latest_and_active_versions(
    mapper: Suite, tmp_path: Path
) -> None:
    sources(mapper, tmp_path)
    await mapper.create(harbours())
    await mapper.create(calls(source_connection="warehouse"))
    await mapper.validate("DIM_HARBOUR")
    await mapper.activate("DIM_HARBOUR")

    async def found(connection: str) -> list[str]:
        response = await mapper.call("ListMappings", pb.ListMappingsRequest(connection=connection))
        return [mapping.reference for mapping in response.mappings]

    assert await found("charts") == ["DIM_HARBOUR"]
    assert await found("warehouse") == ["DIM_HARBOUR", "FCT_CALL"]
    assert await found("chart%") == []
    moved = pb.Mapping(source_connection="elsewhere")
    await mapper.call("UpdateMapping", pb.UpdateMappingRequest(reference="DIM_HARBOUR", mapping=moved))
    assert await found("elsewhere") == await found("charts") == ["DIM_HARBOUR"]
    await mapper.call("DeactivateMapping", pb.DeactivateMappingRequest(reference="DIM_HARBOUR"))
    assert await found("charts") == []


async def test_updates_at_once_make_one_version_each(mapper: Suite) -> None:
    await mapper.create(harbours())
    updates = [
        pb.UpdateMappingRequest(reference="DIM_HARBOUR", mapping=pb.Mapping(description=f"text {number}"))
        for number in range(8)
    ]
    made = await asyncio.gather(*(mapper.call("UpdateMapping", update) for update in updates))
    assert sorted(mapping.version for mapping in made) == list(range(2, 10))
