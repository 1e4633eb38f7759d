"""C1: which names belong to one file; and that a million such files fit into memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from strongroom.client.links import Links

MEASURE = """
import os
from strongroom.client.links import Links
from tests.support.memory import peak_kib

links, before = Links(), peak_kib()
for number in range(200_000):
    status = os.stat_result((0o644, 10_000_000 + number, 64_512, 2, 0, 0, 0, 0, 0, 0))
    links.begin(status)
    links.recorded(status, b"/srv/projects/of/some/year/folder-%03d/document-%07d.txt" % (number // 1000, number))
    links.seen(status)
print(peak_kib() - before)
"""


def status(inode: int, names: int, device: int = 1) -> os.stat_result:
    return os.stat_result((0o644, inode, device, names, 0, 0, 0, 0, 0, 0))


def test_further_names_are_linked_to_the_first_that_was_recorded() -> None:
    links = Links()
    one, other = status(7, 3), status(8, 2)
    for file in (one, other):
        links.begin(file)
    assert links.first(one) is None
    links.recorded(one, b"/a/first")
    links.recorded(other, b"/b/\xffother")
    links.recorded(one, b"/c/second")
    assert links.first(one) == b"/a/first"
    assert links.first(other) == b"/b/\xffother"


def test_a_file_is_forgotten_when_its_last_name_was_seen() -> None:
    links = Links()
    file = status(7, 2)
    links.begin(file)
    links.recorded(file, b"/first")
    links.seen(file)
    assert links.knows(file)
    links.seen(file)
    assert not links.knows(file)
    assert links.first(file) is None
    links.begin(file)
    links.recorded(file, b"/again/later")
    assert links.first(file) == b"/again/later"


def test_files_of_two_file_systems_are_never_taken_for_one() -> None:
    links = Links()
    links.begin(status(7, 2, device=1))
    links.recorded(status(7, 2, device=1), b"/one")
    assert not links.knows(status(7, 2, device=2))
    assert links.first(status(7, 2, device=2)) is None


def test_two_hundred_thousand_files_with_names_elsewhere_take_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert int(done.stdout) < 40 << 10
