"""Streams and files pass at once and whole."""

import hashlib
import json
import os
import time

import httpx
import pytest

MIB = 1024 * 1024


def test_events_arrive_as_they_happen_and_resume_after_the_last_one(client: httpx.Client) -> None:
    arrived: list[float] = []
    text = ""
    with client.stream("GET", "/api/v1/runs/1/events", headers={"last-event-id": "7"}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert "content-encoding" not in answer.headers
        for piece in answer.iter_text():
            arrived.append(time.monotonic())
            text += piece
    assert [line for line in text.splitlines() if line.startswith("id")] == ["id: 8", "id: 9", "id: 10"]
    assert arrived[1] - arrived[0] > 0.1
    assert arrived[2] - arrived[1] > 0.1


def test_messages_of_a_stream_are_lines_that_arrive_at_once(client: httpx.Client) -> None:
    arrived: list[float] = []
    lines: list[str] = []
    with client.stream("GET", "/api/v1/runs/1/logs?after_sequence=4") as answer:
        for line in answer.iter_lines():
            arrived.append(time.monotonic())
            lines.append(line)
    assert [json.loads(line)["lines"][0]["sequence"] for line in lines] == ["5", "6", "7"]
    assert arrived[2] - arrived[0] > 0.3


def test_a_refusal_before_the_first_event_is_an_ordinary_one(client: httpx.Client) -> None:
    answer = client.get("/api/v1/runs/missing/events")
    assert answer.status_code == 404
    assert answer.json()["message"] == "no run has this id"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_file_goes_up_in_pieces(client: httpx.Client, *, chunked: bool) -> None:
    data = os.urandom(20 * MIB)
    content = iter([data[at : at + 100_000] for at in range(0, len(data), 100_000)]) if chunked else data
    headers = {"content-type": "text/csv"}
    answer = client.post("/api/v1/mappings:import?validate_only=true", content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    (found,) = answer.json()["mappings"]
    assert found == {
        "sheet": hashlib.sha256(data).hexdigest(),
        "reference": "text/csv",
        "version": len(data),
        "changed": True,
    }


def test_a_form_goes_up_as_it_is(client: httpx.Client) -> None:
    answer = client.post("/api/v1/mappings:import", files={"file": ("maß.csv", b"a,b\n", "text/csv")})
    assert answer.json()["mappings"][0]["reference"].startswith("multipart/form-data; boundary=")


def test_a_large_file_comes_down_whole(client: httpx.Client) -> None:
    digest, size = hashlib.sha256(), 0
    with client.stream("GET", "/api/v1/mappings:export?references=20") as answer:
        assert answer.headers["content-type"].endswith("spreadsheetml.sheet")
        assert answer.headers["content-disposition"] == 'attachment; filename="all.xlsx"'
        for piece in answer.iter_bytes():
            digest.update(piece)
            size += len(piece)
    assert size == 20 * MIB
    expected = b"".join(bytes([index % 256]) * (MIB // 2) for index in range(40))
    assert digest.hexdigest() == hashlib.sha256(expected).hexdigest()


def test_a_long_list_comes_whole_and_compressed(client: httpx.Client) -> None:
    answer = client.get("/api/v1/mappings?page_size=1000&search=abc")
    assert answer.headers["content-encoding"] == "gzip"
    assert len(answer.json()["mappings"]) == 1000
