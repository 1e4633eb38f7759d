"""The REST reference and the OpenAPI document say what there is (U2)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from fastapi.openapi.models import OpenAPI

from strongroom.api import errors
from strongroom.api.app import describe
from strongroom.api.reference import insert
from strongroom.api.routing import PERMISSION_KEY
from strongroom.core.errors import StrongroomError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "rest.md"


def test_the_table_of_routes_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert insert(page) == page, "run .venv/bin/python scripts/rest-reference"


def test_the_openapi_document_is_valid_and_complete() -> None:
    document = describe()
    OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)):
        assert name in schemas
    assert "HTTPValidationError" not in schemas
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"], operation
        assert operation["description"], operation
        assert operation[PERMISSION_KEY], operation
        assert _is_problem(operation["responses"]["default"]), operation
        if operation[PERMISSION_KEY] != "anybody":
            assert _is_problem(operation["responses"]["401"]), operation
        if operation[PERMISSION_KEY] not in ("anybody", "session"):
            assert _is_problem(operation["responses"]["403"]), operation


def test_every_model_says_what_it_is() -> None:
    for name, schema in describe()["components"]["schemas"].items():
        if schema.get("type") == "object":
            assert schema.get("description"), name


def test_every_error_of_the_interface_is_listed_where_it_is_defined() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StrongroomError)]
    own = {kind.code for kind in kinds if kind.__module__ == errors.__name__}
    assert own == set(re.findall(r"^([a-z]+\.[a-z-]+) ", errors.__doc__ or "", re.MULTILINE))


def _is_problem(response: dict[str, Any]) -> bool:
    schema = response["content"]["application/problem+json"]["schema"]
    return bool(schema == {"$ref": "#/components/schemas/Problem"})
