"""PostgreSQL's catalog: tables, and its types as ours."""

from typing import Any

from kernel.databases.sources import Column, ForeignKey, Table
from kernel.databases.types import MAX_DIGITS, DataType, Kind

TABLES = r"""
SELECT n.nspname, c.relname, c.relkind IN ('v', 'm'),
  (SELECT coalesce(json_agg(json_build_array(a.attname,
             CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END,
             CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
             format_type(a.atttypid, a.atttypmod), NOT a.attnotnull) ORDER BY a.attnum), '[]')
   FROM pg_attribute AS a JOIN pg_type AS t ON t.oid = a.atttypid
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT coalesce(json_agg(a.attname ORDER BY k.place), '[]')
   FROM pg_constraint AS p, unnest(p.conkey) WITH ORDINALITY AS k(attnum, place), pg_attribute AS a
   WHERE p.conrelid = c.oid AND p.contype = 'p' AND a.attrelid = c.oid AND a.attnum = k.attnum),
  (SELECT coalesce(json_agg(json_build_array(
      (SELECT json_agg(a.attname ORDER BY k.place)
       FROM unnest(f.conkey) WITH ORDINALITY AS k(attnum, place)
       JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
      s.nspname, r.relname,
      (SELECT json_agg(a.attname ORDER BY k.place)
       FROM unnest(f.confkey) WITH ORDINALITY AS k(attnum, place)
       JOIN pg_attribute AS a ON a.attrelid = f.confrelid AND a.attnum = k.attnum)) ORDER BY f.conname), '[]')
   FROM pg_constraint AS f
   JOIN pg_class AS r ON r.oid = f.confrelid JOIN pg_namespace AS s ON s.oid = r.relnamespace
   WHERE f.conrelid = c.oid AND f.contype = 'f')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
  AND n.nspname NOT LIKE 'pg\_%%' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
  AND (%(schema)s = '' OR n.nspname = %(schema)s)
  AND (n.nspname, c.relname) > (%(after_schema)s::name, %(after_name)s::name)
ORDER BY n.nspname, c.relname
LIMIT %(limit)s
"""
WARNINGS = """
SELECT 'The user is a superuser.' FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL
SELECT 'The user may create roles.'
FROM pg_roles WHERE rolname = current_user AND rolcreaterole AND NOT rolsuper
UNION ALL
SELECT 'The user is a member of ' || r.rolname || '.'
FROM pg_roles AS r, pg_roles AS me
WHERE me.rolname = current_user AND NOT me.rolsuper AND pg_has_role(r.oid, 'MEMBER')
  AND r.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
"""
NATIVE_TYPES = """
SELECT format_type(oid, modifier)
FROM unnest(%s::oid[], %s::int[]) WITH ORDINALITY AS fields(oid, modifier, place) ORDER BY place
"""

# The object ids of PostgreSQL's own types never change (its `pg_type.dat`).
BOOL, BYTEA, INT8, INT2, INT4, TEXT, FLOAT4, FLOAT8 = 16, 17, 20, 21, 23, 25, 700, 701
NAME, BPCHAR, VARCHAR, DATE, TIMESTAMP, TIMESTAMPTZ, NUMERIC, UNKNOWN = (
    19,
    1042,
    1043,
    1082,
    1114,
    1184,
    1700,
    705,
)
_TYPES = {
    BOOL: Kind.BOOLEAN,
    BYTEA: Kind.BINARY,
    INT2: Kind.INTEGER,
    INT4: Kind.INTEGER,
    INT8: Kind.BIG_INTEGER,
    TEXT: Kind.STRING,
    NAME: Kind.STRING,
    UNKNOWN: Kind.STRING,
    FLOAT4: Kind.DOUBLE,
    FLOAT8: Kind.DOUBLE,
    DATE: Kind.DATE,
    TIMESTAMP: Kind.TIMESTAMP,
    TIMESTAMPTZ: Kind.TIMESTAMP_TZ,
}
HEADER = 4
"""What a type modifier is larger than the length or the digits that it stands for."""


def data_type(oid: int, modifier: int) -> DataType:
    """Our type for a type of PostgreSQL and its modifier, -1 for none. OTHER for what is read as text."""
    if oid in {VARCHAR, BPCHAR}:
        return DataType(Kind.STRING, length=max(modifier - HEADER, 0))
    if oid == NUMERIC and modifier >= HEADER:
        precision, scale = (modifier - HEADER) >> 16, (modifier - HEADER) & 0x7FF
        if scale <= precision <= MAX_DIGITS:  # PostgreSQL has negative scales and a thousand digits
            return DataType(Kind.DECIMAL, precision=precision, scale=scale)
    return DataType(_TYPES.get(oid, Kind.OTHER))


def read_exactly(oid: int) -> bool:
    """Whether ADBC reads the type as a plain Arrow type, or as the text of its number (numeric)."""
    return oid in _TYPES or oid in {VARCHAR, NUMERIC}


def table(row: tuple[Any, ...]) -> Table:
    """A row of `TABLES` as a table."""
    schema, name, view, columns, primary_key, foreign_keys = row
    return Table(
        schema=schema,
        name=name,
        view=view,
        columns=tuple(
            Column(column, data_type(int(oid), modifier), native, nullable)
            for column, oid, modifier, native, nullable in columns
        ),
        primary_key=tuple(primary_key),
        foreign_keys=tuple(
            ForeignKey(tuple(columns), referred_schema, referred_table, tuple(referred))
            for columns, referred_schema, referred_table, referred in foreign_keys
        ),
    )
