"""Forged tokens, at the gateway and, where its filter is more generous, at the service behind it."""

import asyncio
import json

from tests.auth.forgeries import FORGERIES, Forger
from tests.gateway.conftest import Gateway


def test_no_forged_token_passes(gateway: Gateway) -> None:
    (published,) = json.loads(asyncio.run(gateway.issuer.jwks()))["keys"]
    forger = Forger(gateway.issuer.token(), published, gateway.issuer.key)
    with gateway.client(forger.signed()) as client:
        assert client.get("/api/v1/auth/me").status_code == 200
    for name, forge in FORGERIES.items():
        with gateway.client(forge(forger)) as client:
            answer = client.get("/api/v1/auth/me")
        assert answer.status_code == 401, name
        assert answer.json()["details"][0]["reason"] == "TOKEN_INVALID", name
