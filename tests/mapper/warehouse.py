"""A database with a source and a warehouse in it, and a small load that follows a plan to the letter."""

import datetime as dt
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from kernel.databases.endpoints import DatabaseKind
from portolan.mapper.v1 import plan_pb2 as pb
from services.mapper.compiler import compile_plan
from services.mapper.definition import Column, Definition, ScdType, TableType

MOMENT = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - a TIMESTAMP has no zone


@dataclass
class Counts:
    """What a load did."""

    inserted: int = 0
    versions: int = 0
    updated: int = 0
    null_keys: int = 0
    duplicates: int = 0


class Warehouse:
    """One session of a database that is source and target in one."""

    def __init__(self, kind: DatabaseKind, address: str | Path) -> None:
        self.kind = kind
        self._connection: Any
        if kind == DatabaseKind.SQLITE:
            self._connection = sqlite3.connect(address, isolation_level=None)
        else:
            # Prepared statements would mind that tables are made anew.
            self._connection = psycopg.connect(
                str(address), autocommit=True, prepare_threshold=None, options="-c timezone=UTC"
            )

    def close(self) -> None:
        """Ends the session."""
        self._connection.close()

    def do(self, statement: str) -> int:
        """Runs a statement; the number of rows that it touched."""
        return int(self._connection.execute(statement).rowcount)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """A query's rows."""
        return [tuple(row) for row in self._connection.execute(query).fetchall()]

    def source(self, name: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        """Makes a source table anew; `columns` are names and types, as in CREATE TABLE."""
        self.do(f"DROP TABLE IF EXISTS {name}")
        self.do(f"CREATE TABLE {name} ({columns})")
        mark = "?" if self.kind == DatabaseKind.SQLITE else "%s"
        for row in rows:
            marks = ", ".join([mark] * len(row))
            self._connection.execute(f"INSERT INTO {name} VALUES ({marks})", row)

    def plan(self, definition: Definition, *dimensions: Definition) -> pb.LoadPlan:
        """The plan of a definition, with the dimensions that it looks up."""
        known = {dimension.reference: dimension for dimension in dimensions}
        return compile_plan(definition, 1, source=self.kind, target=self.kind, dimensions=known)

    def prepare(self, plan: pb.LoadPlan) -> None:
        """Makes the target as jobs do: what is missing, and no more."""
        target = plan.target
        if target.create_schema:
            self.do(target.create_schema)
        self.do(target.create_table)
        present = self.columns(target)
        for column in target.columns:
            if column.name not in present:
                self.do(column.add_column)
        for index in target.create_indexes:
            self.do(index)

    def columns(self, target: pb.TargetTable) -> list[str]:
        """The names of an existing table's columns."""
        prefix = f'"{target.schema}".' if target.schema else ""
        cursor = self._connection.execute(f'SELECT * FROM {prefix}"{target.name}" WHERE 1 = 0')
        return [column[0] for column in cursor.description]

    def load(self, plan: pb.LoadPlan, moment: dt.datetime = MOMENT) -> Counts:
        """Runs a plan in one transaction."""
        self.prepare(plan)
        counts = Counts()
        self.do("BEGIN")
        try:
            moments = "timestamp" if self.kind == DatabaseKind.POSTGRESQL else "text"
            self.do(f"CREATE TEMPORARY TABLE portolan_load (load_time {moments})")
            self.do(f"INSERT INTO portolan_load VALUES ('{moment:%Y-%m-%d %H:%M:%S.%f}')")
            self.do(plan.stage.create)
            self.do(plan.stage.fill)
            counts.null_keys = len(self.rows(plan.stage.select_null_keys))
            assert self.do(plan.stage.delete_null_keys) == counts.null_keys
            counts.duplicates = self.do(plan.stage.delete_duplicates)
            self._merge(plan.merge, counts)
        except BaseException:
            self.do("ROLLBACK")
            raise
        for table in ("load", "stage", "delta"):
            self.do(f"DROP TABLE IF EXISTS portolan_{table}")
        self.do("COMMIT")
        return counts

    def _merge(self, merge: pb.Merge, counts: Counts) -> None:
        if not self.rows(merge.target_has_rows):
            counts.inserted = self.do(merge.insert_all)
            return
        self.do(merge.create_delta)
        delta = dict(self.rows(merge.count_delta))
        counts.inserted, counts.versions, counts.updated = (delta.get(action, 0) for action in "IVU")
        touched = [self.do(statement) for statement in merge.apply]
        assert sum(touched) == counts.inserted + 2 * counts.versions + counts.updated


def column(name: str, data_type: str, table: str, **changes: Any) -> Column:
    """A column that reads the column of its own name from a table whose key is `id`."""
    values: dict[str, Any] = {
        "name": name,
        "data_type": data_type,
        "logic": f"SELECT * FROM {table}",
        "key_columns": ("id",),
        "value_column": name.lower(),
    }
    return Column(**values | changes)


def key(table: str, data_type: str = "Integer", name: str = "ID") -> Column:
    """The key column of a table whose key is `id`."""
    return column(name, data_type, table, key=True, key_sequence=1, value_column="id")


def definition(*columns: Column, **changes: Any) -> Definition:
    """A dimension that is read from and loaded into one connection."""
    values: dict[str, Any] = {
        "reference": "M",
        "source_connection": "warehouse",
        "target_connection": "warehouse",
        "target_schema": "dw",
        "target_table": "TARGET",
        "table_type": TableType.DIMENSION,
        "columns": columns,
    }
    return Definition(**values | changes)


NEW_VERSION = ScdType.NEW_VERSION
OVERWRITE = ScdType.OVERWRITE
