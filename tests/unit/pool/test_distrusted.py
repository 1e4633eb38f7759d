"""P1: containers in which damage was read are remembered, and nothing refers to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.core.ids import ContainerId, DataKeyId
from strongroom.pool.distrusted import FILE_NAME, Distrusted
from strongroom.pool.index import Location

ONE, OTHER = ContainerId(b"\1" * 16), ContainerId(b"\2" * 16)


def at(container: ContainerId) -> Location:
    return Location(container, 0, 10, DataKeyId(bytes(16)))


def test_it_is_known_after_a_restart_p1(tmp_path: Path) -> None:
    Distrusted(tmp_path).add(ONE)
    again = Distrusted(tmp_path)
    assert again.holds(ONE)
    assert not again.holds(OTHER)
    again.add(OTHER)
    again.add(OTHER)
    assert all(map(Distrusted(tmp_path).holds, (ONE, OTHER)))


def test_a_place_elsewhere_is_enough_p1(tmp_path: Path) -> None:
    distrusted = Distrusted(tmp_path)
    distrusted.add(ONE)
    assert distrusted.has_all([at(ONE)])
    assert distrusted.has_all([])
    assert not distrusted.has_all([at(ONE), at(OTHER)])


def test_a_repair_that_looked_at_all_says_what_is_left_p1(tmp_path: Path) -> None:
    distrusted = Distrusted(tmp_path)
    distrusted.add(ONE)
    distrusted.replace([OTHER])
    assert not Distrusted(tmp_path).holds(ONE)
    assert Distrusted(tmp_path).holds(OTHER)
    distrusted.replace([])
    assert not Distrusted(tmp_path)


@pytest.mark.parametrize("cut", range(1, 34))
def test_a_line_that_a_crash_tore_says_nothing_and_spoils_no_other_p1(tmp_path: Path, cut: int) -> None:
    distrusted = Distrusted(tmp_path)
    distrusted.add(ONE)
    distrusted.add(OTHER)
    os.truncate(tmp_path / FILE_NAME, (tmp_path / FILE_NAME).stat().st_size - cut)
    torn = Distrusted(tmp_path)
    assert torn.holds(ONE)
    torn.add(ContainerId(b"\3" * 16))
    assert Distrusted(tmp_path).holds(ContainerId(b"\3" * 16))


def test_a_disk_that_refuses_is_told_and_it_holds_until_the_end_p1(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distrusted = Distrusted(tmp_path / "gone")
    distrusted.add(ONE)
    assert distrusted.holds(ONE)
    assert "cannot be written down" in caplog.text
