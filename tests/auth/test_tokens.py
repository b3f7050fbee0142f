"""What the service's access tokens are, and that nothing else is taken for one."""

import base64
import hashlib
import json
import time

import jwt
import pytest

from kernel.crypto import KeyRing
from kernel.db import now
from portolan.auth.v1 import auth_pb2 as pb
from services.auth.domain import keys
from services.auth.models import SigningKey
from tests.auth.forgeries import FORGERIES, Forger
from tests.auth.running import Running
from tests.servers import bearer, refusal


async def test_an_access_token_says_who_where_and_for_how_long(auth: Running) -> None:
    pair = await auth.bootstrap()
    me = await auth.me(pair.access_token)
    header = jwt.get_unverified_header(pair.access_token)
    claims = jwt.decode(pair.access_token, options={"verify_signature": False})
    (key,) = await _published(auth)
    assert header == {"alg": "ES256", "typ": "at+jwt", "kid": key["kid"]}
    assert claims.pop("exp") - claims["iat"] == 300
    assert abs(claims.pop("iat") - time.time()) < 5
    assert len(claims.pop("jti")) == 36
    assert claims == {
        "iss": "portolan",
        "aud": ["portolan"],
        "sub": me.user_id,
        "sid": me.session_id,
        "org": me.organization_id,
        "roles": ["admin"],
    }


async def test_the_published_keys_are_public_ones_named_by_their_thumbprint(auth: Running) -> None:
    body = await auth.stub.GetJwks(pb.GetJwksRequest())
    assert body.content_type == "application/json"
    (key,) = json.loads(body.data)["keys"]
    assert key.keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    canonical = f'{{"crv":"P-256","kty":"EC","x":"{key["x"]}","y":"{key["y"]}"}}'
    digest = base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest())
    assert key["kid"] == digest.rstrip(b"=").decode()
    assert all(len(base64.urlsafe_b64decode(key[part] + "=")) == 32 for part in "xy")


async def test_the_private_key_is_sealed_for_its_row(auth: Running) -> None:
    ring = KeyRing.load(auth.settings.keys)
    with auth.database.read() as session:
        key = session.scalars(keys.newest_first()).one()
        assert b"BEGIN" not in key.sealed_private_key
        opened = ring.open(key.sealed_private_key, f"auth|signing_keys|{key.kid}|private_key")
        assert opened not in key.sealed_private_key
        other = SigningKey(kid="other", sealed_private_key=key.sealed_private_key)
    with pytest.raises(Exception, match="sealed for another place"):
        ring.open(other.sealed_private_key, f"auth|signing_keys|{other.kid}|private_key")


async def test_tokens_of_an_older_key_stay_good_until_they_expire(auth: Running) -> None:
    pair = await auth.bootstrap()
    with auth.database.transaction() as session:
        keys.create(session, KeyRing.load(auth.settings.keys), now())
    published = await _published(auth)
    assert len({key["kid"] for key in published}) == 2
    assert published[1]["kid"] == jwt.get_unverified_header(pair.access_token)["kid"]
    await auth.me(pair.access_token)


@pytest.fixture
async def forger(auth: Running) -> Forger:
    """A forger who has seen the administrator's token."""
    pair = await auth.bootstrap()
    (key,) = await _published(auth)
    with auth.database.read() as session:
        _, private_key = keys.Signer(session, KeyRing.load(auth.settings.keys))._key
    return Forger(pair.access_token, key, private_key)


async def test_no_forged_token_is_taken(auth: Running, forger: Forger) -> None:
    await auth.me(forger.token)
    await auth.me(forger.signed())
    for name, forge in FORGERIES.items():
        refused = await refusal(auth.me(forge(forger)))
        assert refused.reason == "TOKEN_INVALID", name
    await auth.me(forger.token)


async def test_a_call_without_a_token_is_refused(auth: Running) -> None:
    request = pb.GetMeRequest()
    assert (await refusal(auth.stub.GetMe(request))).reason == "TOKEN_MISSING"
    for metadata in (bearer(""), (("authorization", "Basic YWRhOmFkYQ=="),), (("authorization", "Bearer"),)):
        assert (await refusal(auth.stub.GetMe(request, metadata=metadata))).reason.startswith("TOKEN_")


async def test_a_services_token_is_no_users(auth: Running) -> None:
    assert (await refusal(auth.me(auth.identity.token()))).reason == "PERMISSION_MISSING"


async def test_a_refresh_token_is_no_access_token(auth: Running) -> None:
    pair = await auth.bootstrap()
    assert (await refusal(auth.me(pair.refresh_token))).reason == "TOKEN_INVALID"


async def _published(auth: Running) -> list[dict[str, str]]:
    body = await auth.stub.GetJwks(pb.GetJwksRequest())
    found: list[dict[str, str]] = json.loads(body.data)["keys"]
    return found
