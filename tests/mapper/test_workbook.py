"""Workbooks and CSV files: what is written reads back the same, and hostile or broken files are refused."""

import io
import string
import zipfile
from collections.abc import Callable
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mapper.definition import Column, Definition, Frequency, Lookup, ScdType, TableType
from services.mapper.errors import WorkbookInvalidError, WorkbookRefusedError
from services.mapper.workbook import cell_of, read_csv, read_xlsx, write_csv, write_xlsx

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30).map(
    lambda text: text.replace("\r\n", "\n").strip()
)
WORD = st.text(string.ascii_uppercase + string.digits + "_", min_size=1, max_size=10)
NAMES = st.lists(WORD, max_size=3).map(tuple)
LOOKUPS = st.builds(
    Lookup,
    mapping=WORD,
    match_columns=NAMES,
    as_of_column=st.just("") | WORD,
    default_key=st.none() | st.integers(-9, 9),
)
COLUMNS = st.builds(
    Column,
    name=WORD,
    data_type=TEXT,
    key=st.booleans(),
    key_sequence=st.integers(0, 1000),
    description=TEXT,
    logic=TEXT,
    key_columns=NAMES,
    value_column=TEXT,
    combination_code=TEXT,
    execution_sequence=st.integers(0, 100_000),
    scd_type=st.sampled_from(ScdType),
    lookup=st.none() | LOOKUPS,
)
DEFINITIONS = st.builds(
    Definition,
    reference=st.text(string.ascii_uppercase, min_size=1, max_size=100),
    description=TEXT,
    source_connection=TEXT,
    target_connection=TEXT,
    target_schema=TEXT,
    target_table=TEXT,
    table_type=st.sampled_from(TableType),
    frequency=st.sampled_from(Frequency),
    source_system=TEXT,
    batch_rows=st.integers(0, 1_000_000),
    columns=st.lists(COLUMNS, max_size=4).map(tuple),
)


def example(**changes: Any) -> Definition:
    column = Column(name="ID", data_type="Integer", key=True, key_sequence=1, logic="select id from t")
    values: dict[str, Any] = {"reference": "DIM_A", "table_type": TableType.DIMENSION, "columns": (column,)}
    return Definition(**values | changes)


@settings(deadline=None, max_examples=20)
@given(st.lists(DEFINITIONS, min_size=1, max_size=3, unique_by=lambda definition: definition.reference))
def test_a_workbook_reads_back_to_the_same_mappings(definitions: list[Definition]) -> None:
    assert [sheet.definition for sheet in read_xlsx(write_xlsx(definitions))] == definitions


@settings(deadline=None)
@given(DEFINITIONS)
def test_a_csv_file_reads_back_to_the_same_mapping(definition: Definition) -> None:
    assert read_csv(write_csv(definition)).definition == definition


def test_no_exported_cell_is_a_formula() -> None:
    definition = example(description="=HYPERLINK(1)", source_system="+1+1")
    sheet = openpyxl.load_workbook(io.BytesIO(write_xlsx([definition])))["DIM_A"]
    assert (sheet["B3"].data_type, sheet["C3"].data_type) == ("s", "s")
    assert b"'=HYPERLINK(1)" in write_csv(definition)


def test_a_text_that_a_cell_would_cut_is_not_exported() -> None:
    long = Column(name="ID", logic="x" * 32_768)
    with pytest.raises(WorkbookRefusedError, match="I7 is longer"):
        write_xlsx([example(columns=(long,))])
    assert read_csv(write_csv(example(columns=(long,)))).definition.columns == (long,)


def test_the_template_has_the_predecessors_layout_and_lists_for_codes() -> None:
    sheet = openpyxl.load_workbook(io.BytesIO(write_xlsx([])))["Mapping Template"]
    assert [sheet["A1"].value, sheet["A5"].value] == ["Form Fields", "Table Fields"]
    assert [cell.value for cell in sheet[2][:8]] == [
        *("reference", "description", "sourceSystem", "tableName", "tableType", "targetSchema"),
        *("freqCode", "bulkProcessRows"),
    ]
    assert [cell.value for cell in sheet[6][:11]] == [
        *("primaryKey", "pkSeq", "fieldName", "dataType", "fieldDesc", "scdType", "keyColumn", "valColumn"),
        *("logic", "mapCombineCode", "execSequence"),
    ]
    assert sheet["A2"].fill.fgColor.rgb.endswith("00B050")
    lists = {str(rule.sqref): rule.formula1 for rule in sheet.data_validations.dataValidation}
    assert lists["E3"] == '"NRM,DIM,FCT,MRT"'
    assert lists["G3"] == '"NA,ID,DL,WK,FN,MN,HY,YR"'
    assert any(cells.startswith("F7:") and codes == '"1,2"' for cells, codes in lists.items())
    assert all(len(codes) < 256 for codes in lists.values())


def test_faults_are_marked_in_their_cells() -> None:
    content = write_xlsx([example()], {"DIM_A": [(1, "logic", "no such table"), (0, "frequency", "odd")]})
    sheet = openpyxl.load_workbook(io.BytesIO(content))["DIM_A"]
    assert cell_of(1, "logic") == "I7"
    assert sheet["I7"].comment.text == "no such table"
    assert sheet["I7"].fill.fgColor.rgb.endswith("FFC7CE")
    assert sheet["G3"].comment.text == "odd"


def test_titles_may_stand_in_any_order_and_case_and_rows_may_be_blank() -> None:
    workbook = openpyxl.load_workbook(io.BytesIO(write_xlsx([example()])))
    sheet = workbook["DIM_A"]
    sheet["A2"], sheet["B2"], sheet["A3"], sheet["B3"] = "DESCRIPTION", "Reference", "what it is", "DIM_A"
    for column in range(1, 16):
        sheet.cell(9, column).value = sheet.cell(7, column).value
        sheet.cell(7, column).value = None
    sheet["A8"] = "No"
    sheet["A9"], sheet["B9"] = True, 1.0
    [read] = read_xlsx(saved(workbook))
    assert read.definition == example(description="what it is")
    assert read.cells["columns[0].name"] == "DIM_A!C9"


def test_every_cell_that_does_not_fit_is_named() -> None:
    workbook = openpyxl.load_workbook(io.BytesIO(write_xlsx([example()])))
    sheet = workbook["DIM_A"]
    sheet["E3"], sheet["H3"], sheet["A7"], sheet["F7"], sheet["I7"] = "XXX", "many", "maybe", "3", "=1+1"
    with pytest.raises(WorkbookInvalidError) as caught:
        read_xlsx(saved(workbook))
    assert caught.value.fields == {
        "DIM_A!E3": "must be one of NRM, DIM, FCT, MRT",
        "DIM_A!H3": "must be a whole number",
        "DIM_A!A7": "must be Yes or No",
        "DIM_A!F7": "must be one of 1, 2",
        "DIM_A!I7": "holds a formula; put its value there instead",
    }


def test_a_reference_may_stand_in_one_sheet_only() -> None:
    workbook = openpyxl.load_workbook(io.BytesIO(write_xlsx([example(), example(reference="DIM_B")])))
    workbook["DIM_B"]["A3"] = "DIM_A"
    with pytest.raises(WorkbookInvalidError) as caught:
        read_xlsx(saved(workbook))
    assert list(caught.value.fields) == ["DIM_B!A3"]


def test_missing_blocks_and_titles_are_named() -> None:
    workbook = openpyxl.load_workbook(io.BytesIO(write_xlsx([example()])))
    workbook["DIM_A"]["I6"] = None
    with pytest.raises(WorkbookRefusedError, match="sheet DIM_A lacks the titles logic"):
        read_xlsx(saved(workbook))
    workbook["DIM_A"]["C6"] = None
    with pytest.raises(WorkbookRefusedError, match="sheet DIM_A lacks the block Table Fields"):
        read_xlsx(saved(workbook))
    with pytest.raises(WorkbookRefusedError, match="the file lacks the block Form Fields"):
        read_csv(b"a,b\n1,2\n")


def saved(workbook: openpyxl.Workbook) -> bytes:
    content = io.BytesIO()
    workbook.save(content)
    return content.getvalue()


def repacked(change: Callable[[str, bytes], bytes | None], **extra: bytes) -> bytes:
    """A sound workbook with its parts changed, and parts added."""
    content = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(write_xlsx([example()]))) as sound,
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as changed,
    ):
        for name in sound.namelist():
            if (data := change(name, sound.read(name))) is not None:
                changed.writestr(name, data)
        for name, data in extra.items():
            changed.writestr(name, data)
    return content.getvalue()


def test_what_is_no_workbook_is_refused_with_the_reason() -> None:
    entity = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><sst>&a;</sst>'
    files = {
        "empty": b"",
        "is no Excel workbook": b"reference,description\n",
        "old .xls workbook or has a password": b"\xd0\xcf\x11\xe0" + bytes(600),
        "damaged": b"PK\x03\x04" + bytes(600),
        "another kind of zip file": repacked(lambda name, data: None if "workbook.xml" in name else data),
        "holds macros": repacked(lambda _, data: data, **{"xl/vbaProject.bin": b"x"}),
        "more densely": repacked(lambda _, data: data, **{"xl/media/a.xml": bytes(3 * 2**20)}),
        "unpacks to more": repacked(lambda _, data: data, **{f"{n}.xml": b"" for n in range(2001)}),
        "no spreadsheet writes": repacked(lambda _, data: data, **{"xl/extra.xml": entity}),
        "be read as an Excel": repacked(lambda name, data: b"<a" if "sheet1.xml" in name else data),
    }
    for reason, content in files.items():
        with pytest.raises(WorkbookRefusedError, match=reason):
            read_xlsx(content)


def test_csv_files_in_other_encodings_or_shapes_are_refused() -> None:
    sound = write_csv(example(description="é"))
    for reason, content in {
        "not in UTF-8": sound.decode("utf-8-sig").encode("latin-1"),
        "NUL": sound + b"\0",
        "no CSV file": b'reference,"a"b\n',
        "empty": b" \n ",
        "more than 50000 rows": b"a\n" * 50_001,
    }.items():
        with pytest.raises(WorkbookRefusedError, match=reason):
            read_csv(content)


def test_more_columns_than_a_mapping_can_have_are_refused() -> None:
    columns = tuple(Column(name=f"C{number}") for number in range(1001))
    with pytest.raises(WorkbookRefusedError, match="at most 1000 columns"):
        read_xlsx(write_xlsx([example(columns=columns)]))


@settings(deadline=None, max_examples=60)
@given(noise=st.binary(max_size=200), place=st.integers(0, 5000), text=st.booleans())
def test_damaged_files_are_refused_and_never_fail_otherwise(*, noise: bytes, place: int, text: bool) -> None:
    sound = write_csv(example()) if text else SOUND
    content = sound[:place] + noise + sound[place + len(noise) :]
    try:
        if text:
            read_csv(content)
        else:
            read_xlsx(content)
    except (WorkbookRefusedError, WorkbookInvalidError):
        pass


SOUND = write_xlsx([example()])
