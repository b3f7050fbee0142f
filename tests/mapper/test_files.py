"""Workbooks and CSV files over gRPC: import, export, template."""

import io
from collections.abc import AsyncIterator
from typing import Any

import openpyxl
import pytest
from google.api.httpbody_pb2 import HttpBody

from portolan.mapper.v1 import mappings_pb2 as pb
from services.mapper.servicers.files import CSV, XLSX
from tests.mapper.service import Suite
from tests.mapper.test_mappings import calls, get, harbours
from tests.servers import refusal

BOUNDARY = "----seven-lighthouses"


async def requests(
    content: bytes, kind: str, *, validate_only: bool = False
) -> AsyncIterator[pb.ImportMappingsRequest]:
    for place in range(0, max(len(content), 1), 1000):
        file = HttpBody(content_type=kind if place == 0 else "", data=content[place : place + 1000])
        yield pb.ImportMappingsRequest(file=file, validate_only=validate_only and place == 0)


def imported(mapper: Suite, content: bytes, kind: str = XLSX, **options: Any) -> Any:
    return mapper.call("ImportMappings", requests(content, kind, **options))


async def file(mapper: Suite, name: str, request: Any) -> tuple[bytes, str, str]:
    """A downloaded file, its content type and its disposition."""
    call = mapper.call(name, request)
    pieces = [piece async for piece in call]
    assert all(len(piece.data) <= 256 * 1024 for piece in pieces)
    headers = dict(await call.initial_metadata())
    return (
        b"".join(piece.data for piece in pieces),
        pieces[0].content_type,
        str(headers["content-disposition"]),
    )


def _empty(sheet: Any, title: str, first: int, last: int) -> None:
    """Takes a title and what stands below it out of a sheet."""
    (column,) = [cell.column for cell in sheet[first] if cell.value == title]
    for row in range(first, last + 1):
        sheet.cell(row, column).value = None


def _saved(workbook: openpyxl.Workbook) -> bytes:
    content = io.BytesIO()
    workbook.save(content)
    return content.getvalue()


def form(content: bytes, name: str, kind: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    return f"{head}Content-Type: {kind}\r\n\r\n".encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()


async def test_an_exported_workbook_imports_to_the_same_mappings(mapper: Suite) -> None:
    before = [await mapper.create(mapping) for mapping in (harbours(), calls())]
    content, kind, disposition = await file(mapper, "ExportMappings", pb.ExportMappingsRequest())
    assert (kind, disposition) == (XLSX, 'attachment; filename="mappings_data.xlsx"')
    same = await imported(mapper, content)
    assert [(m.sheet, m.reference, m.version, m.changed) for m in same.mappings] == [
        ("DIM_HARBOUR", "DIM_HARBOUR", 1, False),
        ("FCT_CALL", "FCT_CALL", 1, False),
    ]
    for mapping in reversed(before):
        await mapper.call("DeleteMapping", pb.DeleteMappingRequest(reference=mapping.reference))
    await imported(mapper, content)
    for mapping in before:
        again = await mapper.call("GetMapping", get(mapping.reference))
        assert again.columns == mapping.columns
        assert again.description == mapping.description


async def test_a_changed_workbook_makes_new_versions_of_what_changed(mapper: Suite) -> None:
    await mapper.create(harbours())
    await mapper.create(calls())
    content, _, _ = await file(mapper, "ExportMappings", pb.ExportMappingsRequest())
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    workbook["FCT_CALL"]["B3"] = "Calls of ships"
    changed = io.BytesIO()
    workbook.save(changed)
    tried = await imported(mapper, changed.getvalue(), validate_only=True)
    assert [(m.version, m.changed) for m in tried.mappings] == [(1, False), (2, True)]
    assert (await mapper.call("GetMapping", get("FCT_CALL"))).version == 1
    done = await imported(mapper, changed.getvalue())
    assert done == tried
    assert (await mapper.call("GetMapping", get("FCT_CALL"))).description == "Calls of ships"


async def test_a_sheet_without_optional_titles_keeps_what_they_would_tell(mapper: Suite) -> None:
    await mapper.create(harbours())
    before = await mapper.create(calls())
    content, _, _ = await file(mapper, "ExportMappings", pb.ExportMappingsRequest(references=["FCT_CALL"]))
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    sheet = workbook["FCT_CALL"]
    for title, first, last in (("sourceConnection", 2, 3), ("targetConnection", 2, 3)):
        _empty(sheet, title, first, last)
    for title in ("lookupMapping", "lookupColumns", "lookupAsOf", "lookupDefault"):
        _empty(sheet, title, 6, 11)
    assert [m.changed for m in (await imported(mapper, _saved(workbook))).mappings] == [False]
    sheet["B3"], sheet["C10"] = "Calls of ships", "FEES"
    assert [m.changed for m in (await imported(mapper, _saved(workbook), validate_only=True)).mappings] == [
        True
    ]
    await imported(mapper, _saved(workbook))
    after = await mapper.call("GetMapping", get("FCT_CALL"))
    assert (after.description, after.columns[3].name) == ("Calls of ships", "FEES")
    assert after.source_connection == before.source_connection
    assert after.columns[4].lookup == before.columns[4].lookup
    sheet["I11"] = "SELECT no, harbour, day, dues FROM calls"
    await imported(mapper, _saved(workbook))
    assert not (await mapper.call("GetMapping", get("FCT_CALL"))).columns[4].HasField("lookup")


async def test_an_empty_cell_under_an_optional_title_clears_and_absent_ones_beside_it_keep(
    mapper: Suite,
) -> None:
    await mapper.create(harbours())
    await mapper.create(calls())
    content, _, _ = await file(mapper, "ExportMappings", pb.ExportMappingsRequest(references=["FCT_CALL"]))
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    sheet = workbook["FCT_CALL"]
    sheet["I3"] = None
    _empty(sheet, "lookupDefault", 6, 11)
    sheet["N11"] = None
    await imported(mapper, _saved(workbook))
    after = await mapper.call("GetMapping", get("FCT_CALL"))
    assert (after.source_connection, after.target_connection) == ("", "warehouse")
    assert (after.columns[4].lookup.as_of_column, after.columns[4].lookup.default_key) == ("", -1)
    for cell in ("L11", "M11"):
        sheet[cell] = None
    await imported(mapper, _saved(workbook))
    assert not (await mapper.call("GetMapping", get("FCT_CALL"))).columns[4].HasField("lookup")


async def test_csv_files_hold_one_mapping(mapper: Suite) -> None:
    await mapper.create(harbours())
    request = pb.ExportMappingsRequest(format=pb.FILE_FORMAT_CSV, references=["DIM_HARBOUR"])
    content, kind, disposition = await file(mapper, "ExportMappings", request)
    assert (kind, disposition) == (CSV, 'attachment; filename="DIM_HARBOUR_data.csv"')
    assert not (await imported(mapper, content, "text/csv; charset=utf-8")).mappings[0].changed
    await mapper.create(calls())
    both = pb.ExportMappingsRequest(format=pb.FILE_FORMAT_CSV)
    assert (await refusal(mapper.call("ExportMappings", both))).reason == "FIELD_INVALID"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.csv", "application/octet-stream"), ("a", CSV), ("A.CSV", "text/plain")]
)
async def test_a_form_around_a_file_is_unwrapped(mapper: Suite, name: str, kind: str) -> None:
    await mapper.create(harbours())
    request = pb.ExportMappingsRequest(format=pb.FILE_FORMAT_CSV, references=["DIM_HARBOUR"])
    content, _, _ = await file(mapper, "ExportMappings", request)
    done = await imported(mapper, form(content, name, kind), f"multipart/form-data; boundary={BOUNDARY}")
    assert [(m.reference, m.changed) for m in done.mappings] == [("DIM_HARBOUR", False)]


async def test_broken_uploads_are_refused(mapper: Suite) -> None:
    multipart = f"multipart/form-data; boundary={BOUNDARY}"
    for content, kind in (
        (b"", XLSX),
        (b"no workbook", XLSX),
        (b"no form", multipart),
        (b"no form", "multipart/form-data"),
        (f"--{BOUNDARY}--\r\n".encode(), multipart),
        (form(b"x", "a.xlsx", XLSX)[:-30], multipart),
    ):
        assert (await refusal(imported(mapper, content, kind))).reason == "WORKBOOK_REFUSED"


async def test_cells_that_break_the_fields_rules_are_named_and_nothing_is_saved(mapper: Suite) -> None:
    await mapper.create(harbours())
    await mapper.create(calls())
    content, _, _ = await file(mapper, "ExportMappings", pb.ExportMappingsRequest())
    workbook = openpyxl.load_workbook(io.BytesIO(content))
    workbook["DIM_HARBOUR"]["B3"] = "new"
    workbook["FCT_CALL"]["A3"], workbook["FCT_CALL"]["G7"] = "no reference", "x" * 129
    workbook["FCT_CALL"]["H3"], workbook["FCT_CALL"]["C3"] = 2_000_000, "x" * 31
    changed = io.BytesIO()
    workbook.save(changed)
    refused = await refusal(imported(mapper, changed.getvalue()))
    assert refused.reason == "WORKBOOK_INVALID"
    assert set(refused.fields) == {"FCT_CALL!A3", "FCT_CALL!G7", "FCT_CALL!H3", "FCT_CALL!C3"}
    assert (await mapper.call("GetMapping", get("DIM_HARBOUR"))).version == 1


async def test_faults_are_marked_where_they_are(mapper: Suite) -> None:
    await mapper.create(harbours(source_system=""))
    faults = await mapper.validate("DIM_HARBOUR")
    request = pb.ExportMappingsRequest(references=["DIM_HARBOUR"], mark_faults=True)
    content, _, _ = await file(mapper, "ExportMappings", request)
    sheet = openpyxl.load_workbook(io.BytesIO(content))["DIM_HARBOUR"]
    commented = {cell.coordinate for row in sheet.iter_rows() for cell in row if cell.comment}
    assert commented == {fault.cell for fault in faults} == {"C3", "I3", "J3"}


async def test_the_template_is_served_blank(mapper: Suite) -> None:
    content, kind, disposition = await file(mapper, "GetTemplate", pb.GetTemplateRequest())
    assert (kind, disposition) == (XLSX, 'attachment; filename="mapper_template.xlsx"')
    assert openpyxl.load_workbook(io.BytesIO(content)).sheetnames == ["Mapping Template"]
    assert (await refusal(imported(mapper, content))).reason == "WORKBOOK_INVALID"
    request = pb.GetTemplateRequest(format=pb.FILE_FORMAT_CSV)
    content, kind, disposition = await file(mapper, "GetTemplate", request)
    assert (kind, disposition) == (CSV, 'attachment; filename="mapper_template.csv"')


async def test_nothing_to_export_is_refused(mapper: Suite) -> None:
    assert (
        await refusal(mapper.call("ExportMappings", pb.ExportMappingsRequest()))
    ).reason == "FIELD_INVALID"
    missing = pb.ExportMappingsRequest(references=["NONE"])
    assert (await refusal(mapper.call("ExportMappings", missing))).reason == "MAPPING_NOT_FOUND"
