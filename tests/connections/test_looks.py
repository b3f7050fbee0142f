"""What the service shows of customers' databases."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import ListValue
from google.rpc import code_pb2

from portolan.common.v1 import datatypes_pb2
from portolan.connections.v1 import connections_pb2 as pb
from tests.connections.conftest import World
from tests.servers import refusal


def _values(row: ListValue) -> list[Any]:
    values: Any = MessageToDict(row)
    return list(values)


ENDLESS = "SELECT count(*) FROM generate_series(1, 1000000) AS a, generate_series(1, 1000000) AS b"
COUNTING = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1e12) SELECT count(*) FROM n"
)


async def test_a_test_tells_what_answered_and_what_to_know(world: World, registry: str, charts: str) -> None:
    answer = await world.TestConnection(pb.TestConnectionRequest(name=registry))
    assert answer.server.startswith("PostgreSQL ")
    assert list(answer.warnings) == ["The connection is not encrypted.", "The user is a superuser."]
    assert answer.latency.nanos > 0
    assert (await world.TestConnection(pb.TestConnectionRequest(name=charts))).server.startswith("DuckDB ")


async def test_a_database_that_lets_nobody_in_says_why(world: World, registry: str) -> None:
    del registry
    wrong = pb.Connection(name="wrong", postgresql=world.settings)
    wrong.postgresql.password = "not the password"
    await world.CreateConnection(pb.CreateConnectionRequest(connection=wrong))
    refused = await refusal(world.TestConnection(pb.TestConnectionRequest(name="wrong")))
    assert refused.reason == "CONNECTION_REFUSED"
    assert "password authentication failed" in refused.message
    assert "not the password" not in refused.message


async def test_closed_ports_and_other_servers_look_alike(world: World) -> None:
    async def garbage(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    messages = set()
    async with await asyncio.start_server(garbage, "127.0.0.1", 0) as other:
        for name, port in (("closed", 1), ("other", other.sockets[0].getsockname()[1])):
            connection = pb.Connection(name=name, postgresql=world.settings)
            connection.postgresql.port = port
            await world.CreateConnection(pb.CreateConnectionRequest(connection=connection))
            refused = await refusal(world.TestConnection(pb.TestConnectionRequest(name=name)))
            assert refused.reason == "CONNECTION_REFUSED"
            messages.add(refused.message)
    assert len(messages) == 1


async def test_tables_are_listed_in_pages(world: World, registry: str) -> None:
    first = await world.ListTables(pb.ListTablesRequest(connection=registry, page_size=1))
    assert [table.name for table in first.tables] == ["harbours"]
    assert first.next_page_token == ""
    (table,) = first.tables
    assert list(table.primary_key) == ["name"]
    assert [(column.name, column.native_type) for column in table.columns] == [
        ("name", "text"),
        ("country", "character(2)"),
        ("depth", "numeric(5,1)"),
    ]
    depth = table.columns[2].type
    assert (depth.kind, depth.precision, depth.scale) == (datatypes_pb2.DataType.KIND_DECIMAL, 5, 1)


async def test_pages_of_tables_follow_each_other(world: World, charts: str) -> None:
    for name in ("ports", "winds"):
        (world.folder / "charts" / f"{name}.csv").write_text("a\n1\n")
    names, token = [], ""
    while True:
        page = await world.ListTables(pb.ListTablesRequest(connection=charts, page_size=2, page_token=token))
        names.append([table.name for table in page.tables])
        if not (token := page.next_page_token):
            break
    assert names == [["harbours", "ports"], ["winds"]]


async def test_a_query_is_described_with_its_parameters(world: World, registry: str) -> None:
    query = "SELECT name, depth * 2 AS twice FROM harbours WHERE depth > :least AND name <> :name"
    found = await world.DescribeQuery(pb.DescribeQueryRequest(connection=registry, query=query))
    assert [column.name for column in found.columns] == ["name", "twice"]
    assert list(found.parameters) == ["least", "name"]
    assert all(column.nullable for column in found.columns)


async def test_a_bad_query_is_told_where_it_is_bad(world: World, registry: str) -> None:
    request = pb.DescribeQueryRequest(connection=registry, query="SELECT name,\n  nope FROM harbours")
    refused = await refusal(world.DescribeQuery(request))
    assert refused.reason == "QUERY_INVALID"
    assert refused.message.startswith('column "nope" does not exist')
    assert refused.metadata == {"line": "2", "column": "3"}
    request = pb.DescribeQueryRequest(connection=registry, query="DELETE FROM harbours")
    assert (await refusal(world.DescribeQuery(request))).reason == "QUERY_REFUSED"


async def test_one_bad_query_spoils_none_of_the_others(world: World, registry: str) -> None:
    queries = [
        "SELECT name FROM harbours",
        "SELECT nope FROM harbours",
        "DROP TABLE harbours",
        "SELECT 1 AS a",
    ]
    response = await world.BatchDescribeQueries(
        pb.BatchDescribeQueriesRequest(connection=registry, queries=queries)
    )
    kinds = [result.WhichOneof("result") for result in response.results]
    assert kinds == ["description", "error", "error", "description"]
    assert response.results[1].error.code == code_pb2.INVALID_ARGUMENT
    assert "nope" in response.results[1].error.message


@pytest.mark.parametrize("name", ["registry", "charts"])
async def test_rows_are_previewed(world: World, registry: str, charts: str, name: str) -> None:
    assert name in {registry, charts}
    query = "SELECT name, depth FROM harbours WHERE country = :country OR name = 'Lübeck' ORDER BY name"
    found = await world.PreviewRows(
        pb.PreviewRowsRequest(connection=name, query=query, parameters={"country": "IT"}, max_rows=1)
    )
    (row,) = (_values(row) for row in found.rows)
    assert row[0] == "Genoa"
    assert float(row[1]) == 15
    assert found.truncated
    assert [column.name for column in found.columns] == ["name", "depth"]


async def test_numbers_that_json_would_bend_are_strings(world: World, registry: str) -> None:
    query = """
        SELECT 9007199254740993::bigint AS a, 7 AS b, 0.1::numeric AS c, true AS d, NULL::date AS e,
            '2024-02-29'::date AS f, '2024-02-29 10:00:00.5+02'::timestamptz AS g, '\\x00ff'::bytea AS h,
            '{"k": 1}'::jsonb AS i, 'NaN'::float8 AS j
    """
    found = await world.PreviewRows(pb.PreviewRowsRequest(connection=registry, query=query))
    (row,) = (_values(row) for row in found.rows)
    assert row == [
        *("9007199254740993", 7, "0.1", True, None, "2024-02-29", "2024-02-29T08:00:00.500000+00:00", "00ff"),
        *('{"k": 1}', "nan"),
    ]


async def test_a_preview_is_bounded_in_rows_cells_and_bytes(world: World, registry: str) -> None:
    query = "SELECT repeat('x', 100000) AS a FROM generate_series(1, 1000)"
    found = await world.PreviewRows(pb.PreviewRowsRequest(connection=registry, query=query, max_rows=1000))
    assert found.truncated
    assert 0 < len(found.rows) < 1000
    assert len(found.rows[0].values[0].string_value) == 65536
    assert found.ByteSize() < 4 * 2**20


async def test_a_slow_query_ends_at_its_limit(world: World, registry: str) -> None:
    refused = await refusal(world.PreviewRows(pb.PreviewRowsRequest(connection=registry, query=ENDLESS)))
    assert refused.reason == "QUERY_TIMEOUT"


@pytest.mark.parametrize("query_seconds", [60])
@pytest.mark.parametrize("name", ["registry", "charts", "book"])
async def test_a_caller_who_goes_leaves_no_query_behind(
    world: World, registry: str, charts: str, name: str
) -> None:
    assert {registry, charts} == {"registry", "charts"}
    book = pb.Connection(name="book", sqlite=pb.SqliteSettings(path="book.db"))
    (world.folder / "book.db").touch()
    await world.CreateConnection(pb.CreateConnectionRequest(connection=book))
    slow = pb.PreviewRowsRequest(connection=name, query=COUNTING if name == "book" else ENDLESS)
    left = [world.PreviewRows(slow) for _ in range(3)]
    await asyncio.sleep(0.5)
    for call in left:
        call.cancel()
    quick = pb.PreviewRowsRequest(connection=name, query="SELECT 1 AS one")
    async with asyncio.timeout(20):
        while True:
            try:
                found = await world.PreviewRows(quick)
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                await asyncio.sleep(0.05)
    assert found.rows[0].values[0].number_value == 1


async def test_a_slow_connection_holds_up_no_others(world: World, registry: str, charts: str) -> None:
    slow = pb.PreviewRowsRequest(connection=registry, query=ENDLESS)
    calls = [asyncio.ensure_future(refusal(world.PreviewRows(slow))) for _ in range(6)]
    await asyncio.sleep(0.2)
    request = pb.PreviewRowsRequest(connection=charts, query="SELECT count(*) AS n FROM harbours")
    async with asyncio.timeout(5):
        found = await world.PreviewRows(request)
    assert found.rows[0].values[0].number_value == 3
    reasons = sorted([(await call).reason for call in calls])
    assert reasons == ["OVERLOADED"] * 3 + ["QUERY_TIMEOUT"] * 3


async def test_a_file_that_does_not_exist_yet_is_an_empty_database(world: World) -> None:
    connection = pb.Connection(name="warehouse", sqlite=pb.SqliteSettings(path="warehouse.db"))
    await world.CreateConnection(pb.CreateConnectionRequest(connection=connection))
    answer = await world.TestConnection(pb.TestConnectionRequest(name="warehouse"))
    assert list(answer.warnings) == ["The file does not exist yet; the first load creates it."]
    assert not (await world.ListTables(pb.ListTablesRequest(connection="warehouse"))).tables
    assert not (world.folder / "warehouse.db").exists()
