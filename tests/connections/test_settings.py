"""What connections may reach by default."""

from pathlib import Path

import pytest

from kernel.databases import paths
from kernel.databases.errors import PathRefusedError
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
