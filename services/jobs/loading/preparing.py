"""Making a target table ready for its loads."""

from kernel.databases.endpoints import Endpoint
from portolan.mapper.v1 import plan_pb2
from services.jobs.errors import TargetRefusedError
from services.jobs.loading.errors import TargetError
from services.jobs.loading.ledger import Ledger
from services.jobs.loading.targets import Target, open_target


def prepare(endpoint: Endpoint, plan: plan_pb2.LoadPlan) -> None:
    """Creates what is missing of the schema, the table, its columns and the ledger.

    A table that holds rows gets its missing indexes as well; an empty one gets them from its first load.
    May be called again, and by several at once. Fails with TargetRefusedError, in the database's own words.
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
    present = {name.casefold() for name in database.columns(target.schema, target.name)}
    for column in target.columns:
        if column.name.casefold() in present:
            continue
        if not column.add_column:
            message = f"The table exists without its column {column.name}, which cannot be added to it."
            raise TargetRefusedError(message, table=target.name)
        database.execute(column.add_column)
    if list(database.rows(plan.merge.target_has_rows)):
        for statement in target.create_indexes:
            database.execute(statement)
    Ledger(database, target.schema, "", target.name).create()
