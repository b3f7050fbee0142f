"""The load plan of a version of a mapping."""

from collections.abc import Mapping

from kernel.databases import queries
from kernel.databases.endpoints import DatabaseKind
from kernel.databases.messages import type_message
from portolan.connections.v1.connections_pb2 import Kind
from portolan.mapper.v1 import plan_pb2 as pb
from services.mapper.compiler.dialects import Dialect
from services.mapper.compiler.lookups import incoming
from services.mapper.compiler.merge import Merge
from services.mapper.compiler.source import source_query
from services.mapper.compiler.sqlite import Sqlite
from services.mapper.compiler.stage import stage_message, stage_table
from services.mapper.compiler.target import column_type, target_message, target_table
from services.mapper.definition import Definition

BATCH_ROWS = 50_000


def compile_plan(
    definition: Definition,
    version: int,
    *,
    source: DatabaseKind,
    target: DatabaseKind,
    dimensions: Mapping[str, Definition],
) -> pb.LoadPlan:
    """The statements that load a validated mapping; `dimensions` are those that it looks up, by reference.

    Fails with NameRefusedError when the target cannot keep a name, and with QueryRefusedError when the logics
    are not plain SELECTs.
    """
    reads, loads = dialect(source), dialect(target)
    columns = definition.sourced
    table = target_table(definition, loads)
    stage = stage_table(columns, loads)
    query = source_query(definition, reads, loads)
    here = definition.source_connection == definition.target_connection
    rows = incoming(stage, definition, dimensions, loads)
    return pb.LoadPlan(
        reference=definition.reference,
        version=version,
        source_connection=definition.source_connection,
        target_connection=definition.target_connection,
        source_kind=Kind.Value(f"KIND_{source}"),
        target_kind=Kind.Value(f"KIND_{target}"),
        source_query=query,
        parameters=queries.check(query, source, max_bytes=len(query.encode())).parameters,
        stage_columns=[
            pb.StageColumn(name=loads.fold(c.name), type=type_message(column_type(c)), key=c.key)
            for c in columns
        ],
        target=target_message(table, loads),
        stage=stage_message(stage, columns, table.keys, loads, query=query if here else None),
        merge=Merge(table, rows, definition, loads).message(),
        batch_rows=definition.batch_rows or BATCH_ROWS,
    )


def dialect(kind: DatabaseKind) -> Dialect:
    """What statements for a kind of database are made with. DuckDB reads files, and quotes as PostgreSQL."""
    return Sqlite() if kind == DatabaseKind.SQLITE else Dialect()
