"""A mapping as plain data: what a version says, apart from where it is kept and how it is sent."""

import enum
from dataclasses import dataclass, field

MAX_COLUMNS = 1000


class TableType(enum.StrEnum):
    """What a mapping's table is for; the names are those of `portolan.mapper.v1.TableType`."""

    UNSPECIFIED = ""
    NORMAL = "NORMAL"
    DIMENSION = "DIMENSION"
    FACT = "FACT"
    MART = "MART"


class Frequency(enum.StrEnum):
    """How often a mapping is meant to be loaded; the names are those of `portolan.mapper.v1.Frequency`."""

    UNSPECIFIED = ""
    INTRADAY = "INTRADAY"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    FORTNIGHTLY = "FORTNIGHTLY"
    MONTHLY = "MONTHLY"
    HALF_YEARLY = "HALF_YEARLY"
    YEARLY = "YEARLY"


class ScdType(enum.StrEnum):
    """What a changed value does to a dimension's row; the names are those of `portolan.mapper.v1.ScdType`."""

    UNSPECIFIED = ""
    OVERWRITE = "OVERWRITE"
    NEW_VERSION = "NEW_VERSION"


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """A look-up of a dimension's surrogate key; `default_key` None is NULL."""

    mapping: str
    match_columns: tuple[str, ...] = ()
    as_of_column: str = ""
    default_key: int | None = None


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the target and where it comes from: logic, or a look-up."""

    name: str = ""
    data_type: str = ""
    key: bool = False
    key_sequence: int = 0
    description: str = ""
    logic: str = ""
    key_columns: tuple[str, ...] = ()
    value_column: str = ""
    combination_code: str = ""
    execution_sequence: int = 0
    scd_type: ScdType = ScdType.UNSPECIFIED
    lookup: Lookup | None = None

    @property
    def statement(self) -> str:
        """The logic as a subquery can hold it: without blanks around it and the semicolon that may end it."""
        return self.logic.strip().rstrip(";").rstrip()


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a version of a mapping says; the fields are those of `portolan.mapper.v1.Mapping`."""

    reference: str
    description: str = ""
    source_connection: str = ""
    target_connection: str = ""
    target_schema: str = ""
    target_table: str = ""
    table_type: TableType = TableType.UNSPECIFIED
    frequency: Frequency = Frequency.UNSPECIFIED
    source_system: str = ""
    batch_rows: int = 0
    columns: tuple[Column, ...] = field(default=())

    @property
    def ordered(self) -> tuple[Column, ...]:
        """The columns in the order of the table: by execution sequence, then as they were given."""
        return tuple(sorted(self.columns, key=lambda column: column.execution_sequence))

    @property
    def sourced(self) -> tuple[Column, ...]:
        """The columns that come from the source, in the order of the table."""
        return tuple(column for column in self.ordered if column.lookup is None)

    @property
    def looked_up(self) -> tuple[tuple[Column, Lookup], ...]:
        """The columns that are looked up in the target, in the order of the table."""
        return tuple((column, column.lookup) for column in self.ordered if column.lookup is not None)

    @property
    def keys(self) -> tuple[Column, ...]:
        """The columns of the business key, in the order of their sequence."""
        return tuple(sorted((c for c in self.columns if c.key), key=lambda column: column.key_sequence))
