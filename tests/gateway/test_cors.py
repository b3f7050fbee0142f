"""Front ends of other origins may call when the settings name them."""

import httpx

from tests.gateway.conftest import ORIGIN

PREFLIGHT = {
    "access-control-request-method": "PATCH",
    "access-control-request-headers": "authorization, content-type",
}


def test_a_named_origin_may_ask_before_it_calls(anonymous: httpx.Client) -> None:
    answer = anonymous.options("/api/v1/mappings/A", headers={"origin": ORIGIN, **PREFLIGHT})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    assert "last-event-id" in answer.headers["access-control-allow-headers"]


def test_answers_and_refusals_can_be_read_by_a_named_origin(
    client: httpx.Client, anonymous: httpx.Client
) -> None:
    for each, path in ((client, "/api/v1/runs/1"), (client, "/api/v1/nope"), (anonymous, "/api/v1/runs/1")):
        answer = each.get(path, headers={"origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_another_origin_may_not(client: httpx.Client) -> None:
    headers = {"origin": "https://evil.example"}
    assert client.options("/api/v1/mappings/A", headers={**headers, **PREFLIGHT}).status_code == 405
    assert "access-control-allow-origin" not in client.get("/api/v1/runs/1", headers=headers).headers
