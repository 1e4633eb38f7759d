from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.cli.terminal import safe, shown_path, size, span
from strongroom.cli.values import HostPort, Retention, Seconds


@given(st.text())
def test_safe_text_has_nothing_that_steers_and_keeps_the_rest(text: str) -> None:
    shown = safe(text)
    shown.encode("utf-8")
    assert shown.isprintable() or all(ord(char) >= 0xA0 for char in shown if not char.isprintable())
    if text.isprintable():
        assert shown == text


@given(st.binary())
def test_any_path_can_be_printed(path: bytes) -> None:
    assert "\n" not in shown_path(path)


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (10 << 20, "10.0 MiB"), (1 << 62, "4.00 EiB")],
)
def test_sizes(count: int | None, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (5.9, "5 s"), (65, "1 min 5 s"), (3_660, "1 h 1 min"), (90_000, "1 d 1 h")]
)
def test_spans(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("text", "seconds"), [("30d", 2_592_000), ("12 h", 43_200), ("1y", 31_536_000), ("5", None)])
@pytest.mark.parametrize("kind", [Seconds(), Retention("target")])
def test_lengths_of_time(kind: click.ParamType[int] | click.ParamType[str], text: str, seconds: int | None) -> None:
    if seconds is None:
        with pytest.raises(click.BadParameter):
            kind.convert(text, None, None)
    else:
        assert Seconds().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("text", "sent"), [("30d", "30d"), ("12 h", "43200s"), ("1y", "365d"), ("2w", "14d"), ("target", "target")]
)
def test_a_retention_is_sent_in_units_that_the_server_knows(text: str, sent: str) -> None:
    assert Retention("target").convert(text, None, None) == sent


@pytest.mark.parametrize("text", ["0d", "-1d", "1d2h", "", "d", "٣d", "9999999999d"])
def test_what_is_no_length_of_time(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Seconds().convert(text, None, None)


@pytest.mark.parametrize("text", ["https://a:1", "a", "a:0", "a:65536", "a b:1", ":1", "::1:1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(click.BadParameter):
        HostPort().convert(text, None, None)


@pytest.mark.parametrize("text", ["a.example:8710", "192.0.2.1:1", "[2001:db8::1]:65535"])
def test_addresses(text: str) -> None:
    assert HostPort().convert(text, None, None) == text
