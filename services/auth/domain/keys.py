"""The keys that access tokens are signed with, and the tokens themselves (RFC 9068, ES256)."""

import base64
import datetime as dt
import hashlib
import itertools
import json
from typing import Any

import jwt
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import orm

from kernel.crypto import KeyRing
from kernel.db import new_id, now
from services.auth.models import Installation, SigningKey, User, UserSession

ALGORITHM = "ES256"
ACCESS_LIFETIME = dt.timedelta(minutes=5)
COORDINATE_BYTES = 32
ANNOUNCED = dt.timedelta(hours=1)
"""How long a key is published before it signs: by then everybody who checks tokens has fetched it."""
KEPT = dt.timedelta(hours=1)
"""How long a key is published when the next one signs: by then the last of its tokens has expired."""


class Signer:
    """Signs access tokens of five minutes with the key whose turn it is."""

    def __init__(self, session: orm.Session, ring: KeyRing) -> None:
        self._ring = ring
        self.renew(session, now())

    def renew(self, session: orm.Session, moment: dt.datetime) -> None:
        """Signs with the key whose turn it is at a moment from now on."""
        key = turn(session, moment)
        sealed = self._ring.open(key.sealed_private_key, _context(key.kid))
        opened = serialization.load_der_private_key(sealed, None)
        if not isinstance(opened, ec.EllipticCurvePrivateKey):
            message = f"signing key {key.kid} is not of an elliptic curve"
            raise TypeError(message)
        self._key = key.kid, opened

    def sign(self, user: User, session: UserSession) -> str:
        """An access token of a session."""
        moment, (kid, private_key) = now(), self._key
        claims: dict[str, Any] = {
            "iss": "portolan",
            "aud": ["portolan"],
            "sub": user.id,
            "sid": session.id,
            "org": user.organization_id,
            "roles": user.roles,
            "iat": moment,
            "exp": moment + ACCESS_LIFETIME,
            "jti": new_id(),
        }
        headers = {"typ": "at+jwt", "kid": kid}
        return jwt.encode(claims, private_key, algorithm=ALGORITHM, headers=headers)


def create(session: orm.Session, ring: KeyRing, moment: dt.datetime) -> None:
    """Adds a new signing key, whose turn comes when it has been announced for long enough."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    public_jwk = _jwk(private_key.public_key())
    encoded = private_key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kid = public_jwk["kid"]
    sealed = ring.seal(encoded, _context(kid))
    session.add(SigningKey(kid=kid, sealed_private_key=sealed, public_jwk=public_jwk, create_time=moment))
    session.flush()


def rotate(session: orm.Session, ring: KeyRing, lifetime: dt.timedelta, moment: dt.datetime) -> None:
    """Announces a new key when the newest is older than `lifetime`, and forgets those that are not needed.

    Several processes may do so at once; one of them makes the key.
    """
    session.scalars(sa.select(Installation).with_for_update()).one()
    found = session.scalars(newest_first()).all()
    for successor, key in itertools.pairwise(found):
        if successor.create_time + ANNOUNCED + KEPT <= moment:
            session.delete(key)
    if found[0].create_time + lifetime <= moment:
        create(session, ring, moment)


def turn(session: orm.Session, moment: dt.datetime) -> SigningKey:
    """The key to sign with: the newest that has been announced for long enough, or the first one."""
    found = session.scalars(newest_first()).all()
    return next((key for key in found if key.create_time + ANNOUNCED <= moment), found[-1])


def newest_first() -> sa.Select[SigningKey]:
    """The signing keys, which belong to the whole installation."""
    return sa.select(SigningKey).order_by(SigningKey.create_time.desc())


def key_set(session: orm.Session) -> bytes:
    """The public keys as a JSON Web Key Set (RFC 7517)."""
    return json.dumps({"keys": [key.public_jwk for key in session.scalars(newest_first())]}).encode()


def _jwk(public_key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = public_key.public_numbers()
    required = {"crv": "P-256", "kty": "EC", "x": _encoded(numbers.x), "y": _encoded(numbers.y)}
    # RFC 7638: the digest of the required members, in the order of their names and without spaces.
    canonical = json.dumps(required, separators=(",", ":"), sort_keys=True).encode()
    kid = base64.urlsafe_b64encode(hashlib.sha256(canonical).digest()).rstrip(b"=").decode()
    return required | {"kid": kid, "alg": ALGORITHM, "use": "sig"}


def _encoded(coordinate: int) -> str:
    return base64.urlsafe_b64encode(coordinate.to_bytes(COORDINATE_BYTES, "big")).rstrip(b"=").decode()


def _context(kid: str) -> str:
    return f"auth|signing_keys|{kid}|private_key"
