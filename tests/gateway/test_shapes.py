"""What requests and answers look like in JSON."""

import re

import httpx
import pytest

from gateway.api import Binding, Rpc, load


def test_names_are_snake_case_and_defaults_are_printed(client: httpx.Client) -> None:
    run = client.get("/api/v1/runs/7").json()
    assert run["mapping_version"] == 0
    assert run["state"] == "STATE_UNSPECIFIED"
    assert run["rows"]["source"] == "9007199254740993"
    assert "create_time" not in run


def test_both_spellings_of_a_name_are_read(client: httpx.Client) -> None:
    for name in ("target_schema", "targetSchema"):
        answer = client.post("/api/v1/mappings", json={"reference": "A", name: "s"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["target_schema"] == "s"


def test_a_plus_in_a_query_is_a_space_and_a_path_is_unescaped(client: httpx.Client) -> None:
    found = client.get("/api/v1/mappings?search=a+b%2Bc&page_size=1").json()
    assert found["mappings"][0]["description"] == "a b+c"
    assert client.get("/api/v1/connections/a%2Fb%20c").json()["name"] == "a/b c"


def test_empty_answers_are_empty_objects(client: httpx.Client) -> None:
    assert client.post("/api/v1/auth/logout").json() == {}
    assert client.post("/api/v1/auth/logout", json={}).json() == {}


def _bindings() -> list[tuple[Rpc, Binding]]:
    return [(rpc, binding) for rpc in load().exposed for binding in rpc.bindings]


@pytest.mark.parametrize(("rpc", "binding"), _bindings(), ids=lambda each: getattr(each, "path", None))
def test_every_path_of_the_protos_is_served_and_guarded(
    client: httpx.Client, rpc: Rpc, binding: Binding
) -> None:
    path = re.sub(r"\{\w+\}", "A", binding.template)
    body = "{}" if binding.body else None
    if not rpc.descriptor.server_streaming:
        answer = client.request(binding.verb, path, content=body)
        assert answer.status_code not in {404, 405, 415}, answer.text
    answer = client.request(binding.verb, f"{path}?nope=1", content=body)
    assert answer.status_code == 400
    assert answer.json()["message"] == "nope: the query may not give this field"
