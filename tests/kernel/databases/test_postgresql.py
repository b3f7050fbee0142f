"""What only PostgreSQL has."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from kernel.databases.endpoints import DatabaseKind, Endpoint, SslMode
from kernel.databases.errors import (
    QueryCancelledError,
    QueryInvalidError,
    QueryTimeoutError,
    SourceUnavailableError,
)
from kernel.databases.postgresql import parameters
from kernel.databases.sources import open_source
from kernel.databases.types import DataType, Kind
from tests.kernel.databases.conftest import Place
from tests.kernel.databases.tls import Authority, encrypting

Run = Callable[[str], list[tuple[Any, ...]]]

VALUES = [
    ("true", Kind.BOOLEAN, True),
    ("1::smallint", Kind.INTEGER, 1),
    ("2147483647", Kind.INTEGER, 2147483647),
    ("9223372036854775807", Kind.BIG_INTEGER, 9223372036854775807),
    ("1.5::real", Kind.DOUBLE, 1.5),
    ("0.1::float8", Kind.DOUBLE, 0.1),
    ("1.50::numeric(10, 2)", Kind.DECIMAL, "1.50"),
    ("'NaN'::numeric(10, 2)", Kind.DECIMAL, "nan"),
    ("12345678901234567890123456789012345678901234567890.5", Kind.OTHER, "1234567890" * 5 + ".5"),
    ("'Ü'::text", Kind.STRING, "Ü"),
    ("'ab'::varchar(5)", Kind.STRING, "ab"),
    ("'ab'::char(5)", Kind.STRING, "ab"),
    ("''", Kind.STRING, ""),
    ("NULL", Kind.STRING, None),
    ("'2024-02-29'::date", Kind.DATE, "2024-02-29"),
    ("'infinity'::date", Kind.DATE, "infinity"),
    ("'-infinity'::date", Kind.DATE, "-infinity"),
    ("'2024-02-29 10:11:12.123456'::timestamp", Kind.TIMESTAMP, "2024-02-29 10:11:12.123456"),
    ("'infinity'::timestamp", Kind.TIMESTAMP, "infinity"),
    ("'2024-02-29 10:00+02'::timestamptz", Kind.TIMESTAMP_TZ, "2024-02-29 08:00:00+00:00"),
    ("'-infinity'::timestamptz", Kind.TIMESTAMP_TZ, "-infinity"),
    ("'\\x00ff'::bytea", Kind.BINARY, b"\x00\xff"),
    ("'{\"a\": 1}'::jsonb", Kind.OTHER, '{"a": 1}'),
    ("'0190163d-8694-739b-aea5-966c26f8ad91'::uuid", Kind.OTHER, "0190163d-8694-739b-aea5-966c26f8ad91"),
    ("'10.0.0.1'::inet", Kind.OTHER, "10.0.0.1/32"),
    ("ARRAY[1, NULL]", Kind.OTHER, "{1,NULL}"),
    ("interval '1 day 02:03'", Kind.OTHER, "1 day 02:03:00"),
    ("'10:11'::time", Kind.OTHER, "10:11:00"),
    ("4294967295::oid", Kind.OTHER, "4294967295"),
    ("'12.50'::money", Kind.OTHER, "$12.50"),
    ("ROW(1, 'x')", Kind.OTHER, "(1,x)"),
]


def test_every_type_is_read_exactly_or_as_text(postgresql: Place) -> None:
    with open_source(postgresql.endpoint) as source:
        query = "SELECT " + ", ".join(f"{value} AS c{place}" for place, (value, _, _) in enumerate(VALUES))
        kinds = [column.type.kind for column in source.describe(query)]
        (row,) = source.rows(query, 1)
    assert kinds == [kind for _, kind, _ in VALUES]
    for (text, _, expected), value in zip(VALUES, row, strict=True):
        assert value == expected or str(value) == expected, text


def test_a_type_is_told_with_its_size_and_in_the_database_s_words(
    postgresql: Place, run_postgresql: Run
) -> None:
    run_postgresql("CREATE DOMAIN price AS numeric(8, 3)")
    run_postgresql("CREATE TABLE sized (a varchar(7), b price, c char(3), d numeric, e timestamptz(3))")
    with open_source(postgresql.endpoint) as source:
        described = source.describe("SELECT * FROM sized")
        (table,) = [table for table in source.tables(limit=50) if table.name == "sized"]
    assert [column.type for column in described] == [
        DataType(Kind.STRING, length=7),
        DataType(Kind.DECIMAL, precision=8, scale=3),
        DataType(Kind.STRING, length=3),
        DataType(Kind.OTHER),
        DataType(Kind.TIMESTAMP_TZ),
    ]
    assert [column.type for column in table.columns] == [column.type for column in described]
    assert [column.native_type for column in table.columns] == [
        *("character varying(7)", "price", "character(3)", "numeric", "timestamp(3) with time zone")
    ]


def test_an_error_tells_line_and_column_of_the_user_s_text(postgresql: Place) -> None:
    with open_source(postgresql.endpoint) as source, pytest.raises(QueryInvalidError) as caught:
        source.describe("SELECT id,\n  näme\nFROM people")
    assert (caught.value.line, caught.value.column) == (2, 3)


def test_an_error_in_the_middle_of_the_rows_is_told(postgresql: Place) -> None:
    query = "SELECT 1 / (500000 - g) AS a, repeat('x', 50) AS b FROM generate_series(1, 1000000) AS g"
    with open_source(postgresql.endpoint) as source:
        with pytest.raises(QueryInvalidError, match="division by zero"):
            list(source.batches(query, 100))
        assert len(source.rows("SELECT 1 AS a", 1)) == 1


@pytest.mark.timed
def test_a_cancelled_or_abandoned_query_is_gone_from_the_server(
    postgresql: Place, run_postgresql: Run
) -> None:
    query = "SELECT generate_series(1, 100000000) AS g, repeat('x', 100) AS b"
    with open_source(postgresql.endpoint, time_limit=60) as source:
        batches = source.batches(query, 1000, limit=50_000_000)
        next(batches)
        batches.close()  # type: ignore[attr-defined]  # a generator
        deadline = time.monotonic() + 1
        while run_postgresql(
            "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%repeat%'"
            " AND pid <> pg_backend_pid() AND datname = current_database()"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_description_does_not_wait_for_ever_for_a_lock(postgresql: Place, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as holder:
        holder.execute("LOCK TABLE people IN ACCESS EXCLUSIVE MODE")
        with open_source(postgresql.endpoint, time_limit=0.3) as source, pytest.raises(QueryTimeoutError):
            source.describe("SELECT * FROM people")


def test_a_server_that_goes_away_is_unavailable(postgresql: Place, run_postgresql: Run) -> None:
    with open_source(postgresql.endpoint) as source:
        run_postgresql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        with pytest.raises(SourceUnavailableError):
            source.describe("SELECT 1 AS a")


def test_a_superuser_is_warned_of_and_an_ordinary_user_is_not(postgresql: Place, run_postgresql: Run) -> None:
    name = f"reader_{postgresql.endpoint.database}"
    run_postgresql(f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    run_postgresql(f"GRANT SELECT ON people TO {name}")
    try:
        with open_source(replace(postgresql.endpoint, user=name, password="x")) as source:
            assert source.warnings() == ["The connection is not encrypted."]
            assert [table.name for table in source.tables(limit=50)] == ["people"]
            with pytest.raises(QueryInvalidError, match="permission denied"):
                list(source.batches("SELECT * FROM orders", 100))
    finally:
        run_postgresql(f"DROP OWNED BY {name}")
        run_postgresql(f"DROP ROLE {name}")
    with open_source(postgresql.endpoint) as source:
        assert "The user is a superuser." in source.warnings()


@pytest.fixture
def silent() -> Iterator[Endpoint]:
    """A server that lets everybody in and then says nothing any more."""

    def answer(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                callers.append(caller)
                caller.recv(1000)
                caller.sendall(b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I")

    callers: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=answer, args=(listener,), daemon=True).start()
        address, port = listener.getsockname()
        yield Endpoint(
            kind=DatabaseKind.POSTGRESQL,
            host=address,
            address=address,
            port=port,
            database="d",
            user="u",
            ssl_mode=SslMode.DISABLE,
        )
        listener.shutdown(socket.SHUT_RDWR)
        for caller in callers:
            stack.enter_context(caller)


@pytest.mark.timed
def test_a_server_that_falls_silent_is_left_a_little_after_the_time_limit(silent: Endpoint) -> None:
    with open_source(silent, time_limit=0.2) as source:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError):
            source.describe("SELECT 1 AS a")
        assert time.monotonic() - started < 5


@pytest.mark.timed
def test_a_server_that_falls_silent_is_left_when_it_heeds_no_cancel(silent: Endpoint) -> None:
    with open_source(silent) as source:
        canceller = threading.Timer(0.2, source.cancel)
        canceller.start()
        started = time.monotonic()
        with pytest.raises(QueryCancelledError):
            source.describe("SELECT 1 AS a")
        assert time.monotonic() - started < 8
        canceller.join()


def test_encryption_is_demanded_unless_it_is_switched_off(postgresql: Place) -> None:
    for mode in (SslMode.REQUIRE, SslMode.VERIFY_FULL):
        with pytest.raises(SourceUnavailableError, match="server does not support SSL"):
            open_source(replace(postgresql.endpoint, ssl_mode=mode))


@pytest.fixture
def encrypted(postgresql: Place, tmp_path: Path) -> Iterator[Endpoint]:
    """The database behind a server `db.example` with a certificate of a company's own authority."""
    authority, place = Authority(tmp_path / "own"), postgresql.endpoint
    with encrypting(authority.context("db.example"), place.address, place.port) as port:
        trusted = str(authority.file)
        yield replace(place, host="db.example", port=port, ssl_mode=SslMode.VERIFY_FULL, authorities=trusted)


def test_a_server_with_a_certificate_of_a_trusted_authority_is_read(encrypted: Endpoint) -> None:
    with open_source(encrypted) as source:
        assert "The connection is not encrypted." not in source.warnings()
        assert source.rows("SELECT count(*) AS n FROM people", 1) == [(3,)]


def test_a_certificate_for_another_host_is_refused(encrypted: Endpoint) -> None:
    with pytest.raises(SourceUnavailableError, match=r'does not match host name "other\.example"'):
        open_source(replace(encrypted, host="other.example"))


def test_a_certificate_of_another_authority_is_refused_unless_it_does_not_matter(
    encrypted: Endpoint, tmp_path: Path
) -> None:
    for authorities in ("", str(Authority(tmp_path / "other").file)):
        stranger = replace(encrypted, authorities=authorities)
        with pytest.raises(SourceUnavailableError, match="certificate verify failed"):
            open_source(stranger)
        with open_source(replace(stranger, ssl_mode=SslMode.REQUIRE)) as source:
            assert source.rows("SELECT count(*) AS n FROM people", 1) == [(3,)]


def test_the_machines_own_certificates_are_found_where_it_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = Endpoint(kind=DatabaseKind.POSTGRESQL, ssl_mode=SslMode.VERIFY_FULL)
    places = (str(tmp_path / "elsewhere"), str(Authority(tmp_path / "here").file))
    monkeypatch.setattr("kernel.databases.postgresql.BUNDLES", places)
    assert parameters(endpoint)["sslrootcert"] == places[1]


def test_a_password_is_in_no_representation_and_no_message(postgresql: Place) -> None:
    endpoint = replace(postgresql.endpoint, password="canary-of-a-password")
    assert "canary" not in repr(endpoint)
    with pytest.raises(SourceUnavailableError) as caught:
        open_source(endpoint)
    assert "canary" not in f"{caught.value!r} {caught.value.__context__!r}"
