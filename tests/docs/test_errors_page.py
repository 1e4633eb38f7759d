"""Every error is documented, and has a code of its own."""

from __future__ import annotations

import re
from pathlib import Path

from strongroom.cli.error_reference import error_classes, page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "errors.md"


def test_the_page_of_errors_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run .venv/bin/python scripts/errors-page"


def test_no_two_classes_share_a_code() -> None:
    shared = {code: kinds for code, kinds in error_classes().items() if len(kinds) > 1}
    assert shared == {}


def test_codes_are_a_noun_and_what_is_wrong() -> None:
    wrong = [code for code in error_classes() if not re.fullmatch(r"[a-z]+(-[a-z]+)*\.[a-z0-9]+(-[a-z0-9]+)*", code)]
    assert wrong == []


def test_every_error_says_what_it_means() -> None:
    assert [code for code, (kind, *_) in error_classes().items() if not kind.__doc__] == []
