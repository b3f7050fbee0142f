"""What the documents name exists, and what exists is named."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest

from kernel.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "gen", "data", "build"} & set(path.relative_to(ROOT).parts)
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
DECISIONS = sorted(path for path in (ROOT / "docs" / "adr").glob("*.md") if path.name != "README.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^\s*(?:\$ )?make ([a-z]+)|`make ([a-z]+)", re.MULTILINE)
GROUPS = {"run time": None, "development and tests": "dev", "benchmarks": "bench"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_name)
class TestPage:
    """What holds for every document."""

    def test_it_links_to_what_exists(self, page: Path) -> None:
        links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
        assert [link for link in links if not _target(page, link)] == []

    def test_it_names_targets_that_make_knows(self, page: Path) -> None:
        known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = {first or second for first, second in COMMAND.findall(page.read_text())}
        assert named <= known


def test_every_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert re.findall(r"^([a-z]+):.* ## \S", makefile, re.MULTILINE) == targets.split()


@pytest.mark.parametrize("group", GROUPS)
def test_each_dependency_has_its_line(group: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    name = GROUPS[group]
    required = project["dependency-groups"][name] if name else project["project"]["dependencies"]
    page = (ROOT / "docs" / "dependencies.md").read_text()
    (section,) = re.findall(rf"^## (?:At|For) {group}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| (?!package)([a-z0-9, -]+) \| \S.* \| \S.* \|$", section, re.MULTILINE)
    named = [package for row in rows for package in row.split(", ")]
    assert sorted(named) == sorted(re.split(r"[\[<>=~]", package)[0] for package in required)


def test_every_setting_has_its_line_and_the_reverse() -> None:
    modules = [f"services.{path.parent.name}.settings" for path in ROOT.glob("services/*/settings.py")]
    for module in ("gateway.settings", *modules):
        importlib.import_module(module)
    kinds: list[type[Settings]] = [Settings, *Settings.__subclasses__()]
    declared = {field for kind in kinds for field in kind.model_fields}
    page = (ROOT / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| (`PORTOLAN_.*?) \| [a-z ]+ \| \S.* \|$", page, re.MULTILINE)
    named = {name.lower() for row in rows for name in re.findall(r"`PORTOLAN_(\w+)`", row)}
    assert named == declared


@pytest.mark.parametrize("decision", DECISIONS, ids=_name)
def test_a_decision_has_its_number_and_title(decision: Path) -> None:
    number, _, rest = decision.stem.partition("-")
    assert re.fullmatch(r"\d{4}", number)
    assert rest
    assert re.match(rf"# {number} \S.+\n", decision.read_text())


def test_decisions_are_numbered_and_listed() -> None:
    assert [int(path.name[:4]) for path in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    listed = LINK.findall((ROOT / "docs" / "adr" / "README.md").read_text())
    assert listed == [path.name for path in DECISIONS]


def _target(page: Path, link: str) -> bool:
    """Whether a relative link leads to a file, and its fragment to a heading there."""
    name, _, fragment = link.partition("#")
    path = page.parent / name if name else page
    if not path.exists():
        return False
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE) if fragment else []
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    return not fragment or fragment in anchors
