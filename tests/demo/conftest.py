"""The demonstration, run once for all tests that need what it leaves."""

from pathlib import Path

import pytest

from tests.demo.playing import Played, demo


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The demonstration on SQLite, over a warehouse of another time."""
    data = tmp_path_factory.mktemp("demonstration")
    (data / "warehouse.db").write_text("no database")
    return Played(data, demo(data))


@pytest.fixture
def demonstrated(played: Played) -> Path:
    """The data folder that the demonstration leaves."""
    return played.data
