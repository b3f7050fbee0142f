"""Mappings as files: an xlsx workbook with a mapping a sheet, or a CSV file with one mapping.

Both have the same two blocks, found by their header rows:

    1  Form Fields
    2  reference | description | sourceSystem | tableName | tableType | ...
    3  the mapping's own values
    5  Table Fields
    6  primaryKey | pkSeq | fieldName | dataType | ...
    7  a row for each column of the target
"""

from services.mapper.workbook.layout import cell_of
from services.mapper.workbook.reading import Sheet, read_csv, read_xlsx
from services.mapper.workbook.writing import write_csv, write_xlsx

__all__ = ["Sheet", "cell_of", "read_csv", "read_xlsx", "write_csv", "write_xlsx"]
