"""Listings in pages: ``{"items": [...], "next": cursor}``, and the next one with ``?after=cursor``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Final, Generic, TypeVar

from fastapi import Query
from pydantic import ConfigDict

from strongroom.api.errors import BadRequestError
from strongroom.api.fields import LARGEST_INT, Answer

DEFAULT_LIMIT: Final = 200
LARGEST_LIMIT: Final = 1_000

T = TypeVar("T")

After = Annotated[
    str | None,
    Query(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*$", description="'next' of the page before"),
]
Limit = Annotated[int, Query(ge=1, le=LARGEST_LIMIT, description="at most so many items")]


class Page(Answer, Generic[T]):
    """Some items, and where the next page begins; ``next`` is null on the last one."""

    model_config = ConfigDict(json_schema_extra={"description": "Some items; 'next' is null on the last page."})

    items: list[T]
    next: str | None = None


def cut(items: Iterable[T], key: Callable[[T], str], after: str | None, limit: int) -> tuple[list[T], str | None]:
    """Cut a page out of a short list that has no pages of its own.

    Args:
        items: all of them.
        key: unique; the pages are in its order.
        after: key of the last item of the page before.
        limit: at most so many.

    Returns:
        The items, and the key behind which the next page begins.
    """
    rest = sorted((item for item in items if after is None or key(item) > after), key=key)
    shown = rest[:limit]
    return shown, key(shown[-1]) if len(rest) > limit else None


def number(after: str | None, default: int) -> int:
    """Read a cursor that is a number.

    Raises:
        BadRequestError: it is none.
    """
    if after is None:
        return default
    if not after.isascii() or not after.isdigit() or int(after[:20]) > LARGEST_INT:
        raise BadRequestError("'query.after' is not a cursor of this listing")
    return int(after)
