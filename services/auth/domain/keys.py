"""The keys that access tokens are signed with, and the tokens themselves (RFC 9068, ES256)."""

import base64
import datetime as dt
import hashlib
import json
from typing import Any

import jwt
import sqlalchemy as sa
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import orm

from kernel.crypto import KeyRing
from kernel.db import new_id, now
from services.auth.models import SigningKey, User, UserSession

ALGORITHM = "ES256"
ACCESS_LIFETIME = dt.timedelta(minutes=5)
COORDINATE_BYTES = 32


class Signer:
    """Signs access tokens of five minutes with one private key."""

    def __init__(self, kid: str, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._kid = kid
        self._private_key = private_key

    def sign(self, user: User, session: UserSession) -> str:
        """An access token of a session."""
        moment = now()
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
        headers = {"typ": "at+jwt", "kid": self._kid}
        return jwt.encode(claims, self._private_key, algorithm=ALGORITHM, headers=headers)


def create(session: orm.Session, ring: KeyRing) -> None:
    """Adds a new signing key, which is the one to sign with from now on."""
    private_key = ec.generate_private_key(ec.SECP256R1())
    public_jwk = _jwk(private_key.public_key())
    encoded = private_key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    kid = public_jwk["kid"]
    session.add(
        SigningKey(kid=kid, sealed_private_key=ring.seal(encoded, _context(kid)), public_jwk=public_jwk)
    )
    session.flush()


def signer(session: orm.Session, ring: KeyRing) -> Signer:
    """The signer of the newest key."""
    key = session.scalars(newest_first().limit(1)).one()
    opened = serialization.load_der_private_key(ring.open(key.sealed_private_key, _context(key.kid)), None)
    if not isinstance(opened, ec.EllipticCurvePrivateKey):
        message = f"signing key {key.kid} is not of an elliptic curve"
        raise TypeError(message)
    return Signer(key.kid, opened)


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
