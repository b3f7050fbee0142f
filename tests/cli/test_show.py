"""What is printed fits the terminal, and loses nothing."""

import pytest
from google.protobuf.struct_pb2 import ListValue

from cli import show
from cli.connection import rows_table


def drawn(columns: list[str], *values: str | float | None) -> list[str]:
    row = ListValue()
    row.extend(values)
    with show.out.capture() as captured:
        show.out.print(rows_table(columns, [row]))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 40 columns."""
    monkeypatch.setattr("cli.show.out._width", 40)


def test_a_result_that_fits_is_a_table_with_numbers_to_the_right() -> None:
    assert drawn(["name", "flights"], "Lisboa", 7) == ["name    flights", "Lisboa        7"]


def test_a_result_that_is_too_wide_is_a_block_a_row_with_all_its_values() -> None:
    names = [f"measure_{place}" for place in range(6)]
    assert drawn(names, *range(5), None) == [
        *(f"measure_{place}  {place}" for place in range(5)),
        "measure_5  NULL",
        "",
    ]


def test_long_text_is_folded_and_not_cut() -> None:
    lines = drawn(["text"], "word " * 20)
    assert " ".join(" ".join(lines[1:]).split()) == ("word " * 20).strip()
    assert all(len(line) <= 40 for line in lines)
