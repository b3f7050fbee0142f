"""What only folders of files have."""

import datetime as dt
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernel.databases.endpoints import DatabaseKind, Endpoint
from kernel.databases.errors import FolderMissingError, QueryInvalidError, SourceUnavailableError
from kernel.databases.files import SETTINGS
from kernel.databases.sources import Source, open_source
from kernel.databases.types import Kind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    made = tmp_path / "it's a folder"
    made.mkdir()
    return made


def _open(folder: Path) -> Source:
    return open_source(Endpoint(kind=DatabaseKind.FILES, path=str(folder)))


def test_csv_and_parquet_files_are_tables(folder: Path) -> None:
    (folder / "odd name.csv").write_text("a;b\n1;x\n2;\n")
    (folder / "notes.txt").write_text("no table")
    when = dt.datetime(2024, 2, 29, 10, 0, tzinfo=dt.UTC)
    pq.write_table(
        pa.table({"t": pa.array([when], pa.timestamp("us", "UTC")), "l": [[1, 2]]}), folder / "p.parquet"
    )
    with _open(folder) as source:
        tables = source.tables(limit=9)
        assert [table.name for table in tables] == ["odd name", "p"]
        assert source.rows('SELECT a, b FROM "odd name" ORDER BY a', 9) == [(1, "x"), (2, None)]
        assert source.rows("SELECT t, l FROM p", 9) == [(when, "[1, 2]")]
        assert [column.type.kind for column in source.describe("SELECT * FROM p")] == [
            *(Kind.TIMESTAMP_TZ, Kind.OTHER)
        ]


def test_one_bad_value_makes_its_column_text_and_fails_nothing(folder: Path) -> None:
    rows = "".join(f"{number},2024-01-01\n" for number in range(50_000))
    (folder / "late.csv").write_text(f"a,b\n{rows}oops,2024-02-30\n")
    with _open(folder) as source:
        assert [column.type.kind for column in source.describe("SELECT * FROM late")] == [
            *(Kind.STRING, Kind.STRING)
        ]
        assert source.rows("SELECT count(*) AS n, max(a) AS a FROM late", 1) == [(50_001, "oops")]


def test_leading_zeros_and_quotes_are_kept(folder: Path) -> None:
    (folder / "codes.csv").write_text('zip,text\n00501,"a ""b"", c"\n10001,"two\nlines"\n')
    with _open(folder) as source:
        assert source.rows("SELECT * FROM codes", 9) == [("00501", 'a "b", c'), ("10001", "two\nlines")]


def test_a_file_that_changes_is_looked_into_again(folder: Path) -> None:
    path = folder / "a.csv"
    path.write_text("x\n1\n")
    with _open(folder) as source:
        assert source.rows("SELECT x FROM a", 1) == [(1,)]
    path.write_text("x,y\nq,2\n")
    with _open(folder) as source:
        assert source.rows("SELECT x, y FROM a", 1) == [("q", 2)]


def test_a_broken_file_spoils_none_of_the_others(folder: Path) -> None:
    (folder / "bad.parquet").write_bytes(b"PAR1 and nothing more")
    (folder / "empty.csv").write_text("")
    (folder / "good.csv").write_text("x\n1\n")
    with _open(folder) as source:
        assert {table.name: len(table.columns) for table in source.tables(limit=9)}["good"] == 1
        assert source.rows("SELECT x FROM good", 1) == [(1,)]
        assert source.rows("SELECT x AS bad FROM good", 1) == [(1,)]
        with pytest.raises(QueryInvalidError, match=r"No magic bytes.*'bad.parquet'") as caught:
            source.describe("SELECT * FROM bad")
        assert str(folder) not in str(caught.value)


def test_a_form_is_found_from_the_whole_file(folder: Path) -> None:
    plain = "".join(f"{number},clerk,01/02/2024\n" for number in range(100_000))
    (folder / "late.csv").write_text(f'a,b,c\n{plain}7,"a ""x"", b",13/02/2024\n')
    (folder / "ragged.csv").write_text(f"a,b,c\n{plain}7\n8,9,10,11\n")
    (folder / "latin.csv").write_bytes("a,b\nLübeck,1\n".encode("latin-1"))
    (folder / "marked.csv").write_text("\ufeffa\tb\n1\t2\n")
    with _open(folder) as source:
        assert source.rows("SELECT b, c FROM late WHERE a = 7 AND b <> 'clerk'", 2) == [
            ('a "x", b', dt.date(2024, 2, 13))
        ]
        assert source.rows("SELECT a, b FROM marked", 2) == [(1, 2)]
        with pytest.raises(QueryInvalidError, match=r"ragged.csv"):
            source.describe("SELECT * FROM ragged")
        with pytest.raises(QueryInvalidError, match="not utf-8"):
            source.describe("SELECT * FROM latin")


def test_a_file_behind_a_link_or_a_second_name_is_left_out_with_a_warning(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.csv").write_text("x\n1\n")
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    (folder / "a.csv").write_text("x\n1\n")
    pq.write_table(pa.table({"x": [1]}), folder / "A.parquet")
    with _open(folder) as source:
        assert len(source.tables(limit=9)) == 1
        assert len(source.warnings()) == 2
        with pytest.raises(QueryInvalidError):
            source.describe("SELECT * FROM link")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd.csv'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM secret_frame",
        "SELECT getenv('HOME') AS h",
    ],
)
def test_nothing_outside_of_the_folder_is_reached_even_past_the_guard(folder: Path, query: str) -> None:
    secret_frame = pa.table({"x": [1]})
    with _open(folder) as source, pytest.raises((QueryInvalidError, SourceUnavailableError)):
        list(source.batches(query, 100))
    assert secret_frame.num_rows == 1


def test_a_result_larger_than_memory_is_sorted_and_leaves_no_file(folder: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        patch.setitem(SETTINGS, "memory_limit", "50MB")
        with _open(folder) as source:
            query = "SELECT range AS a, md5(range::varchar) AS b FROM range(1500000) ORDER BY b"
            rows = sum(batch.num_rows for batch in source.batches(query, 100))
    assert rows == 1_500_000
    (spill,) = [path for path in tmp_path.iterdir() if path != folder]
    assert spill.stat().st_mode & 0o777 == 0o700
    assert not list(spill.iterdir())


def test_the_sandbox_cannot_be_opened_again(folder: Path) -> None:
    with _open(folder) as source:
        for setting in ("enable_external_access = true", "lock_configuration = false", "threads = 8"):
            with pytest.raises(QueryInvalidError):
                list(source.batches(f"SET {setting}", 100))


def test_an_error_tells_line_and_column_of_the_user_s_text(folder: Path) -> None:
    (folder / "a.csv").write_text("x\n1\n")
    with _open(folder) as source, pytest.raises(QueryInvalidError) as caught:
        source.describe("SELECT x,\n  nope FROM a")
    assert (caught.value.line, caught.value.column) == (2, 3)
    assert str(folder) not in caught.value.message


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM pg_dpend",
        "SELECT * FROM hrbours",
        "SELECT lenth(x) FROM harbours",
        "SELECT current_setting('allowed_directorie')",
        "SELECT nope FROM harbours",
        "SELECT x FRM harbours h",
        "SELECT sum(y) FROM harbours",
        "SELECT strptime('a', 'b')",
        "SELECT x FROM harbours WHERE x = 'y'",
    ],
)
def test_an_error_holds_neither_guesses_nor_drawings(folder: Path, query: str) -> None:
    (folder / "harbours.csv").write_text("x,y\n1,a\n")
    with _open(folder) as source, pytest.raises(QueryInvalidError) as caught:
        source.rows(query, 1)
    assert caught.value.message
    assert not re.search(
        r"Did you mean|LINE \d|\^\^|pg_depend|allowed_directories|\"length", caught.value.message
    )


def test_a_file_is_no_folder(folder: Path) -> None:
    (folder / "a.csv").write_text("x\n1\n")
    with pytest.raises(FolderMissingError, match="does not exist"):
        _open(folder / "a.csv")
