"""What the service writes and answers: its events, and never a secret."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from kernel import logs
from portolan.auth.v1 import auth_pb2 as pb
from services.auth.models import Model
from tests.auth.running import Running
from tests.servers import bearer, refusal

CANARY = "canary a1b2c3d4e5 sings"
WRONG = "wrong canary f6g7h8i9j0"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, at its most talkative."""
    root = logging.getLogger()
    handlers, level, text = root.handlers, root.level, io.StringIO()
    logs.configure("auth", "debug")
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text)
    yield text
    root.handlers, root.level = handlers, level


async def test_events_are_logged_and_secrets_are_not(auth: Running, log: io.StringIO) -> None:
    code = auth.code.strip()
    pair = await auth.bootstrap(password=CANARY)
    await refusal(auth.bootstrap(code=code))
    again = await auth.login(password=CANARY)
    await refusal(auth.login(password=WRONG))
    await refusal(auth.login(user=WRONG, password=WRONG))
    await refusal(auth.refresh(WRONG))
    first = await auth.refresh(again.refresh_token)
    second = await auth.refresh(first.refresh_token)
    await refusal(auth.refresh(again.refresh_token))
    await refusal(auth.me(pair.access_token[:-4]))
    await auth.stub.Logout(pb.LogoutRequest(), metadata=bearer(pair.access_token))
    text = log.getvalue()
    pairs = (pair, again, first, second)
    tokens = [token for pair in pairs for token in (pair.access_token, pair.refresh_token)]
    for secret in (CANARY, WRONG, code, *tokens, *(token.rpartition(".")[2] for token in tokens)):
        assert secret not in text
    lines = [json.loads(line) for line in text.splitlines() if line.startswith('{"') and '"auth.' in line]
    assert [(line["event"], line["outcome"]) for line in lines] == [
        ("auth.bootstrap", "OK"),
        ("auth.bootstrap", "ENROLMENT_CLOSED"),
        ("auth.login", "OK"),
        ("auth.login", "CREDENTIALS_REFUSED"),
        ("auth.login", "CREDENTIALS_REFUSED"),
        ("auth.refresh", "REFRESH_TOKEN_REFUSED"),
        ("auth.refresh", "OK"),
        ("auth.refresh", "OK"),
        ("auth.refresh", "REFRESH_TOKEN_REUSED"),
        ("auth.logout", "OK"),
    ]
    assert all(line["source"] == "127.0.0.1" and line["request_id"] for line in lines)
    assert [bool(line["session"]) for line in lines] == [
        outcome in {"OK", "REFRESH_TOKEN_REUSED"} for outcome in (line["outcome"] for line in lines)
    ]


async def test_secrets_are_not_kept_in_the_database(auth: Running) -> None:
    code = auth.code.strip()
    first = await auth.bootstrap(password=CANARY)
    second = await auth.refresh(first.refresh_token)
    await refusal(auth.login(password=WRONG))
    with auth.database.read() as session:
        rows = [row for table in Model.metadata.sorted_tables for row in session.execute(table.select())]
    kept = b" ".join(
        value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row
    )
    assert b"ada@example.org" in kept
    for secret in (CANARY, WRONG, code, first.refresh_token, second.refresh_token, second.access_token):
        assert secret.encode() not in kept
