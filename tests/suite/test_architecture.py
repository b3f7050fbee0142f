"""The tree keeps the house's rules."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel import settings
from kernel.contract import methods

ROOT = Path(__file__).parents[2]
PACKAGES = ("kernel", "services", "gateway", "cli", "bench", "demo", "tests", "protos")
FILES = {path: path.read_text() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}
SERVICES = sorted(path.parent for path in ROOT.glob("services/*/__main__.py"))
MAX_LINES = 400
DUMPING_GROUNDS = {"utils", "util", "helpers", "helper", "common", "core", "lib"}
SILENCED = re.compile(r"# (?:noqa|type: ignore)(.*)")
WITH_REASON = re.compile(r"(: [A-Z0-9, ]+|\[[a-z, -]+\])\s+[-#] \S.*")
ENVIRONMENT = {"environ", "environb", "getenv", "putenv"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_imports_keep_to_their_layers() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_files_are_short_enough_to_read() -> None:
    assert [_name(path) for path, text in FILES.items() if len(text.splitlines()) > MAX_LINES] == []


def test_modules_have_names_of_the_field() -> None:
    assert [
        _name(path) for path in FILES if DUMPING_GROUNDS & {path.stem, *path.relative_to(ROOT).parts[:-1]}
    ] == []


def test_modules_say_what_they_are_for() -> None:
    assert [_name(path) for path, text in FILES.items() if not ast.get_docstring(ast.parse(text))] == []


def test_a_silenced_rule_says_why() -> None:
    assert [
        f"{_name(path)}: {line.strip()}"
        for path, text in FILES.items()
        for line in text.splitlines()
        for silenced in SILENCED.findall(line)
        if not WITH_REASON.fullmatch(silenced)
    ] == []


def test_every_service_has_its_address_and_its_contract() -> None:
    names = {service.name for service in SERVICES}
    assert names == set(settings.SERVICES) == {method.domain for method in methods()}


@pytest.mark.parametrize("service", SERVICES, ids=_name)
class TestService:
    """What every service has."""

    def test_it_has_a_page(self, service: Path) -> None:
        assert (service / "README.md").read_text().startswith("# ")

    def test_it_has_its_errors_models_and_migrations(self, service: Path) -> None:
        assert (service / "errors.py").exists()
        assert (service / "models.py").exists() or (service / "models").is_dir()
        assert list((service / "migrations").glob("*.py"))

    def test_it_reads_no_environment(self, service: Path) -> None:
        assert list(_environment(service)) == []


@pytest.mark.parametrize("package", ["kernel", "gateway"])
def test_configuration_is_parsed_by_settings_alone(package: str) -> None:
    assert list(_environment(ROOT / package)) == []


def _environment(folder: Path) -> Iterator[str]:
    """Where code asks for environment variables by itself."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = (
                node.attr
                if isinstance(node, ast.Attribute)
                else node.id
                if isinstance(node, ast.Name)
                else ""
            )
            if name in ENVIRONMENT:
                yield f"{_name(path)}:{getattr(node, 'lineno', 0)}"
