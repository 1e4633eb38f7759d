"""R7, R10, R11, I1-I3: an image goes to another domain sealed, waits there for its key, and is restored with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.live_domain import LiveDomain
from tests.support.trees import make_tree
from tests.support.trusting import Pair, until

pytestmark = pytest.mark.slow


def image_at(domain: LiveDomain, image: str) -> dict[str, Any] | None:
    return next((row for row in domain.cli("image", "list") if row["image"] == image), None)


def test_an_image_arrives_sealed_and_only_what_is_new_crosses(pair: Pair, tmp_path: Path) -> None:
    source, target = pair.source, pair.target
    (tmp_path / "tree").mkdir()
    tree = make_tree(tmp_path / "tree")
    first = source.cli("backup", str(tree), "--slp", "gold")["image"]
    until(lambda: pair.confirmed(first), "no receipt")
    there = image_at(target, first)
    assert there is not None
    assert there["state"] == "waiting-for-key"
    source.kill("media")
    (tree / "plain").write_bytes(b"changed")
    source.start("media")
    second = source.cli("backup", str(tree), "--slp", "gold")["image"]
    until(lambda: pair.confirmed(second), "no receipt")
    sent = [line["bytes"] for line in source.log("media") if line["event"] == "sent"]
    assert sent[0] > 5 << 20
    assert sent[-1] < 1 << 20


def test_a_target_that_was_away_gets_its_image_later(pair: Pair, tmp_path: Path) -> None:
    source, target = pair.source, pair.target
    (tmp_path / "file").write_bytes(b"while the target was away")
    target.kill("media")
    image = source.cli("backup", str(tmp_path), "--slp", "gold")["image"]
    until(lambda: any(line["event"] == "not-sent" for line in source.log("media")), "nothing was tried")
    target.start("media")
    until(lambda: pair.confirmed(image), "no receipt")


def test_no_defect_shows_in_the_logs(pair: Pair) -> None:
    for domain in (pair.source, pair.target):
        events = {line["event"] for line in domain.log("media")}
        assert not {"request-failed", "asyncio"} & events
