"""The table of routes in ``docs/reference/rest.md``, made from the routes."""

from __future__ import annotations

from typing import Any, Final

from strongroom.api.app import describe
from strongroom.api.routing import PERMISSION_KEY

BEGIN: Final = "<!-- routes: written by scripts/rest-reference -->"
END: Final = "<!-- end of routes -->"


def insert(page: str) -> str:
    """Put the table into a page, in place of the one between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


def tables() -> str:
    """Write a table of routes for each noun."""
    document = describe()
    nouns: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            nouns.setdefault(operation["tags"][0], []).append(_row(document, method, path, operation))
    head = "| route | permission | body | answer | |\n|---|---|---|---|---|"
    return "\n".join(f"### {noun}\n\n{head}\n" + "\n".join(rows) + "\n" for noun, rows in nouns.items())


def _row(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    query = [one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"]
    asked = f"<br>?{' '.join(query)}" if query else ""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    answer = next(
        response.get("content", {}).get("application/json", {}).get("schema", {})
        for status, response in operation["responses"].items()
        if status.startswith("2")
    )
    told = f"{_fields(document, body)} | {_fields(document, answer)}"
    return f"| `{method.upper()} {path}`{asked} | {operation[PERMISSION_KEY]} | {told} | {operation['summary']} |"


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" not in schema:
        return ""
    named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    fields = named.get("properties", {})
    if set(fields) == {"items", "next"}:
        inner = fields["items"]["items"]
        return f"items of {{{_fields(document, inner)}}}, next"
    wanted = named.get("required", ())
    is_body = named.get("additionalProperties") is False
    return ", ".join(f"{name}?" if is_body and name not in wanted else name for name in fields)
