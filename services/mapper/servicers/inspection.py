"""Validation and compilation from end to end: what surrounds a mapping is asked for between transactions."""

from kernel.databases.endpoints import DatabaseKind
from kernel.errors import RefusedError, UnavailableError
from portolan.mapper.v1.plan_pb2 import LoadPlan
from services.mapper.clients import Clients
from services.mapper.compiler import compile_plan
from services.mapper.definition import Definition
from services.mapper.domain.faults import Fault
from services.mapper.domain.lookups import check_dimensions
from services.mapper.domain.mappings import Candidate
from services.mapper.domain.validation import (
    Described,
    Rejected,
    Surroundings,
    joined_fault,
    joined_query,
    statements,
    validate,
)

MAX_QUERY_BYTES = 65_536  # of a query that can be described


def inspect(candidate: Candidate, clients: Clients) -> list[Fault]:
    """Every fault of a version."""
    definition = candidate.definition
    source, answers = _source(definition, clients)
    target = _kind(definition.target_connection, clients)
    around = Surroundings(source, target, answers, candidate.dimensions)
    faults = validate(definition, around)
    if faults:
        return faults
    query = joined_query(definition, around)
    if isinstance(query, Fault):
        return [query]
    if len(query.encode()) > MAX_QUERY_BYTES:
        return []  # its logics were described one by one
    [answer] = clients.describe(definition.source_connection, [query])
    fault = joined_fault(definition, answer)
    return [fault] if fault else []


def compiled(candidate: Candidate, clients: Clients) -> LoadPlan:
    """The plan of a version; MappingNotValidatedError when its dimensions are not what they were."""
    definition, dimensions = candidate.definition, candidate.dimensions
    check_dimensions(definition, dimensions)
    source, target = clients.kind(definition.source_connection), clients.kind(definition.target_connection)
    return compile_plan(definition, candidate.version, source=source, target=target, dimensions=dimensions)


def _source(
    definition: Definition, clients: Clients
) -> tuple[DatabaseKind | str, dict[str, Described | Rejected]]:
    """The kind of the source and its answers to the logics, or what is wrong with its connection."""
    kind = _kind(definition.source_connection, clients)
    queries = statements(definition)
    if not isinstance(kind, DatabaseKind) or not queries:
        return kind, {}
    try:
        answers = clients.describe(definition.source_connection, queries)
    except UnavailableError:
        raise
    except RefusedError as error:
        return error.message, {}
    return kind, dict(zip(queries, answers, strict=True))


def _kind(connection: str, clients: Clients) -> DatabaseKind | str:
    """The kind of a connection, or what is wrong with it."""
    if not connection:
        return ""
    try:
        return clients.kind(connection)
    except UnavailableError:
        raise
    except RefusedError as error:
        return error.message
