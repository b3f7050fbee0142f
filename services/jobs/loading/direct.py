"""The first load of a table between two PostgreSQL databases: straight into it, without a stage.

It takes rows at about the pace of COPY. What the stage would set aside is an error here: a key that is NULL
or comes twice, a value that does not fit. Then all is undone, and the load goes by the stage.
"""

from collections.abc import Sequence
from datetime import datetime

from portolan.mapper.v1 import plan_pb2
from services.jobs.loading.columns import StageColumn
from services.jobs.loading.copying import BinaryCopy
from services.jobs.loading.postgresql import PostgresqlTarget, table_name
from services.jobs.loading.projecting import takes

Role = plan_pb2.TargetColumn.Role
OPEN_END = "timestamp '2999-12-31'"


def load_directly(copy: BinaryCopy, table: plan_pb2.TargetTable, moment: datetime) -> int | None:
    """Inserts all rows into an empty table; how many there were. None when that is not possible.

    Fails with TargetDataError where a row is not fit to be inserted. Then nothing of this may stay.
    """
    if not _possible(copy.target, table, copy.columns):
        return None
    copy.target.begin_merge(table.schema, table.name)
    rows = copy.into(table_name(table.schema, table.name), _constants(table, moment))
    if rows is not None:
        # An index is made faster at once than row by row, and finds the keys that come twice.
        for statement in table.create_indexes:
            copy.target.execute(statement)
    return rows


def _possible(target: PostgresqlTarget, table: plan_pb2.TargetTable, columns: Sequence[StageColumn]) -> bool:
    """Whether the table is empty, needs no look-up, and refuses what the stage would set aside."""
    if any(column.role == Role.ROLE_LOOKUP for column in table.columns):
        return False
    types = target.types(table.schema, table.name)
    for column in columns:
        oid, required = types[column.name]
        if not takes(oid, column.type.kind) or (column.key and not required):
            return False
    return bool(table.create_indexes) and not target.has_rows(table.schema, table.name)


def _constants(table: plan_pb2.TargetTable, moment: datetime) -> dict[str, str]:
    """The columns that are the same in all rows of a first load, each as SQL."""
    time = f"timestamp '{moment:%Y-%m-%d %H:%M:%S.%f}'"
    values = {
        Role.ROLE_CURRENT_FLAG: "text 'Y'",
        Role.ROLE_FROM_TIME: time,
        Role.ROLE_TO_TIME: OPEN_END,
        Role.ROLE_CREATE_TIME: time,
        Role.ROLE_UPDATE_TIME: time,
    }
    return {column.name: values[column.role] for column in table.columns if column.role in values}
