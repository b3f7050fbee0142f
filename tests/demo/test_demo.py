"""The demonstration itself, from the command line to the rows of the warehouse."""

import csv
import hashlib
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.running import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]

FLIGHTS = 336_776
COLUMNS = (
    "flight_date, carrier_code, flight_number, origin_code, dest_code, tail_number, distance_mi, "
    "dep_delay_min, arr_delay_min, air_time_min"
)


def demo(data: Path, *arguments: str) -> str:
    """Runs the demonstration to its end, sees that nothing of it is left, and gives what it printed."""
    port, base_port = free_ports()
    command = ["demo", "--data", data, "--port", port, "--base-port", base_port, *arguments]
    ended = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", *map(str, command)],
        env={**os.environ, "XDG_CONFIG_HOME": str(data / "home"), "COLUMNS": "80"},  # noqa: TID251 - handed on
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    commands = ("  portolan ", "  curl ")  # are printed whole, to be copied
    assert all(len(line) <= 80 for line in ended.stdout.splitlines() if not line.startswith(commands))
    left = [
        process for process in psutil.process_iter(["cmdline"]) if str(base_port) in _environment(process)
    ]
    assert not left
    return ended.stdout


def test_the_demonstration_loads_sqlite_and_can_be_repeated(demonstrated: Path) -> None:
    told = demo(demonstrated)
    with closing(sqlite3.connect(demonstrated / "warehouse.db")) as warehouse:
        _check(warehouse.execute(f"SELECT {COLUMNS} FROM fct_flight"), demonstrated)
        _check_history(lambda query: warehouse.execute(query).fetchall(), "")
    for words in ("FCT_FLIGHT equals flights.csv", "NULL_KEY", "NOT_CONVERTIBLE", "What to try next"):
        assert words in told
    assert stat.S_IMODE((demonstrated / "demo-password").stat().st_mode) == 0o600


def test_the_demonstration_loads_postgresql(tmp_path: Path, postgres_url: str) -> None:
    demo(tmp_path, "--postgres", postgres_url)
    with psycopg.connect(postgres_url) as warehouse:
        _check(warehouse.execute(f"SELECT {COLUMNS} FROM portolan_demo.fct_flight"), tmp_path)
        _check_history(lambda query: warehouse.execute(query).fetchall(), "portolan_demo.")


def _check(loaded: Iterable[tuple[object, ...]], data: Path) -> None:
    """Holds every value of the fact table against the file."""
    rows = ["|".join("NA" if value is None else str(value) for value in row) for row in loaded]
    assert len(rows) == FLIGHTS
    assert _digest(rows) == _digest(_published(data / "flights" / "flights.csv"))


def _published(path: Path) -> Iterable[str]:
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            day = f"{int(row['year']):04}-{int(row['month']):02}-{int(row['day']):02}"
            names = (
                "carrier",
                "flight",
                "origin",
                "dest",
                "tailnum",
                "distance",
                "dep_delay",
                "arr_delay",
                "air_time",
            )
            yield "|".join([day, *(row[name] for name in names)])


def _digest(rows: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(rows)).encode()).hexdigest()


def _check_history(ask: object, schema: str) -> None:
    assert callable(ask)
    carriers = ask(
        f"SELECT current_flag, carrier_name FROM {schema}dim_carrier WHERE carrier_code = 'FL' ORDER BY skey"
    )
    assert carriers == [("N", "AirTran Airways Corporation"), ("Y", "AirTran Airways (Southwest)")]
    engines = ask(
        f"SELECT current_flag, engine FROM {schema}dim_plane WHERE tail_number = 'N103US' ORDER BY skey"
    )
    assert engines == [("N", "Turbo-fan"), ("Y", "Turbo-prop")]
    assert ask(f"SELECT seats FROM {schema}dim_plane WHERE tail_number = 'N102UW'") == [(199,)]
    assert ask(f"SELECT count(*) FROM {schema}dim_plane") == [(3_323,)]
    # The facts keep the version that was current at their date; those without an airport have found it.
    [(unknown,)] = ask(f"SELECT count(*) FROM {schema}fct_flight WHERE dest_skey = 0 AND dest_code = 'SJU'")
    assert unknown == 0
    [(moved,)] = ask(
        f"SELECT count(*) FROM {schema}fct_flight f JOIN {schema}dim_carrier c ON c.skey = f.carrier_skey "
        "WHERE c.carrier_code = 'FL' AND c.current_flag = 'Y'"
    )
    assert moved == 0


def _environment(process: psutil.Process) -> str:
    try:
        return process.environ().get("PORTOLAN_AUTH_ADDRESS", "")
    except psutil.Error:
        return ""
