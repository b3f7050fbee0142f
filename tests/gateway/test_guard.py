"""What the transcoder would drop or mistake is refused, with the field's name."""

import json
from typing import Any

import httpx
import pytest

COLUMN = {"name": "A", "logic": 'SELECT "a", \'{"b": [1]}\' FROM t'}


def violations(answer: httpx.Response) -> dict[str, str]:
    """The fields at fault, with what is wrong."""
    assert answer.status_code == 400, answer.text
    status = answer.json()
    assert status["code"] == 3
    assert status["details"][0]["reason"] == "REQUEST_REFUSED"
    found = {each["field"]: each["description"] for each in status["details"][1]["field_violations"]}
    first = next(iter(found))
    assert status["message"].startswith(f"{first}: {found[first]}")
    return found


def malformed(answer: httpx.Response) -> str:
    """What is wrong with a body that cannot be read."""
    assert answer.status_code == 400, answer.text
    assert len(answer.json()["details"]) == 1
    return str(answer.json()["message"])


def test_every_unknown_field_is_named_at_its_place(client: httpx.Client) -> None:
    body = {
        "reference": "A",
        "nope": {"a": [1]},
        "columns": [COLUMN, {**COLUMN, "lookup": {"mapping": "B", "x": 1}}],
    }
    assert violations(client.post("/api/v1/mappings", json=body)) == {
        "mapping.nope": "the request has no such field",
        "mapping.columns[1].lookup.x": "the request has no such field",
    }


@pytest.mark.parametrize(
    ("path", "text", "field"),
    [
        ("/api/v1/mappings", '{"reference": "A", "reference": "B"}', "mapping.reference"),
        ("/api/v1/mappings", '{"target_schema": "a", "targetSchema": "b"}', "mapping.targetSchema"),
        ("/api/v1/jobs/A:run", '{"parameters": {"a": "1", "b": "2", "a": "3"}}', "parameters.a"),
    ],
)
def test_a_field_given_twice_is_refused_in_either_spelling(
    client: httpx.Client, path: str, text: str, field: str
) -> None:
    assert violations(client.post(path, content=text)) == {field: "the field is given twice"}


@pytest.mark.parametrize("key", ["run_id", "runId"])
def test_a_body_cannot_override_the_path(client: httpx.Client, key: str) -> None:
    answer = client.post("/api/v1/runs/mine:stop", json={key: "other"})
    assert violations(answer) == {key: "the path gives this field"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/runs/mine?run_id=other"),
        ("GET", "/api/v1/runs/mine?runId=other"),
        ("GET", "/api/v1/runs/mine?run%5Fid=other"),
        ("GET", "/api/v1/runs/mine/logs?after_sequence=1&run_id=other"),
        ("POST", "/api/v1/jobs/A:run?request_id=1"),
        ("POST", "/api/v1/jobs/A:run?reference=B"),
        ("PATCH", "/api/v1/connections/mine?name=other"),
        ("PATCH", "/api/v1/connections/mine?connection.name=other"),
        ("POST", "/api/v1/connections?connection.name=other"),
        ("GET", "/api/v1/runs/mine?nope=1"),
        ("GET", "/api/v1/mappings?nope"),
    ],
)
def test_a_query_cannot_give_what_path_or_body_give_nor_what_is_unknown(
    client: httpx.Client, method: str, path: str
) -> None:
    answer = client.request(method, path, content="{}" if method != "GET" else None)
    assert set(violations(answer).values()) == {"the query may not give this field"}


def test_a_single_parameter_cannot_be_given_twice_but_a_list_can(client: httpx.Client) -> None:
    answer = client.get("/api/v1/mappings?page_size=1&page_size=2")
    assert violations(answer) == {"page_size": "the parameter is given twice"}
    assert client.get("/api/v1/mappings:export?references=1&references=2").status_code == 200


def test_a_path_without_a_body_takes_none(client: httpx.Client) -> None:
    assert malformed(client.request("DELETE", "/api/v1/jobs/A", content="{}")) == "this path takes no body"


@pytest.mark.parametrize(
    "text",
    [
        "{'reference': 'A'}",
        "{reference: 1}",
        '{"reference": "A",}',
        '{"reference": "A"} {}',
        '{"reference": "A" "description": "b"}',
        '{"reference": "A"',
        '{"reference": "A',
        '{"reference": "A\n"}',
        '{"reference": "\\x41"}',
        '{"reference": nul}',
        '{"reference": NaN}',
        '{"columns": [{}, ]}',
        '{"columns": [{} {}]}',
        '{"reference" "A"}',
        "[]",
        '"A"',
        "null",
        "reference=A",
        '{"columns": ' + "[" * 70 + "]" * 70 + "}",
        "\0",
        "\ufeff{}",
    ],
)
def test_what_is_not_strict_json_is_refused(client: httpx.Client, text: str) -> None:
    assert malformed(client.post("/api/v1/mappings", content=text))


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"columns": None, "reference": None},
        {"columns": [], "batch_rows": 0},
        {"description": 'quotes " \\ / \b \f \n \r \t \u00e9 \U0001f600 }{][', "columns": [COLUMN]},
        {"columns": [{"lookup": {"mapping": "B", "match_columns": ["A", "B"], "default_key": -1}}]},
        {"create_time": "2025-01-02T03:04:05Z", "validated": True},
    ],
)
def test_what_is_in_order_passes(client: httpx.Client, body: dict[str, Any]) -> None:
    body = {"reference": "A", **body} if body.get("reference", "") is not None else body
    for escaped in (True, False):
        answer = client.post("/api/v1/mappings", content=json.dumps(body, ensure_ascii=escaped))
        assert answer.status_code == 200 or answer.json()["details"][0]["reason"] == "FIELD_INVALID", (
            answer.text
        )


def test_spaces_may_stand_anywhere_between_the_parts_of_json(client: httpx.Client) -> None:
    text = ' \r\n\t{ "reference" : "A" , "columns" : [ { "name" : "B" } , { } ] , "batch_rows" : 1 } \n'
    assert client.post("/api/v1/mappings", content=text).status_code == 200


def test_names_of_a_map_are_free_and_escapes_in_strings_are_kept(client: httpx.Client) -> None:
    answer = client.post(
        "/api/v1/connections/a:preview", json={"query": 'a"\\é', "parameters": {"nope": "}"}}
    )
    assert answer.json()["rows"] == [["a", 'a"\\é', '{"nope": "}"}']]


def test_a_hostile_name_cannot_break_the_answer(client: httpx.Client) -> None:
    name = '"}],"x":"\\\u0000\U0001f600' + "x" * 500
    answer = client.post("/api/v1/mappings", content=json.dumps({name: 1}, ensure_ascii=False).encode())
    (field,) = violations(answer)
    assert field.startswith("mapping.???")
    assert len(field) <= 200


def test_a_file_is_not_read_as_json(client: httpx.Client) -> None:
    answer = client.post(
        "/api/v1/mappings:import", content=b'{"nope": ', headers={"content-type": "application/json"}
    )
    assert answer.json()["mappings"][0]["version"] == 9
    assert violations(client.post("/api/v1/mappings:import?file=1", content=b"x"))


def test_a_grpc_call_at_a_json_path_is_refused(client: httpx.Client) -> None:
    answer = client.post(
        "/api/v1/jobs/A:run", content=b"\0\0\0\0\0", headers={"content-type": "application/grpc"}
    )
    assert answer.headers["grpc-status"] != "0"
    assert "JSON" in answer.headers["grpc-message"]
