"""The servicer: message → one transaction → domain → message; passwords are hashed between transactions.

Each event of a sign-in is a log line `auth.…` with its outcome, `OK` or the reason of the refusal.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from google.protobuf import duration_pb2, empty_pb2

from kernel.auth import principal
from kernel.changes import Changes
from kernel.db import Database
from kernel.errors import RefusedError
from kernel.logs import logger
from kernel.resources import to_message
from portolan.auth.v1 import auth_pb2 as pb
from portolan.auth.v1 import auth_pb2_grpc as rpc
from services.auth.domain import enrolment, keys, logins, roles, sessions, sources
from services.auth.domain.passwords import Passwords, check_strength
from services.auth.errors import CredentialsRefusedError, RefreshTokenReusedError
from services.auth.models import UserSession

log = logger(__name__)

HEARTBEAT_SECONDS = 15
Context = grpc.ServicerContext


@dataclass
class Event:
    """What is known of a sign-in while it is under way, for its log line."""

    source: str
    user: str | None = None
    session: str | None = None

    def granted(self, grant: sessions.Grant) -> sessions.Grant:
        """The grant, noted."""
        self.user, self.session = grant.user.id, grant.session.id
        return grant


@dataclass(frozen=True)
class AuthServicer(rpc.AuthServiceServicer):
    """Signs users in and out, and tells every service which tokens to trust."""

    database: Database
    changes: Changes
    signer: keys.Signer
    passwords: Passwords
    enrolment_file: Path
    trusted_proxies: Sequence[IPv4Network | IPv6Network]

    def Bootstrap(self, request: pb.BootstrapRequest, context: Context) -> pb.TokenPair:
        """Tokens of the first administrator; the enrolment file is removed."""
        code, user_name, email = request.enrolment_code, request.user_name, request.email
        with self._recorded("auth.bootstrap", context) as event:
            with self.database.read() as session:
                enrolment.check(session, code)
            check_strength(request.password, user_name, email)
            password_hash = self.passwords.hash(request.password)
            with self.database.transaction() as session:
                grant = enrolment.redeem(
                    session, code, user_name=user_name, email=email, password_hash=password_hash
                )
            self.enrolment_file.unlink(missing_ok=True)
            return self._pair(event.granted(grant))

    def Login(self, request: pb.LoginRequest, context: Context) -> pb.TokenPair:
        """Tokens of a new session."""
        with self._recorded("auth.login", context) as event:
            with self.database.read() as session:
                attempt = logins.attempt(session, request.user, event.source)
            event.user = attempt.user_id
            proof = self.passwords.match(attempt.password_hash, request.password)
            with self.database.transaction() as session:
                grant = logins.settle(session, attempt, proof)
            if grant is None:
                raise CredentialsRefusedError("user and password do not match")
            return self._pair(event.granted(grant))

    def Refresh(self, request: pb.RefreshRequest, context: Context) -> pb.TokenPair:
        """The next tokens of a session."""
        with self._recorded("auth.refresh", context) as event:
            with self.database.transaction() as session:
                grant = event.granted(sessions.go_on(session, request.refresh_token))
            if grant.refresh_token is None:
                raise RefreshTokenReusedError("the refresh token was used before; sign in again")
            return self._pair(grant)

    def Logout(self, request: pb.LogoutRequest, context: Context) -> empty_pb2.Empty:
        """Nothing; the session has ended."""
        caller = principal()
        with self._recorded("auth.logout", context) as event, self.database.transaction() as session:
            event.user, event.session = caller.user_id, caller.session_id
            own = sessions.sessions(caller.organization_id).where(UserSession.id == caller.session_id)
            sessions.end(session, session.scalars(own).one(), "LOGOUT")
        return empty_pb2.Empty()

    def GetMe(self, request: pb.GetMeRequest, context: Context) -> pb.Me:
        """The caller, as the database knows them now."""
        with self.database.read() as session:
            return to_message(sessions.me(session, principal()), pb.Me)

    def ListRoles(self, request: pb.ListRolesRequest, context: Context) -> pb.ListRolesResponse:
        """A page of the built-in roles."""
        found, token = roles.page(request.page_size, request.page_token)
        messages = [to_message(role, pb.Role) for role in found]
        return pb.ListRolesResponse(roles=messages, next_page_token=token)

    def GetJwks(self, request: pb.GetJwksRequest, context: Context) -> httpbody_pb2.HttpBody:
        """The public keys as JSON."""
        with self.database.read() as session:
            return httpbody_pb2.HttpBody(content_type="application/json", data=keys.key_set(session))

    async def WatchRevocations(
        self,
        request: pb.WatchRevocationsRequest,
        context: Context,
    ) -> AsyncIterator[pb.WatchRevocationsResponse]:
        """The ended sessions after a cursor, at once also when there are none, and then as they end."""
        cursor, beat_time = request.after, time.monotonic()
        while True:
            seen = self.changes.cursor
            revocations = await asyncio.to_thread(self._ended_after, cursor)
            if revocations or time.monotonic() >= beat_time:
                yield pb.WatchRevocationsResponse(revocations=revocations)
                cursor = revocations[-1].cursor if revocations else cursor
                beat_time = time.monotonic() + HEARTBEAT_SECONDS
            await self.changes.wait(seen, beat_time - time.monotonic())

    def _ended_after(self, cursor: int) -> list[pb.Revocation]:
        with self.database.read() as session:
            return [to_message(row, pb.Revocation) for row in sessions.ended_after(session, cursor)]

    def _pair(self, grant: sessions.Grant) -> pb.TokenPair:
        return pb.TokenPair(
            access_token=self.signer.sign(grant.user, grant.session),
            expires_in=duration_pb2.Duration(seconds=int(keys.ACCESS_LIFETIME.total_seconds())),
            refresh_token=grant.refresh_token or "",
        )

    @contextmanager
    def _recorded(self, name: str, context: Context) -> Iterator[Event]:
        """Writes the event's log line when the block ends."""
        forwarded = [value for key, value in context.invocation_metadata() or () if key == "x-forwarded-for"]
        source = sources.source(context.peer(), str(forwarded[-1] if forwarded else ""), self.trusted_proxies)
        event, outcome = Event(source), "FAULT"
        try:
            yield event
            outcome = "OK"
        except RefusedError as error:
            outcome = error.reason
            raise
        finally:
            log.info(name, outcome=outcome, **asdict(event))
