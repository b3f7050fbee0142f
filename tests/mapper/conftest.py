"""A warehouse of each kind that can be loaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.databases.endpoints import DatabaseKind
from tests.mapper.warehouse import Warehouse


@pytest.fixture(params=[DatabaseKind.SQLITE, DatabaseKind.POSTGRESQL])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Warehouse]:
    """A session of an empty database."""
    if request.param == DatabaseKind.SQLITE:
        opened = Warehouse(request.param, tmp_path / "warehouse.db")
    else:
        opened = Warehouse(request.param, request.getfixturevalue("postgres_url"))
    yield opened
    opened.close()
