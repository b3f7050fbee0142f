"""What connections may reach by default."""

from pathlib import Path

import pytest

from kernel.databases import paths
from kernel.databases.endpoints import DatabaseKind
from kernel.databases.errors import PathRefusedError
from kernel.databases.hosts import HostPolicy
from services.connections.domain.access import Policy, endpoint
from services.connections.models import Connection
from services.connections.settings import Settings

ROOT = Path(__file__).parents[2]


def test_no_connection_reaches_the_installations_own_files(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    services = [folder.name for folder in (ROOT / "services").iterdir() if (folder / "__main__.py").exists()]
    databases = [settings.database(service).removeprefix("sqlite:///") for service in services]
    for path in (*databases, f"{databases[0]}-wal", str(settings.keys), "logs", "gateway", "enrolment-code"):
        with pytest.raises(PathRefusedError):
            paths.resolve(path, settings.folders, settings.own)
    assert (
        paths.resolve("warehouse.db", settings.folders, settings.own) == (tmp_path / "warehouse.db").resolve()
    )


def test_a_server_is_checked_against_the_authorities_of_the_installation() -> None:
    settings = {"host": "127.0.0.1", "port": 5432, "database": "d", "user": "u", "ssl_mode": "VERIFY_FULL"}
    row = Connection(name="registry", kind=DatabaseKind.POSTGRESQL, settings=settings)
    policy = Policy(HostPolicy(allow_loopback=True), (), authorities="own.pem")
    assert endpoint(row, "", policy).authorities == "own.pem"
