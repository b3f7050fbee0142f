"""`portolan up`: the whole suite on this machine."""

import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from cli import show
from cli.auth import ENROLMENT_FILE
from cli.client import DEFAULT_SERVER
from cli.session import Json, failures
from cli.suite import Suite

Data = Annotated[
    Path, typer.Option("--data", envvar="PORTOLAN_DATA_DIR", help="The folder of everything that is kept.")
]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="PORTOLAN_DATABASE_URL",
        metavar="postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
        help="A PostgreSQL database for the services' own data, a schema each; SQLite files by default.",
    ),
]
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="The gateway's port.")]
BasePort = Annotated[
    int, typer.Option("--base-port", min=1, max=65000, help="The first of the services' ports.")
]


def up(
    *,
    data: Data = Path("data"),
    database: Database = None,
    port: Port = 8080,
    base_port: BasePort = 50051,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that run jobs.")] = 1,
    as_json: Json = False,
) -> None:
    """Starts all services, the workers and the gateway, and keeps them running until Ctrl-C."""
    if database and not database.startswith("postgresql"):
        raise typer.BadParameter("It must begin with postgresql://", param_hint="--database")
    suite = Suite(data, database, port, base_port, workers)
    interrupt_on_signals()
    with failures(suite.url, json=as_json), suppress(KeyboardInterrupt), suite.claimed():
        if not as_json:
            announce(suite)
        with suite.running(report) as (supervisor, seconds):
            if as_json:
                ready = {"url": suite.url, "seconds": round(seconds, 2), "processes": supervisor.pids()}
                typer.echo(json.dumps(ready))
            else:
                welcome(suite, seconds)
            try:
                signal.pause()
            finally:
                report("stopping")
    report("stopped")


def interrupt_on_signals() -> None:
    """Makes SIGTERM end the command as Ctrl-C does, also where a shell ignores that."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def announce(suite: Suite) -> None:
    """Says what is started, and where."""
    kept = "PostgreSQL" if suite.database else "SQLite"
    show.out.print(Text.assemble(("Portolan", "bold"), f" on the data folder {suite.data} ({kept})"))
    places = {program.name: "runs jobs" for program in suite.programs()}
    places |= suite.addresses() | {"gateway": suite.url}
    show.out.print(show.facts((f"  {name}", place) for name, place in places.items()))


def report(text: str) -> None:
    """Says what happens to the suite's programs, on standard error."""
    show.notes.print(Text.assemble(("portolan: ", "dim"), text), soft_wrap=True)


def welcome(suite: Suite, seconds: float) -> None:
    """Says that the suite is there, and how to get in while nobody can."""
    show.out.print(
        Text.assemble(
            ("Ready", "bold green"),
            f" in {show.seconds(seconds)} at {suite.url}. Logs are in {suite.logs}. Ctrl-C stops it.",
        )
    )
    code = suite.data / ENROLMENT_FILE
    if code.exists():
        show.out.print(f"There is no administrator yet. Create one with the enrolment code in {code}:")
        words = ["portolan admin bootstrap --email YOU@EXAMPLE.ORG --user YOU"]
        words += [f"--data {suite.data}"] if suite.data != Path("data") else []
        words += [f"--server {suite.url}"] if suite.url != DEFAULT_SERVER else []
        show.out.print(f"  {' '.join(words)}", style="bold", soft_wrap=True)
