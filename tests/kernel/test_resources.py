"""Rows as messages, updates by mask, and pages that hold every row once."""

import base64
import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import orm

from kernel.db import Base, Database, metadata
from kernel.errors import EtagMismatchError, FieldInvalidError, PageTokenInvalidError
from kernel.resources import check_etag, last_seen, merge, next_token, page, to_message
from portolan.connections.v1 import connections_pb2 as pb
from portolan.jobs.v1 import runs_pb2
from portolan.mapper.v1 import mappings_pb2

MUTABLE = ("description", "postgresql", "sqlite", "files")
MAPPING = ("description", "columns")


class TestToMessage:
    """A message has the values of its row."""

    def test_fields_have_the_values_of_attributes(self) -> None:
        moment = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC)
        row = SimpleNamespace(name="a", description="b", create_time=moment, elsewhere="c", etag='"7"')
        message = to_message(row, pb.Connection, kind="SQLITE", sqlite=pb.SqliteSettings(path="d"))
        assert (message.name, message.description, message.etag) == ("a", "b", '"7"')
        assert message.create_time.ToDatetime(dt.UTC) == moment
        assert message.kind == pb.KIND_SQLITE
        assert message.sqlite.path == "d"

    def test_none_and_what_the_row_has_not_stay_unset(self) -> None:
        message = to_message(SimpleNamespace(name=None), pb.Connection, description=None)
        assert message == pb.Connection()

    def test_a_nested_enum_and_the_empty_one(self) -> None:
        assert to_message(SimpleNamespace(state="QUEUED"), runs_pb2.Run).state == runs_pb2.Run.STATE_QUEUED
        assert to_message(SimpleNamespace(state=""), runs_pb2.Run).state == runs_pb2.Run.STATE_UNSPECIFIED

    def test_lists_and_maps(self) -> None:
        row = SimpleNamespace(parameters={"day": "1"})
        assert dict(to_message(row, runs_pb2.Run).parameters) == {"day": "1"}
        columns = [mappings_pb2.MappingColumn(name="A"), mappings_pb2.MappingColumn(name="B")]
        assert list(to_message(row, mappings_pb2.Mapping, columns=columns).columns) == columns

    def test_a_derived_field_that_does_not_exist_is_a_fault(self) -> None:
        with pytest.raises(TypeError, match="no fields"):
            to_message(SimpleNamespace(), pb.Connection, nonsense=1)

    def test_an_unknown_enum_value_is_a_fault(self) -> None:
        with pytest.raises(KeyError):
            to_message(SimpleNamespace(state="LOST"), runs_pb2.Run)


def postgresql(**given: Any) -> pb.PostgresqlSettings:
    return pb.PostgresqlSettings(**{"host": "h", "database": "d", "user": "u", **given})


class TestMerge:
    """An update changes what its mask names, and nothing else."""

    @pytest.fixture
    def current(self) -> pb.Connection:
        return pb.Connection(
            name="a", description="b", postgresql=postgresql(port=1), kind=pb.KIND_POSTGRESQL
        )

    def test_without_a_mask_what_is_given_counts(self, current: pb.Connection) -> None:
        changed = merge(current, pb.Connection(name="z", description="c"), FieldMask(), MUTABLE)
        assert changed == {"description"}
        assert (current.name, current.description, current.postgresql.port) == ("a", "c", 1)

    def test_what_is_named_and_not_given_is_cleared(self, current: pb.Connection) -> None:
        assert merge(current, pb.Connection(), FieldMask(paths=["description"]), MUTABLE) == {"description"}
        assert current.description == ""

    def test_what_is_equal_has_not_changed(self, current: pb.Connection) -> None:
        given = pb.Connection(description="b", postgresql=postgresql(port=1))
        assert merge(current, given, FieldMask(paths=["description", "postgresql"]), MUTABLE) == set()

    def test_a_message_is_replaced_whole(self, current: pb.Connection) -> None:
        given = pb.Connection(postgresql=postgresql(host="i"))
        assert merge(current, given, FieldMask(paths=["postgresql"]), MUTABLE) == {"postgresql"}
        assert current.postgresql == postgresql(host="i")

    def test_a_sub_path_changes_one_field(self, current: pb.Connection) -> None:
        given = pb.Connection(postgresql=pb.PostgresqlSettings(host="i", port=9))
        assert merge(current, given, FieldMask(paths=["postgresql.host"]), MUTABLE) == {"postgresql"}
        assert current.postgresql == postgresql(host="i", port=1)

    def test_another_member_of_a_oneof_takes_the_place(self, current: pb.Connection) -> None:
        given = pb.Connection(sqlite=pb.SqliteSettings(path="p"))
        merge(current, given, FieldMask(paths=["sqlite"]), MUTABLE)
        assert current.WhichOneof("settings") == "sqlite"

    def test_a_star_replaces_all_that_may_change(self, current: pb.Connection) -> None:
        given = pb.Connection(name="z", files=pb.FilesSettings(path="p"))
        assert merge(current, given, FieldMask(paths=["*"]), MUTABLE) == {
            "description",
            "files",
            "postgresql",
        }
        assert current == pb.Connection(name="a", files=pb.FilesSettings(path="p"), kind=pb.KIND_POSTGRESQL)

    def test_a_list_is_replaced_and_not_added_to(self) -> None:
        column = mappings_pb2.MappingColumn
        current = mappings_pb2.Mapping(reference="A", columns=[column(name="A"), column(name="B")])
        given = mappings_pb2.Mapping(columns=[column(name="C")])
        with contextlib.suppress(FieldInvalidError):  # the mapping lacks much; what counts is what was merged
            merge(current, given, FieldMask(paths=["columns"]), MAPPING)
        assert [item.name for item in current.columns] == ["C"]

    def test_the_result_must_keep_the_rules(self, current: pb.Connection) -> None:
        with pytest.raises(FieldInvalidError) as caught:
            merge(current, pb.Connection(description="x" * 401), FieldMask(), MUTABLE)
        assert list(caught.value.fields) == ["description"]
        with pytest.raises(FieldInvalidError):
            merge(current, pb.Connection(), FieldMask(paths=["postgresql"]), MUTABLE)

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("name", "cannot be changed"),
            ("kind", "cannot be changed"),
            ("etag", "cannot be changed"),
            ("settings", "does not exist"),
            ("nonsense", "does not exist"),
            ("postgresql.nonsense", "does not exist"),
            ("description.x", "does not exist"),
            ("postgresql.host.x", "does not exist"),
            ("", "does not exist"),
            ("postgresql.", "does not exist"),
            (".host", "does not exist"),
        ],
    )
    def test_what_does_not_exist_or_may_not_change_is_refused(
        self, current: pb.Connection, path: str, text: str
    ) -> None:
        before = pb.Connection.FromString(current.SerializeToString())
        with pytest.raises(FieldInvalidError) as caught:
            merge(current, pb.Connection(description="c"), FieldMask(paths=["description", path]), MUTABLE)
        assert caught.value.fields == {f"update_mask.{path}": text}
        assert current == before

    @given(st.lists(st.text("abcdehinopqrstuy._*,", max_size=20), max_size=4))
    def test_no_mask_is_a_fault(self, paths: list[str]) -> None:
        current = pb.Connection(name="a", postgresql=postgresql())
        with contextlib.suppress(FieldInvalidError):
            merge(current, pb.Connection(description="c"), FieldMask(paths=paths), MUTABLE)
        assert current.name == "a"


def test_an_etag_is_that_of_the_row_or_none() -> None:
    row = SimpleNamespace(revision=3, etag='"3"')
    check_etag(row, "")
    check_etag(row, '"3"')
    with pytest.raises(EtagMismatchError):
        check_etag(row, '"2"')


class Model(Base):
    """The base of the test's models."""

    __abstract__ = True
    metadata = metadata()


class Rock(Model):
    """A row with a key of each sort."""

    __tablename__ = "rocks"

    name: orm.Mapped[str] = orm.mapped_column(sa.String(50), primary_key=True)
    number: orm.Mapped[int] = orm.mapped_column(unique=True)


@dataclass
class Sea:
    """A database of rocks."""

    database: Database
    names: list[str] = field(default_factory=list)

    def fill(self, names: list[str]) -> None:
        with self.database.transaction() as session:
            session.execute(sa.delete(Rock))
            session.add_all(Rock(name=name, number=number) for number, name in enumerate(names))

    def page(
        self, request: pb.ListConnectionsRequest, key: Any = Rock.name, *, descending: bool = False
    ) -> tuple[list[str], str]:
        with self.database.read() as session:
            rows, token = page(session, sa.select(Rock), key, request, descending=descending)
        return [row.name for row in rows], token

    def all(self, size: int, key: Any = Rock.name, *, descending: bool = False) -> list[str]:
        """What a reader of all pages gets."""
        request, names = pb.ListConnectionsRequest(page_size=size), []
        while True:
            found, token = self.page(request, key, descending=descending)
            assert len(found) <= size
            names += found
            if not token:
                return names
            request.page_token = token


@pytest.fixture(scope="module")
def sea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sea]:
    database = Database(f"sqlite:///{Path(tmp_path_factory.mktemp('sea')) / 'rocks.db'}", "rocks")
    Model.metadata.create_all(database.engine)
    yield Sea(database)
    database.close()


KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


class TestPages:
    """A list that is read page by page."""

    @given(names=st.lists(KEYS, unique=True, max_size=30), size=st.integers(1, 8), descending=st.booleans())
    def test_every_row_comes_once_and_in_order(
        self, sea: Sea, *, names: list[str], size: int, descending: bool
    ) -> None:
        sea.fill(names)
        assert sea.all(size, descending=descending) == sorted(names, reverse=descending, key=str.encode)
        numbered = names[::-1] if descending else names
        assert sea.all(size, Rock.number, descending=descending) == numbered

    def test_rows_that_come_and_go_move_no_other(self, sea: Sea) -> None:
        sea.fill(["b", "d", "f", "h"])
        first, token = sea.page(pb.ListConnectionsRequest(page_size=2))
        sea.fill(["a", "c", "d", "e", "f", "h"])
        second, _ = sea.page(pb.ListConnectionsRequest(page_size=9, page_token=token))
        assert (first, second) == (["b", "d"], ["e", "f", "h"])

    def test_no_size_is_fifty(self, sea: Sea) -> None:
        sea.fill([f"{number:03}" for number in range(60)])
        assert len(sea.page(pb.ListConnectionsRequest())[0]) == 50


def forged(request: Any, content: bytes) -> str:
    """A token as a client could make one that knows how."""
    digest = base64.urlsafe_b64decode(next_token(request, "x"))[:8]
    return base64.urlsafe_b64encode(digest + content).decode()


def refuses(request: Any, token: str, kind: type[Any] = str) -> bool:
    request.page_token = token
    try:
        last_seen(request, kind)
    except PageTokenInvalidError as error:
        return list(error.fields) == ["page_token"]
    return False


class TestTokens:
    """Nothing but the token of the page before is one."""

    @given(KEYS | st.integers(-(2**62), 2**62))
    def test_a_token_comes_back(self, key: Any) -> None:
        request = pb.ListConnectionsRequest(page_size=3)
        request.page_token = next_token(request, key)
        request.page_size = 7
        assert last_seen(request, type(key)) == key

    def test_no_token_is_the_first_page(self) -> None:
        assert last_seen(pb.ListConnectionsRequest(), str) is None

    @given(KEYS, st.data())
    def test_a_changed_token_is_refused(self, key: str, data: st.DataObject) -> None:
        request = pb.ListConnectionsRequest()
        token = next_token(request, key)
        place = data.draw(st.integers(0, 10))
        other = data.draw(st.sampled_from("ABCxyz019-_=+/ \n"))
        changed = token[:place] + other + token[place + 1 :]
        assert changed == token or refuses(request, changed)
        assert refuses(request, token + other)
        assert refuses(request, token[:-1])

    def test_the_token_of_another_call_is_refused(self) -> None:
        one, two = runs_pb2.ListRunsRequest(reference="A"), runs_pb2.ListRunsRequest(reference="B")
        assert refuses(two, next_token(one, "x"))
        assert refuses(pb.ListConnectionsRequest(), next_token(pb.ListConnectionsRequest(), 1))
        assert refuses(pb.ListConnectionsRequest(), next_token(pb.ListConnectionsRequest(), "x"), int)
        assert refuses(pb.ListConnectionsRequest(), next_token(runs_pb2.ListRunsRequest(), "x"))

    @given(
        st.text(max_size=100) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    )
    def test_no_text_is_a_fault(self, token: str) -> None:
        assert not token or refuses(pb.ListConnectionsRequest(), token)

    @pytest.mark.parametrize("kind", [str, int])
    @pytest.mark.parametrize(
        "content",
        [
            b'"\\ud800"', b'"a\\u0000b"', b"9223372036854775808", b"1e400", b"NaN", b"true", b"null", b"1.5",
            b'{"a": 1}', b"[" * 700, b"9" * 700, b"", b'"', b"\xff\xfe", b" 1", b'"x" ',
        ],
    )  # fmt: skip
    def test_no_forged_key_reaches_a_database(self, content: bytes, kind: type[Any]) -> None:
        request = pb.ListConnectionsRequest()
        assert refuses(request, forged(request, content), kind)

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
    def test_no_forged_json_is_a_fault(self, content: object) -> None:
        request = pb.ListConnectionsRequest()
        request.page_token = forged(request, json.dumps(content).encode())
        with contextlib.suppress(PageTokenInvalidError):
            assert last_seen(request, str) == content
