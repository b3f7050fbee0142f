"""The `portolan` command: starts the suite, and does from a terminal what the services offer."""

import sys
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from cli import auth, connection, job, mapping, run, up
from cli.client import OWN_FAULT
from cli.demo import demo
from cli.session import command
from cli.show import notes, out

EPILOG = (
    "Exit codes: 0 done; 1 refused by the server; 2 used wrongly; 3 not signed in; 4 the server cannot be "
    "reached; 5 the run failed or was stopped; 70 a fault of Portolan's own; 130 interrupted."
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Maps data sources to a warehouse, loads it, and proves what it did.",
    epilog=EPILOG,
)
app.command("up")(up.up)
app.command("demo")(demo)
app.add_typer(auth.app, name="admin")
command(app, "login")(auth.login)
command(app, "logout")(auth.logout)
command(app, "whoami")(auth.whoami)
app.add_typer(connection.app, name="connection")
app.add_typer(mapping.app, name="mapping")
app.add_typer(job.app, name="job")
app.add_typer(run.app, name="run")


def _version(asked: bool) -> None:  # noqa: FBT001 - the framework calls it so
    if asked:
        out.print(f"portolan {metadata.version('portolan')}")
        raise typer.Exit


@app.callback()
def portolan(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """What stands before a command."""


def main() -> None:
    """Runs the command; a fault of its own ends in a sentence and a file with the details."""
    try:
        app()
    except Exception as error:  # noqa: BLE001  # the last resort: no traceback reaches a user
        report = Path(typer.get_app_dir("portolan")) / "fault.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(traceback.format_exc())
        notes.print(f"✗ A fault of Portolan's own: {type(error).__name__}. The details are in {report}.")
        sys.exit(OWN_FAULT)
