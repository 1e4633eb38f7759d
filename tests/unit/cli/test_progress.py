from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from strongroom.cli import progress
from strongroom.cli.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_where_no_terminal_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with Progress("backup", shown=True, total_bytes=2 << 20) as shown:
        shown.update(1 << 20, 7)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("backup: 1.00 MiB of 2.00 MiB, 7 files, ")


def test_lines_do_not_come_more_often_than_their_interval(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("backup", shown=True) as shown:
        for done in range(1000):
            shown.update(done, done)
    assert capsys.readouterr().err == ""


def test_a_bar_with_rate_and_time_left_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "BAR_SECONDS", 0.0)
    with Progress("restore", shown=True, total_bytes=4 << 20) as shown:
        shown.update(1 << 20, 3)
    assert "1.0/4.2 MB" in terminal.getvalue() or "1.0/4.0 MiB" in terminal.getvalue()
    assert "3 files" in terminal.getvalue()


def test_nothing_is_shown_to_a_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with Progress("backup", shown=False) as shown:
        shown.update(1, 1)
    assert capsys.readouterr() == ("", "")


def test_a_secret_that_is_asked_for_is_not_echoed() -> None:
    """On a real terminal, because echo is the terminal's."""
    ours, theirs = pty.openpty()
    program = (
        "from strongroom.cli.secret_input import read_secret\n"
        "print(len(read_secret(None, 'token', 'the token')), flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    seen = b""
    while b"The token" not in seen:
        seen += os.read(ours, 1024)
    os.write(ours, b"magpie\n")
    out, _ = process.communicate(timeout=30)
    with_rest = seen
    try:
        while part := os.read(ours, 1024):
            with_rest += part
    except OSError:
        pass  # Linux says so when the other end is closed and everything was read
    os.close(ours)
    assert out == b"6\n"
    assert b"magpie" not in with_rest
