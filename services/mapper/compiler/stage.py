"""The stage: the source's rows in the target database, in types that match the target's."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.sql.expression import quoted_name

from portolan.mapper.v1 import plan_pb2 as pb
from services.mapper.compiler.dialects import Dialect
from services.mapper.compiler.source import Logic
from services.mapper.compiler.target import ROW, column_type
from services.mapper.definition import Column

NAME = quoted_name("portolan_stage", quote=True)


def stage_table(columns: Sequence[Column], dialect: Dialect) -> sa.Table:
    """The temporary table that holds what the source query returned."""
    table = sa.Table(NAME, sa.MetaData(), prefixes=["TEMPORARY"], **dialect.table_options)
    for column in columns:
        name, of = dialect.fold(column.name), column_type(column)
        added = sa.Column(name, dialect.stage_type(of))
        table.append_column(added)
        if (check := dialect.check(added, of)) is not None:
            table.append_constraint(sa.CheckConstraint(check, name=name))
    table.append_column(sa.Column(quoted_name(dialect.row_id, quote=True), key=ROW, system=True))
    return table


def stage_message(
    stage: sa.Table, columns: Sequence[Column], keys: Sequence[str], dialect: Dialect, *, query: str | None
) -> pb.Stage:
    """The stage's part of the plan; `query` is the source query when the target's database can run it."""
    key = [stage.c[name] for name in keys]
    has_null = sa.or_(*(column.is_(None) for column in key))
    ranked = sa.select(
        stage.c[ROW].label("staged"),
        sa.func.row_number().over(partition_by=key, order_by=stage.c[ROW].desc()).label("place"),
    ).subquery("ranked")
    earlier = sa.select(ranked.c.staged).where(ranked.c.place > 1)
    return pb.Stage(
        create=dialect.sql(sa.schema.CreateTable(stage)),
        fill=_fill(stage, columns, query, dialect) if query else "",
        select_null_keys=dialect.sql(sa.select(*key).where(has_null)),
        delete_null_keys=dialect.sql(sa.delete(stage).where(has_null)),
        delete_duplicates=dialect.sql(sa.delete(stage).where(stage.c[ROW].in_(earlier))),
    )


def _fill(stage: sa.Table, columns: Sequence[Column], query: str, dialect: Dialect) -> str:
    types = {dialect.fold(column.name): column_type(column) for column in columns}
    sourced = Logic(query, [sa.column(name) for name in types]).alias("source")
    converted = sa.select(*(dialect.convert(sourced.c[name], of) for name, of in types.items()))
    return dialect.sql(sa.insert(stage).from_select(list(types), converted))
