"""The demonstration's workbook and source files."""

from pathlib import Path

import duckdb
import openpyxl
import pytest

from demo import source, workbook
from kernel.databases.types import parse_code


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source files as they are published."""
    folder = tmp_path_factory.mktemp("flights")
    source.reset(folder)
    return folder


def cells(path: Path) -> dict[str, list[tuple[object, ...]]]:
    found = openpyxl.load_workbook(path)
    return {sheet.title: [tuple(row) for row in sheet.iter_rows(values_only=True)] for sheet in found}


def test_the_committed_workbook_is_the_one_that_is_written(tmp_path: Path) -> None:
    workbook.write(tmp_path / "flights.xlsx", "main")
    assert cells(workbook.FILE) == cells(tmp_path / "flights.xlsx")


def test_every_type_is_a_known_one_and_every_key_is_gapless() -> None:
    for mapping in workbook.mappings("main"):
        assert all(parse_code(column.data_type) for column in mapping.columns), mapping.reference
        keys = [column.key for column in mapping.columns if column.key]
        assert keys == list(range(1, len(keys) + 1)), mapping.reference


def test_every_logic_of_the_files_returns_the_columns_that_it_is_said_to(files: Path) -> None:
    with duckdb.connect() as database:
        for name in source.FILES:
            database.execute(f"CREATE VIEW {Path(name).stem} AS SELECT * FROM '{files / name}'")
        for mapping in workbook.mappings("main"):
            for column in mapping.columns:
                if column.logic and mapping.source == workbook.SOURCE:
                    returned = database.execute(f"DESCRIBE {column.logic.text}").fetchall()
                    named = {column.value, *column.logic.keys.split(", ")}
                    assert named <= {row[0] for row in returned}, (mapping.reference, column.name)


def test_the_business_key_of_a_flight_is_unique_in_the_files(files: Path) -> None:
    keys = workbook.FLIGHTS.keys
    with duckdb.connect() as database:
        database.execute(f"CREATE VIEW flights AS SELECT * FROM '{files / 'flights.csv'}'")
        counted = database.execute(
            f"SELECT count(*), count(DISTINCT ({keys})) FROM ({workbook.FLIGHTS.text})"
        ).fetchone()
    assert counted == (336_776, 336_776)
    assert source.tally(files).flights == 336_776


def test_the_changes_touch_what_they_are_said_to(tmp_path: Path) -> None:
    source.reset(tmp_path)
    before = {name: (tmp_path / name).read_text().splitlines() for name in source.FILES}
    assert len(source.change(tmp_path)) == 4
    changed = {
        name: set((tmp_path / name).read_text().splitlines()) - set(lines) for name, lines in before.items()
    }
    assert {name: len(lines) for name, lines in changed.items()} == {
        "airlines.csv": 1,
        "airports.csv": 1,
        "planes.csv": 4,
        "flights.csv": 0,
    }


def test_the_files_can_be_reset(tmp_path: Path) -> None:
    source.reset(tmp_path)
    published = {name: (tmp_path / name).read_bytes() for name in source.FILES}
    source.change(tmp_path)
    source.reset(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in source.FILES} == published
