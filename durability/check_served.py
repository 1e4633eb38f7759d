"""Serves the homes again after a cut: they start, hold what was acknowledged, and go on working."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from durability.facts import Facts
from durability.story import LOCAL, POOL, SENT, wait_for_jobs
from strongroom.cli.demonstration.compare import differences
from strongroom.cli.demonstration.domains import CommandFailedError, DemoDomain
from strongroom.core.errors import StrongroomError

_HALF_MADE_SECONDS: Final = 60
_MOST_SHOWN: Final = 1_500
_INTERRUPTED: Final = ("backup", "restore")
"""Jobs that end as failed when their client is gone."""


def settle_instance(home: Path) -> None:
    """Let the home that was written anew count as the one that lost power: its folder has another number."""
    path = home / "instance"
    if path.is_file() and path.stat().st_size:
        said = json.loads(path.read_bytes())
        status = home.stat()
        path.write_text(json.dumps({**said, "device": status.st_dev, "inode": status.st_ino}))


def problems_of(domains: dict[str, Facts], world: Path, trees: Path, scratch: Path) -> Iterator[str]:
    """Serve all homes, use them, end them; name what is wrong.

    Args:
        domains: what each had acknowledged.
        world: where the homes lie.
        trees: what was backed up, by name.
        scratch: an empty folder.
    """
    served: list[DemoDomain] = []
    try:
        for facts in domains.values():
            settle_instance(facts.home(world))
            domain = DemoDomain(world, facts.name)
            domain.port = facts.port
            served.append(domain)
            domain.start()
        for facts, domain in zip(domains.values(), served, strict=True):
            yield from _uses(facts, domain, trees, scratch)
        for facts, domain in zip(domains.values(), served, strict=True):
            yield from _settles(facts, domain)
        for facts, domain in zip(domains.values(), served, strict=True):
            if facts.has_pool:
                yield from collected_problems(domain)
    except (StrongroomError, CommandFailedError) as error:
        yield f"{served[-1].name}: {error.message} [{error.code}]"
    finally:
        for domain in served:
            domain.stop()
    yield from tracebacks(world)


def half_made_problems(names: list[str], world: Path) -> Iterator[str]:
    """Serve homes whose ``init`` had not ended: whatever is refused is refused in words."""
    for name in names:
        home = world / name
        if not home.exists():
            continue
        done = subprocess.run(
            [sys.executable, "-m", "strongroom", "ca", "show", "--home", str(home), "--json"],
            capture_output=True,
            timeout=_HALF_MADE_SECONDS,
            check=False,
        )
        if b"Traceback" in done.stderr or done.returncode in (0, 1):
            yield f"{name}: a home that is not whole: exit {done.returncode}: {done.stderr.decode()[-400:]}"
        server = subprocess.Popen(
            [sys.executable, "-m", "strongroom", "serve", str(home)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, errors = server.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            server.terminate()
            server.communicate()
        else:
            if b"Traceback" in errors:
                yield f"{name}: serving a home that is not whole: {errors.decode()[-400:]}"


def _uses(facts: Facts, domain: DemoDomain, trees: Path, scratch: Path) -> Iterator[str]:
    if not any(row["name"] == POOL for row in domain.command("pool", "list")):
        domain.command("pool", "create", POOL)
    if facts.damaged:
        wait_for_jobs(domain)
        domain.command("pool", "repair", POOL)
    rows = {row["image"]: row for row in domain.command("image", "list")}
    for image in facts.images:
        if image not in rows:
            yield f"{facts.name}: the image {image} is not listed"
            continue
        domain.command("image", "verify", image, "--wait")
    if facts.images and facts.tags:
        image, tree = list(facts.images.items())[-1]
        restored = scratch / f"{facts.name}-restored"
        domain.command("restore", image, "--to", str(restored))
        for difference in differences(trees / tree, restored / (trees / "data").relative_to("/")):
            yield f"{facts.name}: {image} restored: {difference}"
    if LOCAL in facts.policies:
        policy = SENT if SENT in facts.policies else LOCAL
        made = domain.command("backup", str(trees / "first"), "--slp", policy)["image"]
        if policy == SENT:
            domain.wait_for(
                "a receipt after the cut", "replication", "status",
                until=lambda found: all(row["state"] == "confirmed" for row in found)
                and any(row["image"] == made for row in found),
            )  # fmt: skip
        domain.command("image", "verify", made, "--wait")


def _settles(facts: Facts, domain: DemoDomain) -> Iterator[str]:
    for row in wait_for_jobs(domain):
        if row["state"] == "failed" and row["kind"] not in _INTERRUPTED:
            shown = domain.command("job", "show", str(row["job"]))
            yield f"{domain.name}: the job {row['kind']} failed: {shown.get('error') or shown}"
    for image in facts.images if facts.tags else ():
        if not domain.command("image", "files", image):
            yield f"{domain.name}: the list of files of {image} is empty"


def collected_problems(domain: DemoDomain) -> Iterator[str]:
    """Collect a served pool at which nobody works: all that no image needs goes."""
    freed = domain.command("pool", "collect", POOL, "--wait")["result"]
    plan = domain.command("pool", "collect", POOL, "--dry-run")["result"]
    for found in ("unneeded_containers", "unread_containers"):
        if plan[found]:
            yield f"{domain.name}: {plan[found]} {found.replace('_', ' ')} after a collection that told {freed}"


def tracebacks(world: Path, read: dict[Path, int] | None = None) -> Iterator[str]:
    """Give the first traceback in each log.

    Args:
        world: where the homes and the supervisors' logs lie.
        read: how much of each log was looked at before; it is brought up to date.
    """
    for path in (*world.glob("*.log"), *world.glob("*/logs/*.log")):
        data = path.read_bytes()
        text = data[(read or {}).get(path, 0) :].decode(errors="replace")
        if read is not None:
            read[path] = len(data)
        if (start := text.find("Traceback")) >= 0:
            yield f"{path.relative_to(world)}: {text[start : start + _MOST_SHOWN]}"


def empty(folder: Path) -> Path:
    """Make a folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
