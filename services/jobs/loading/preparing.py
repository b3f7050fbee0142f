"""Making a target table ready for its loads."""

from kernel.databases.endpoints import Endpoint
from kernel.databases.messages import data_type
from portolan.mapper.v1 import plan_pb2
from services.jobs.errors import TargetRefusedError
from services.jobs.loading.errors import TargetError
from services.jobs.loading.ledger import Ledger
from services.jobs.loading.targets import Target, open_target


def prepare(endpoint: Endpoint, plan: plan_pb2.LoadPlan) -> None:
    """Creates what is missing of the schema, the table, its columns and the ledger.

    A table that holds rows gets its missing indexes as well; an empty one gets them from its first load.
    May be called again, and by several at once. Fails with TargetRefusedError, in the database's own words,
    or where a column exists in a type that would change the values.
    """
    try:
        with open_target(endpoint) as database, database.preparing():
            _prepare(database, plan)
    except TargetError as error:
        raise TargetRefusedError(str(error), table=plan.target.name) from None


def _prepare(database: Target, plan: plan_pb2.LoadPlan) -> None:
    target = plan.target
    if target.create_schema:
        database.execute(target.create_schema)
    database.execute(target.create_table)
    found = database.columns(target.schema, target.name).items()
    present = {name.casefold(): declared for name, declared in found}
    for column in target.columns:
        if (declared := present.get(column.name.casefold())) is not None:
            _check(database, target, column, declared)
            continue
        if not column.add_column:
            message = f"The table exists without its column {column.name}, which cannot be added to it."
            raise TargetRefusedError(message, table=target.name)
        database.execute(column.add_column)
    if list(database.rows(plan.merge.target_has_rows)):
        for statement in target.create_indexes:
            database.execute(statement)
    Ledger(database, target.schema, "", target.name).create()


def _check(
    database: Target, table: plan_pb2.TargetTable, column: plan_pb2.TargetColumn, declared: str
) -> None:
    """Raises TargetRefusedError when a column that exists would change the values that it gets.

    A surrogate key gets none: the table makes its own.
    """
    wanted = data_type(column.type)
    if column.role != plan_pb2.TargetColumn.ROLE_SURROGATE_KEY and not database.holds(declared, wanted):
        message = f"The column {column.name} exists as {declared}, which does not keep every {wanted}."
        raise TargetRefusedError(message, table=table.name)
