"""A route cannot be declared without a permission that exists (U3)."""

from __future__ import annotations

import threading

import pytest

from strongroom.api.errors import BadRequestError, BusyError
from strongroom.api.paging import cut, number
from strongroom.api.parts import Turnstile
from strongroom.api.policies import seconds
from strongroom.api.routing import Routes


def nothing() -> None:
    """Do nothing."""


def test_a_permission_that_does_not_exist_is_a_defect_at_import() -> None:
    routes = Routes("nouns")
    for declare in (routes.get, routes.post, routes.put, routes.patch, routes.delete):
        with pytest.raises(ValueError, match="no permission"):
            declare("/x", "image.destroy-all")
        with pytest.raises(TypeError):
            declare("/x")  # type: ignore[call-arg]


def test_a_route_without_a_docstring_is_a_defect_at_import() -> None:
    with pytest.raises(ValueError, match="docstring"):
        Routes("nouns").get("/x", "image.read")(lambda: None)


def test_few_slow_computations_run_at_once_and_the_next_one_is_told_to_wait() -> None:
    turnstile = Turnstile(at_once=1, wait_seconds=0.05)
    with turnstile.passed(), pytest.raises(BusyError), turnstile.passed():
        pass
    with pytest.raises(RuntimeError), turnstile.passed():
        raise RuntimeError
    done = threading.Event()
    with turnstile.passed():
        done.set()
    assert done.is_set()


def test_a_page_goes_on_behind_its_last_item_though_that_one_is_gone() -> None:
    items = ["d", "b", "a", "c"]
    assert cut(items, str, None, 2) == (["a", "b"], "b")
    assert cut(["d", "a", "c"], str, "b", 2) == (["c", "d"], None)
    assert cut([], str, None, 2) == ([], None)


@pytest.mark.parametrize("after", ["-1", "x", "9" * 19, "9" * 400, "١", "1.5", ""])
def test_a_cursor_that_is_no_number_is_refused(after: str) -> None:
    with pytest.raises(BadRequestError):
        number(after, 0)


def test_durations_are_read_with_their_units_and_bounded() -> None:
    texts = ("90s", "5min", "2h", "30d", "4w", "1y")
    assert [seconds(text) for text in texts] == [90, 300, 7_200, 2_592_000, 2_419_200, 31_536_000]
    assert seconds(1) == 1
    for text in ("0d", "1m", "9999999999w", 0, -1, 1 << 34):
        with pytest.raises(BadRequestError):
            seconds(text)
