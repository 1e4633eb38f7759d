"""R7, R10, R11, I1-I3: an image goes to another domain sealed, waits there for its key, and is restored with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_domain import LiveDomain
from tests.support.trees import make_tree

WAIT_SECONDS = 45.0

pytestmark = pytest.mark.slow


def until(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (result := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return result


def token(domain: LiveDomain, folder: Path, name: str, *words: str) -> str:
    made = domain.cli("token", "create", name, "--reason", "a test", *words)
    path = folder / f"{domain.name}-{name}"
    path.write_text(made["token"])
    return str(path)


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveDomain, LiveDomain]]:
    """A source and a target that trust each other; the source may write to the target's pool."""
    folder = tmp_path_factory.mktemp("domains")
    source, target = LiveDomain(folder, "alpha"), LiveDomain(folder, "beta")
    for domain in (source, target):
        domain.start()
        domain.cli("pool", "create", "main")
    source.cli("kms", "group", "create", "homes")
    source.cli("kms", "key", "create", "one", "--group", "homes", "--source", "random", "--activate")
    for one, other in ((source, target), (target, source)):
        given = token(other, folder, "trust", "--purpose", "trust")
        one.cli("trust", "add", f"localhost:{other.port}", "--fingerprint", other.fingerprint(), "--token-file", given)
    given = token(target, folder, "media", "--purpose", "enrol-foreign-media", "--for-domain", source.made["domain"])
    source.cli(
        "cert",
        "issue",
        "--to",
        f"localhost:{target.port}",
        "--fingerprint",
        target.fingerprint(),
        "--token-file",
        given,
    )
    credential = target.cli("storage", "credential", "create", "for-alpha", "--pool", "main", "--sender", "alpha")
    (folder / "credential").write_text(credential["secret"])
    words = ("--peer", "beta", "--pool", "main", "--token-file", str(folder / "credential"))
    source.cli("storage", "target", "add", "beta-main", *words)
    target.cli("slp", "create", "from-alpha", "--import", "main", "--retention", "target")
    target.cli("slp", "activate", "from-alpha")
    policy = ("--backup", "main", "--retention", "30d", "--key-group", "homes", "--replicate-to", "beta:from-alpha")
    source.cli("slp", "create", "gold", *policy)
    source.cli("slp", "activate", "gold")
    yield source, target
    source.stop()
    target.stop()


def confirmed(source: LiveDomain, image: str) -> bool:
    rows = source.cli("replication", "status")
    return any(row["image"] == image and row["state"] == "confirmed" for row in rows)


def image_at(domain: LiveDomain, image: str) -> dict[str, Any] | None:
    return next((row for row in domain.cli("image", "list") if row["image"] == image), None)


def test_an_image_arrives_sealed_and_only_what_is_new_crosses(
    domains: tuple[LiveDomain, LiveDomain], tmp_path: Path
) -> None:
    source, target = domains
    (tmp_path / "tree").mkdir()
    tree = make_tree(tmp_path / "tree")
    first = source.cli("backup", str(tree), "--slp", "gold")["image"]
    until(lambda: confirmed(source, first), "no receipt")
    there = image_at(target, first)
    assert there is not None
    assert there["state"] == "waiting-for-key"
    source.kill("media")
    (tree / "plain").write_bytes(b"changed")
    source.start("media")
    second = source.cli("backup", str(tree), "--slp", "gold")["image"]
    until(lambda: confirmed(source, second), "no receipt")
    sent = [line["bytes"] for line in source.log("media") if line["event"] == "sent"]
    assert sent[0] > 5 << 20
    assert sent[-1] < 1 << 20


def test_a_target_that_was_away_gets_its_image_later(domains: tuple[LiveDomain, LiveDomain], tmp_path: Path) -> None:
    source, target = domains
    (tmp_path / "file").write_bytes(b"while the target was away")
    target.kill("media")
    image = source.cli("backup", str(tmp_path), "--slp", "gold")["image"]
    until(lambda: any(line["event"] == "not-sent" for line in source.log("media")), "nothing was tried")
    target.start("media")
    until(lambda: confirmed(source, image), "no receipt")


def test_no_defect_shows_in_the_logs(domains: tuple[LiveDomain, LiveDomain]) -> None:
    for domain in domains:
        events = {line["event"] for line in domain.log("media")}
        assert not {"request-failed", "asyncio"} & events
