"""What every command that talks to a server has in common: its options, its output, and how it fails."""

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Concatenate, ParamSpec

import grpc
import typer
from google.protobuf.message import Message
from rich.console import RenderableType
from rich.text import Text

from cli import show
from cli.client import DEFAULT_SERVER, Client, CommandError, explain

Server = Annotated[
    str, typer.Option("--server", envvar="PORTOLAN_SERVER", help="The address of the server's gateway.")
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the answer as one JSON document; errors too, on standard error.")
]


class Session:
    """A command's connection to the server and its output."""

    def __init__(self, client: Client, *, json: bool = False) -> None:
        self.client = client
        self.json = json

    def show(self, message: Message, *drawn: RenderableType) -> None:
        """Prints an answer: the message as JSON where asked for, otherwise what is drawn of it."""
        if self.json:
            typer.echo(show.as_json(message))
            return
        for part in drawn:
            show.out.print(part)

    def show_each(self, messages: Mapping[str, Message], *drawn: RenderableType) -> None:
        """Prints the answers of several calls: as JSON, one object that has each under its name."""
        if self.json:
            documents = {name: json.loads(show.as_json(message)) for name, message in messages.items()}
            typer.echo(json.dumps(documents, indent=2, ensure_ascii=False))
            return
        for part in drawn:
            show.out.print(part)

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Shows that something takes its time."""
        with show.notes.status(doing + " …"):
            yield


P = ParamSpec("P")


def command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[Concatenate[Session, P], None]]:
    """Registers `f(session, …)` as a command, with the options that all commands have."""

    def register(f: Callable[Concatenate[Session, P], None]) -> Callable[Concatenate[Session, P], None]:
        @functools.wraps(f)
        def run(*args: P.args, **options: P.kwargs) -> None:
            server, json = str(options.pop("server")), bool(options.pop("json"))
            with failures(server, json=json):
                client = Client(server)
                try:
                    f(Session(client, json=json), *args, **options)
                finally:
                    client.close()

        signature = inspect.signature(f)
        common = [
            inspect.Parameter(
                "server", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_SERVER, annotation=Server
            ),
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json),
        ]
        own = list(signature.parameters.values())[1:]
        run.__signature__ = signature.replace(parameters=[*own, *common])  # type: ignore[attr-defined]  # read by typer
        run.__annotations__ = {part.name: part.annotation for part in (*own, *common)}
        app.command(name)(run)
        return f

    return register


@contextmanager
def failures(server: str, *, json: bool = False) -> Iterator[None]:
    """Ends the command with a sentence and its exit code when something inside is refused."""
    try:
        yield
    except grpc.RpcError as error:
        _fail(explain(error, server), json=json)
    except CommandError as error:
        _fail(error, json=json)


def _fail(error: CommandError, *, json: bool) -> None:
    if json:
        typer.echo(_error_document(error), err=True)
    else:
        text = Text.assemble(("✗ ", "bold red"), error.message)
        if error.reason:
            text.append(f" ({error.reason})", "dim")
        show.notes.print(text)
        for field, description in error.fields.items():
            show.notes.print(Text.assemble("  ", (field or "request", "bold"), f": {description}"))
    raise typer.Exit(error.exit_code)


def _error_document(error: CommandError) -> str:
    return json.dumps(
        {"error": {"reason": error.reason, "message": error.message, "fields": error.fields}},
        ensure_ascii=False,
    )
