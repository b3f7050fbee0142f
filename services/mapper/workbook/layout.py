"""Where each field of a mapping stands in a sheet."""

from dataclasses import dataclass

from openpyxl.utils import get_column_letter

from services.mapper.workbook.codecs import (
    DATA_TYPES,
    FREQUENCIES,
    SCD_TYPES,
    TABLE_TYPES,
    Codec,
    Names,
    Number,
    Text,
    YesNo,
)

HEADER_BLOCK, TABLE_BLOCK = "Form Fields", "Table Fields"
HEADER_TITLES, HEADER_VALUES = 2, 3
TABLE_BLOCK_ROW, TABLE_TITLES, TABLE_VALUES = 5, 6, 7
TEMPLATE_ROWS = 10


@dataclass(frozen=True)
class Field:
    """A titled column of a block. `name` is that of the field of Mapping or MappingColumn."""

    title: str
    name: str
    codec: Codec
    width: int = 16
    required: bool = True


HEADER = (
    Field("reference", "reference", Text(), 24),
    Field("description", "description", Text(), 36),
    Field("sourceSystem", "source_system", Text()),
    Field("tableName", "target_table", Text(), 24),
    Field("tableType", "table_type", TABLE_TYPES),
    Field("targetSchema", "target_schema", Text()),
    Field("freqCode", "frequency", FREQUENCIES),
    Field("bulkProcessRows", "batch_rows", Number()),
    Field("sourceConnection", "source_connection", Text(), required=False),
    Field("targetConnection", "target_connection", Text(), required=False),
)
TABLE = (
    Field("primaryKey", "key", YesNo()),
    Field("pkSeq", "key_sequence", Number()),
    Field("fieldName", "name", Text(), 24),
    Field("dataType", "data_type", DATA_TYPES),
    Field("fieldDesc", "description", Text(), 36),
    Field("scdType", "scd_type", SCD_TYPES),
    Field("keyColumn", "key_columns", Names(), 24),
    Field("valColumn", "value_column", Text(), 24),
    Field("logic", "logic", Text(), 80),
    Field("mapCombineCode", "combination_code", Text()),
    Field("execSequence", "execution_sequence", Number()),
    Field("lookupMapping", "lookup.mapping", Text(), 24, required=False),
    Field("lookupColumns", "lookup.match_columns", Names(), 24, required=False),
    Field("lookupAsOf", "lookup.as_of_column", Text(), required=False),
    Field("lookupDefault", "lookup.default_key", Number(empty=None), required=False),
)


def cell_of(row: int, field: str) -> str:
    """The cell of a field in an exported sheet, such as `I9`; `row` as in a fault: 0 for the header.

    Empty for a field that stands in no cell.
    """
    fields = TABLE if row else HEADER
    for number, known in enumerate(fields, 1):
        if field == known.name or known.name.startswith(f"{field}."):
            return f"{get_column_letter(number)}{TABLE_VALUES + row - 1 if row else HEADER_VALUES}"
    return ""
