"""A warehouse of each kind that can be loaded."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kernel.databases.endpoints import DatabaseKind
from tests.mapper.service import Suite, suite
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


@pytest.fixture(params=["sqlite", "postgresql"])
async def mapper(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Suite]:
    """The mapper service over an empty database of its own."""
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'mapper.db'}" if on_sqlite else request.getfixturevalue("postgres_url")
    async with suite(url, tmp_path / "keys") as running:
        yield running
