"""The auth service on each database that it runs on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.auth.settings import Settings
from tests.auth.running import Running, running, settings_in


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The settings of a service on a fresh database."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return settings_in(tmp_path, url)


@pytest.fixture
async def auth(settings: Settings) -> AsyncIterator[Running]:
    """The service before its first user."""
    async with running(settings) as service:
        yield service
