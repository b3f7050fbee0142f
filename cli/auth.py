"""Signing in and out."""

import sys
from pathlib import Path
from typing import Annotated

import grpc
import typer
from google.protobuf.empty_pb2 import Empty

from cli import show
from cli.client import USAGE, CommandError, as_call
from cli.session import Session, command
from portolan.auth.v1.auth_pb2 import BootstrapRequest, GetMeRequest, LoginRequest, LogoutRequest

ENROLMENT_FILE = "enrolment-code"

app = typer.Typer(no_args_is_help=True, help="Set an installation up.")

PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@command(app, "bootstrap")
def bootstrap(
    session: Session,
    *,
    email: Annotated[str, typer.Option(help="The administrator's e-mail address.", prompt="E-mail")],
    user: Annotated[str, typer.Option(help="The name to sign in with.", prompt="User name")],
    data: Annotated[
        Path, typer.Option(envvar="PORTOLAN_DATA_DIR", help="The data folder that holds the enrolment code.")
    ] = Path("data"),
    code: Annotated[str | None, typer.Option(help="The enrolment code itself, instead of its file.")] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Creates the first administrator, by the code in the data folder, and signs in."""
    request = BootstrapRequest(
        enrolment_code=code or enrolment_code(data),
        email=email,
        user_name=user,
        password=_password(from_stdin=password_stdin, confirm=True),
    )
    session.client.tokens.keep(session.client.public.Bootstrap(request))
    _show_me(session)


def login(
    session: Session,
    user: Annotated[str, typer.Argument(help="A user name or an e-mail address.")],
    *,
    password_stdin: PasswordStdin = False,
) -> None:
    """Signs in, for all later commands against this server."""
    password = _password(from_stdin=password_stdin, confirm=False)
    session.client.tokens.keep(session.client.public.Login(LoginRequest(user=user, password=password)))
    _show_me(session)


def logout(session: Session) -> None:
    """Signs out: ends the session on the server and forgets its tokens."""
    try:
        session.client.auth.Logout(LogoutRequest())
    except grpc.RpcError as error:
        if as_call(error).code() is not grpc.StatusCode.UNAUTHENTICATED:
            raise  # a session that has ended already needs no end
    finally:
        session.client.tokens.forget()
    session.show(Empty(), f"Signed out of {session.client.server}.")


def whoami(session: Session) -> None:
    """Tells who is signed in, and what they may do."""
    _show_me(session)


def enrolment_code(data: Path) -> str:
    """The enrolment code that the first start left in the data folder."""
    path = data / ENROLMENT_FILE
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise CommandError(
            f"There is no enrolment code at {path}. The first `portolan up` writes it, and the first "
            "administrator uses it up. Give the data folder with --data, or the code with --code.",
            USAGE,
        ) from None


def _password(*, from_stdin: bool, confirm: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise CommandError("There is no terminal to ask for the password at: give --password-stdin.", USAGE)
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=confirm)
    return password


def _show_me(session: Session) -> None:
    me = session.client.auth.GetMe(GetMeRequest())
    session.show(
        me,
        show.facts(
            [
                ("Signed in as", f"{me.user_name} <{me.email}>"),
                ("Server", session.client.server),
                ("Organization", me.organization_name),
                ("Roles", ", ".join(me.roles)),
                ("May", ", ".join(me.permissions)),
            ]
        ),
    )
