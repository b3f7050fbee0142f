"""Tokens that look right and are not: the attacks that are known on JSON Web Tokens, as one table.

Whoever checks tokens is held against it: the services by their chain, the gateway by its own filter.
"""

import base64
import datetime as dt
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


class Forger:
    """Knows all that is public and a good token; for some forgeries also the signing key."""

    def __init__(self, token: str, published: dict[str, str], key: ec.EllipticCurvePrivateKey) -> None:
        self.header = jwt.get_unverified_header(token)
        self.claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        self.token = token
        self.published = published
        self.own_key = ec.generate_private_key(ec.SECP256R1())
        self.key = key

    def signed(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token with the true signature but other header fields or claims; None leaves a claim out."""
        kept = {name: value for name, value in (self.claims | claims).items() if value is not None}
        return self.raw(self.header | (header or {}), json.dumps(kept).encode())

    def raw(
        self, header: dict[str, Any], payload: bytes, key: ec.EllipticCurvePrivateKey | None = None
    ) -> str:
        """A token of exactly these parts."""
        signing_input = f"{_encoded(json.dumps(header).encode())}.{_encoded(payload)}"
        algorithm: Any = jwt.get_algorithm_by_name("ES256")
        signature = algorithm.sign(signing_input.encode(), key or self.key)
        return f"{signing_input}.{_encoded(signature)}"

    def by(self, key: Any, algorithm: str, **header: Any) -> str:
        """A token signed with another key."""
        return jwt.encode(self.claims, key, algorithm, headers=self.header | {"alg": algorithm} | header)

    @property
    def public_pem(self) -> bytes:
        """The published key as PEM, which old libraries took for an HMAC secret."""
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def hmac(self, secret: bytes) -> str:
        """A token "signed" by HS256."""
        header = json.dumps(self.header | {"alg": "HS256"}).encode()
        signing_input = f"{_encoded(header)}.{_encoded(json.dumps(self.claims).encode())}"
        return f"{signing_input}.{_encoded(hmac.digest(secret, signing_input.encode(), 'sha256'))}"

    def tampered(self, part: int) -> str:
        """The good token with one character changed."""
        parts = self.token.split(".")
        middle = len(parts[part]) // 2
        other = "A" if parts[part][middle] != "A" else "B"
        parts[part] = parts[part][:middle] + other + parts[part][middle + 1 :]
        return ".".join(parts)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _none(forger: Forger, algorithm: str) -> str:
    header = _encoded(json.dumps(forger.header | {"alg": algorithm}).encode())
    return f"{header}.{_encoded(json.dumps(forger.claims).encode())}."


def _with_key(forger: Forger) -> dict[str, Any]:
    algorithm: Any = jwt.get_algorithm_by_name("ES256")
    return {"jwk": algorithm.to_jwk(forger.own_key.public_key(), as_dict=True)}


def _now(**delta: float) -> int:
    return int((dt.datetime.now(dt.UTC) + dt.timedelta(**delta)).timestamp())


FORGERIES: dict[str, Callable[[Forger], str]] = {
    "alg none": lambda f: _none(f, "none"),
    "alg None": lambda f: _none(f, "None"),
    "alg NONE with its old signature": lambda f: _none(f, "NONE") + f.token.rpartition(".")[2],
    "no signature": lambda f: f.token.rpartition(".")[0] + ".",
    "HS256 with the public key as PEM": lambda f: f.hmac(f.public_pem),
    "HS256 with the public key as JWK": lambda f: f.hmac(json.dumps(f.published).encode()),
    "HS256 with an empty secret": lambda f: f.hmac(b""),
    "another key under the same kid": lambda f: f.by(f.own_key, "ES256"),
    "a larger curve under the same kid": lambda f: f.by(ec.generate_private_key(ec.SECP384R1()), "ES384"),
    "EdDSA under the same kid": lambda f: f.by(ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    "RS256 under the same kid": lambda f: f.by(rsa.generate_private_key(65537, 2048), "RS256"),
    "another kid": lambda f: f.by(f.own_key, "ES256", kid="another"),
    "a path as kid": lambda f: f.by(f.own_key, "ES256", kid="../../../../dev/null"),
    "SQL as kid": lambda f: f.by(f.own_key, "ES256", kid="x' UNION SELECT 'key"),
    "no kid": lambda f: f.raw({"alg": "ES256", "typ": "at+jwt"}, json.dumps(f.claims).encode()),
    "a number as kid": lambda f: f.signed({"kid": 7}),
    "the kid of a service": lambda f: f.by(f.own_key, "ES256", kid="jobs"),
    "its own key in jwk": lambda f: f.raw(f.header | _with_key(f), json.dumps(f.claims).encode(), f.own_key),
    "its own key by jku": lambda f: f.by(f.own_key, "ES256", jku="https://evil.example/keys"),
    "its own key by x5u": lambda f: f.by(f.own_key, "ES256", x5u="https://evil.example/cert"),
    "an unknown critical header": lambda f: f.signed({"crit": ["exotic"], "exotic": 1}),
    "typ JWT": lambda f: f.signed({"typ": "JWT"}),
    "typ refresh+jwt": lambda f: f.signed({"typ": "refresh+jwt"}),
    "typ of a service's token": lambda f: f.signed({"typ": "svc+jwt"}),
    "no typ": lambda f: f.raw(
        {k: v for k, v in f.header.items() if k != "typ"}, json.dumps(f.claims).encode()
    ),
    "a changed header": lambda f: f.tampered(0),
    "changed claims": lambda f: f.tampered(1),
    "a changed signature": lambda f: f.tampered(2),
    "another issuer": lambda f: f.signed(iss="https://evil.example"),
    "no issuer": lambda f: f.signed(iss=None),
    "another audience": lambda f: f.signed(aud=["portolan-services"]),
    "no audience": lambda f: f.signed(aud=None),
    "no subject": lambda f: f.signed(sub=None),
    "a number as subject": lambda f: f.signed(sub=1),
    "no session": lambda f: f.signed(sid=None),
    "no organization": lambda f: f.signed(org=None),
    "no issue time": lambda f: f.signed(iat=None),
    "no expiry": lambda f: f.signed(exp=None),
    "expired": lambda f: f.signed(iat=_now(minutes=-10), exp=_now(minutes=-1)),
    "issued in the future": lambda f: f.signed(iat=_now(minutes=10), exp=_now(minutes=15)),
    "not yet valid": lambda f: f.signed(nbf=_now(minutes=10)),
    "a word as expiry": lambda f: f.signed(exp="never"),
    "an endless expiry": lambda f: f.raw(
        f.header, json.dumps(f.claims).replace(str(f.claims["exp"]), "1e400").encode()
    ),
    "a list as expiry": lambda f: f.signed(exp=[f.claims["exp"]]),
    "duplicate claims, the last one expired": lambda f: f.raw(
        f.header, json.dumps(f.claims)[:-1].encode() + b', "exp": 1}'
    ),
    "claims that are no object": lambda f: f.raw(f.header, b"[]"),
    "claims that are no JSON": lambda f: f.raw(f.header, b"{"),
    "claims that are no UTF-8": lambda f: f.raw(f.header, b'{"sub": "\xff"}'),
    "not a token": lambda _: "not-a-token",
    "three dots": lambda _: "...",
    "a nested token": lambda f: f.raw(f.header | {"cty": "JWT"}, f.token.encode()),
}
