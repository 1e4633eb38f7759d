"""Errors as documents, bounds of requests, and what the log may hold."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import model_validator
from starlette.types import Message, Receive, Scope, Send

from strongroom.api import problems
from strongroom.api.bodies import MAX_BODY_BYTES, BodyLimit
from strongroom.api.fields import Body, Name, Password, PathBytes
from strongroom.api.problems import Problem
from strongroom.core.errors import AuthenticationError, UnavailableError, from_document
from tests.support.images import FixedEntropy

HASH = "$argon2id$of-a-password"


class Wish(Body):
    name: Name
    password: Password | None = None
    path: PathBytes | None = None

    @model_validator(mode="after")
    def _fits(self) -> Wish:
        if self.name == "unfit":
            raise ValueError("Two fields do not fit together")
        return self


@pytest.fixture
def client() -> TestClient:
    app = FastAPI(openapi_url=None)

    @app.post("/wish")
    def wish(body: Wish) -> dict[str, str]:
        return {"name": body.name}

    @app.get("/known")
    def known() -> None:
        raise UnavailableError("the pool 'p' is busy", hint="wait", context={"pool": "p"})

    @app.get("/stranger")
    def stranger() -> None:
        raise AuthenticationError("who are you")

    @app.get("/defect")
    def defect() -> None:
        raise RuntimeError("a detail of the inside")

    @app.get("/statement")
    def statement() -> None:
        engine = sa.create_engine("sqlite://")
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT * FROM nowhere WHERE password = :hash"), {"hash": HASH})

    problems.install(app, FixedEntropy("incident"))
    app.add_middleware(BodyLimit)
    return TestClient(app, raise_server_exceptions=False)


def test_an_error_is_a_document_that_its_reader_makes_an_error_of_again(client: TestClient) -> None:
    answer = client.get("/known")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    Problem.model_validate(answer.json())
    error = from_document(answer.json())
    assert isinstance(error, UnavailableError)
    assert (error.message, error.hint, error.context, error.retry) == (
        "the pool 'p' is busy",
        "wait",
        {"pool": "p"},
        "later",
    )


def test_who_is_not_known_is_told_how_to_show_itself(client: TestClient) -> None:
    assert client.get("/stranger").headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"password": "hidden!"}', "body.name"),
        ('{"name": "n", "password": ""}', "body.password"),
        ('{"name": "n", "password": ["hidden!"]}', "body.password"),
        ('{"name": "n", "pasword": "hidden!"}', "body.pasword"),
        ('{"name": "a\\u0000b"}', "body.name"),
        ('{"name": "\\ud800"}', "body.name"),
        ('{"name": "n", "password": "\\ud800hidden!"}', "body.password"),
        ('{"name": "n", "path": "hidden!"}', "body.path"),
        ('{"name": "n", "path": "aGlkZGVu"}', "body.path"),
        ('{"name": "unfit", "password": "hidden!"}', "body"),
        ('{"name": "n"', "body"),
        ('"hidden!"', "body"),
        ("[" * 100_000, "body"),
        ("", "body"),
    ],
)
def test_what_is_wrong_with_a_body_is_told_by_field_and_never_by_value(
    client: TestClient, body: str, field: str
) -> None:
    answer = client.post("/wish", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert told["code"] == "api.bad-request"
    assert told.get("context", {}).get("field", "body").startswith(field)
    assert "hidden!" not in answer.text


def test_a_body_is_not_read_beyond_its_bound(client: TestClient) -> None:
    announced = client.post(
        "/wish", content=json.dumps({"name": "x" * MAX_BODY_BYTES}), headers={"Content-Type": "application/json"}
    )
    assert (announced.status_code, announced.json()["code"]) == (400, "api.too-long")

    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65_536

    chunked = client.post("/wish", content=itertools.islice(endless(), 64))
    assert (chunked.status_code, chunked.json()["code"]) == (400, "api.too-long")


async def test_reading_stops_at_the_bound_and_in_time() -> None:
    async def unreached(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError

    taken, told = 0, []

    async def receive() -> Message:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": bytes(100), "more_body": True}

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        told.append(message)

    scope = {"type": "http", "method": "POST", "headers": []}
    await BodyLimit(unreached, max_bytes=250)(scope, receive, send)
    assert taken == 3
    assert told[0]["status"] == 400
    await BodyLimit(unreached, max_bytes=250, seconds=0.01)(scope, never, send)
    assert told[2]["status"] == 503


def test_unknown_paths_and_methods_are_documents_too(client: TestClient) -> None:
    missing = client.get("/nothing")
    assert (missing.status_code, missing.json()["code"]) == (404, "api.no-such-route")
    wrong = client.delete("/known")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "api.method-not-allowed", "GET")


def test_a_defect_shows_its_number_and_the_log_has_the_rest(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/defect")
    assert (answer.status_code, answer.json()["code"]) == (500, "api.internal")
    assert "inside" not in answer.text
    incident = str(answer.json()["context"]["incident"])
    assert incident in caplog.text
    assert "a detail of the inside" in caplog.text
    assert "Traceback" in caplog.text


def test_the_values_of_a_statement_stay_out_of_the_log(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert client.get("/statement").status_code == 500
    assert "no such table" in caplog.text
    assert HASH not in caplog.text
