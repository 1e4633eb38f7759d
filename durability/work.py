"""What running domains do while something is done to them: back up, replicate, expire, collect; and whether it went on.

A command that costs a process is used where it is what is tried; the rest is asked over one connection.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from durability import check_served, check_stored
from durability.facts import Facts
from durability.story import BRIEF, ENDED, LOCAL, POOL, SENT, Story, begin, change
from strongroom.cli.api_client import ApiClient, UnreachableServerError, local_session
from strongroom.cli.demonstration.compare import differences
from strongroom.cli.demonstration.domains import CommandFailedError, DemoDomain
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ImageId, from_text, to_text
from strongroom.pool.incoming import INCOMING

SETTLE_SECONDS: Final = 180.0
_LEAST_SECONDS: Final = 0.5
_SESSION_SECONDS: Final = 120.0
"""A session of the primary's host ends after some minutes; a new one is begun before."""
_LEFT_ALONE: Final = 2
"""So many of the newest images are not expired by hand."""
_RESTORED: Final = 0.3
"""Share of the rounds after which the newest image is restored as well; it is verified after each."""
_KEPT: Final = ("catalog.expiry-refused", "image.in-use")
"""Refusals that are right: something keeps the image."""


class Asking:
    """Speaks with the primary of a domain, which may be killed meanwhile.

    Args:
        domain: which.
    """

    def __init__(self, domain: DemoDomain) -> None:
        self._domain = domain
        self._api: ApiClient | None = None
        self._until = 0.0

    def ask(self, method: str, path: str, body: dict[str, object] | None = None) -> Any:
        """Ask once.

        Raises:
            UnreachableServerError: nobody answers.
            StrongroomError: what was refused.
        """
        if self._api is None or time.monotonic() > self._until:
            self.close()
            self._api = local_session(self._domain.home / "run" / "session.sock")
            self._until = time.monotonic() + _SESSION_SECONDS
        try:
            return self._api.call(method, path, body)
        except UnreachableServerError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        if self._api is not None:
            self._api.close()
            self._api = None

    def wait(self) -> None:
        """Wait until the domain is served whole: its primary answers, and its media server is there."""
        if not until(self._is_served):
            raise CommandFailedError(f"'{self._domain.name}' does not come back")

    def run(self, path: str) -> dict[str, Any]:
        """Submit a job, wait for its end, and give it."""
        job = self.ask("POST", path, {})["job"]
        found: dict[str, Any] = {}

        def is_over() -> bool:
            found.update(self.ask("GET", f"/jobs/{job}"))
            return found["state"] in ENDED

        if not until(is_over):
            raise CommandFailedError(f"'{self._domain.name}': the job {job} does not end: {found}")
        return found

    def _is_served(self) -> bool:
        try:
            servers = self.ask("GET", "/status")["media_servers"]
        except StrongroomError:
            return False
        return bool(servers["online"] == servers["known"])


class Work:
    """Served domains, and what they have acknowledged.

    Args:
        scratch: where everything is made.
        domains: 1, or 2 for replication as well.
        rng: chooses what is done.

    Attributes:
        scratch: where everything is made.
        domains: the domains, the one that backs up first.
    """

    def __init__(self, scratch: Path, domains: int, rng: random.Random) -> None:
        begin(scratch)
        self._world = scratch / "world"
        self._trees = scratch / "trees"
        self.scratch = scratch
        self._random = rng
        self._story = Story(scratch, domains)
        self.domains = self._story.domains
        self._asking = {domain.name: Asking(domain) for domain in self.domains}
        self._facts = {domain.name: Facts(domain.name, domain.port, has_pool=True) for domain in self.domains}
        self._newest = ""
        self._brief: list[str] = []
        self._read: dict[Path, int] = {}
        self._groups = 0

    def prepare(self) -> None:
        """Make and serve the domains."""
        self._story.prepare()

    def stop(self) -> None:
        """End the domains."""
        for asking in self._asking.values():
            asking.close()
        self._story.stop()

    def start(self) -> None:
        """Serve the domains again."""
        for domain in self.domains:
            domain.start()

    def work(self, is_struck: Callable[[], bool]) -> list[str]:
        """Back up and replicate; beside it, let an older image go, collect, and make a key group.

        Args:
            is_struck: tells whether something was done to the domains, so that errors are no wonder. The work ends
                then, or when all is done.

        Returns:
            What is wrong: errors for which there is no reason.
        """
        change(self._trees / "data", f"round-{self._random.randrange(1 << 32):08x}")
        self._newest = ""
        with ThreadPoolExecutor(1) as beside:
            freeing = beside.submit(self._free)
            errors = [self._back_up(), *freeing.result()]
        # what was condemned beside the backup goes now that nobody can refer to it
        errors += [self._ask(domain.name, "POST", f"/pools/{POOL}/collect") for domain in self.domains]
        problems = [
            f"{where}: {error.message} [{error.code}]"
            for where, error in filter(None, errors)
            if _is_without_words(error) or not (is_struck() or error.code in _KEPT)
        ]
        begun = time.monotonic()
        while not is_struck() and not problems:
            if time.monotonic() > begun + _LEAST_SECONDS and self._is_over():
                break
            if time.monotonic() > begun + SETTLE_SECONDS:
                return ["the work does not end, and nothing was done to it"]
            time.sleep(0.05)
        return problems

    def look(self) -> list[str]:
        """Look whether all goes on: the jobs end, every acknowledged image arrives, and the newest one is whole."""
        try:
            found = list(self._look())
        except StrongroomError as error:
            found = [f"{error.message} [{error.code}]"]
        return found + list(check_served.tracebacks(self._world, self._read))

    def full_look(self) -> list[str]:
        """Collect, end the domains, and look at all that they stored."""
        try:
            found = list(self._look_at_what_is_free())
        except StrongroomError as error:
            found = [f"{error.message} [{error.code}]"]
        self.stop()
        for facts in self._facts.values():
            found += check_stored.problems_of(facts, self._world)
        return found

    # ------------------------------------------------------------ work

    def _back_up(self) -> tuple[str, StrongroomError] | None:
        policy = SENT if self._story.south else LOCAL
        try:
            made = self._story.north.command("backup", str(self._trees / "data"), "--slp", policy)
        except StrongroomError as error:
            return "the backup", error
        self._newest = str(made["image"])
        self._facts["north"].images[self._newest] = ""
        return None

    def _free(self) -> list[tuple[str, StrongroomError] | None]:
        errors: list[tuple[str, StrongroomError] | None] = []
        for domain in self.domains:
            errors += [self._expire(domain.name), self._ask(domain.name, "POST", f"/pools/{POOL}/collect")]
        self._groups += 1
        errors.append(self._ask("north", "POST", "/kms/groups", {"name": f"group-{self._groups}"}))
        if self._random.random() < 0.3:
            errors.append(self._back_up_briefly())
        return errors

    def _ask(
        self, domain: str, method: str, path: str, body: dict[str, object] | None = None
    ) -> tuple[str, StrongroomError] | None:
        try:
            self._asking[domain].ask(method, path, body or {})
        except StrongroomError as error:
            return path, error
        return None

    def _expire(self, name: str) -> tuple[str, StrongroomError] | None:
        """Let the oldest image of a domain go, if there are enough."""
        facts = self._facts[name]
        if len(facts.images) <= _LEFT_ALONE:
            return None
        image = next(iter(facts.images))
        del facts.images[image]  # from here on it may be gone
        failed = self._ask(name, "POST", f"/images/{image}/expire", {"copy": None, "reason": "durability"})
        if failed is None:
            facts.expired.append(image)
        elif failed[1].code in _KEPT:
            facts.images[image] = ""
        return failed

    def _back_up_briefly(self) -> tuple[str, StrongroomError] | None:
        tree = self._trees / "brief"
        change(tree, f"brief-{self._random.randrange(1 << 32):08x}")
        try:
            self._brief.append(str(self._story.north.command("backup", str(tree), "--slp", BRIEF)["image"]))
        except StrongroomError as error:
            return "the brief backup", error
        return None

    def _is_over(self) -> bool:
        return not any(map(_open_jobs, self.domains)) and all(self._is_confirmed(one) for one in self._sent())

    # ------------------------------------------------------------ looks

    def _look(self) -> Iterator[str]:
        for asking in self._asking.values():
            asking.wait()
        for domain in self.domains:
            if not until(lambda domain=domain: not _open_jobs(domain)):  # type: ignore[misc]
                yield f"{domain.name}: jobs do not end: {_open_jobs(domain)}"
            for failed in _rows(domain, "SELECT id, kind, error FROM jobs WHERE error LIKE '%internal%'"):
                yield f"{domain.name}: a job failed, and not in words: {failed}"
            incoming = domain.home / "pools" / POOL / INCOMING
            if not until(lambda incoming=incoming: not any(incoming.iterdir())):  # type: ignore[misc]
                yield f"{domain.name}: {[path.name for path in incoming.iterdir()]} lie in incoming, and nobody writes"
        for image in self._sent():
            if not until(lambda image=image: self._is_confirmed(image)):  # type: ignore[misc]
                yield f"{image}: no receipt"
            elif image not in self._facts["south"].expired:
                self._facts["south"].images[image] = ""
        for domain in self.domains:
            facts = self._facts[domain.name]
            complete = self._complete(domain)
            for image in facts.images.keys() - complete:
                yield f"{domain.name}: {image} is not complete any more"
            for image in complete.intersection(facts.expired):
                yield f"{domain.name}: {image} was expired, and is back"
            if self._newest:
                job = self._asking[domain.name].run(f"/images/{self._newest}/verify")
                if job["state"] != "done" or (job.get("result") or {}).get("problems"):
                    yield f"{domain.name}: {self._newest} verified: {job}"
        if self._newest and self._random.random() < _RESTORED:
            restored = self.scratch / "restored"
            shutil.rmtree(restored, ignore_errors=True)
            self._story.north.command("restore", self._newest, "--to", str(restored))
            for difference in differences(self._trees / "data", restored / (self._trees / "data").relative_to("/")):
                yield f"{self._newest} restored: {difference}"

    def _look_at_what_is_free(self) -> Iterator[str]:
        if not until(lambda: not self._complete(self._story.north).intersection(self._brief)):
            yield "images whose time is over do not go"
        for domain in self.domains:
            if not until(lambda domain=domain: not _going(domain)):  # type: ignore[misc]
                yield f"{domain.name}: expired images do not leave their pool: {_going(domain)}"
        for domain in self.domains:
            if not until(lambda domain=domain: not _open_jobs(domain)):  # type: ignore[misc]
                yield f"{domain.name}: jobs do not end: {_open_jobs(domain)}"
        for domain in self.domains:
            yield from check_served.collected_problems(domain)

    def _complete(self, domain: DemoDomain) -> set[str]:
        """Give the images of which a domain has a complete copy of its own."""
        query = "SELECT image FROM copies WHERE state = 'complete' AND domain = ?"
        found = _rows(domain, query, bytes.fromhex(self._story.ids[domain.name]))
        return {to_text(ImageId(row[0])) for row in found}

    def _sent(self) -> list[str]:
        return list(self._facts["north"].images) if self._story.south else []

    def _is_confirmed(self, image: str) -> bool:
        query = "SELECT 1 FROM replications WHERE image = ? AND state = 'confirmed'"
        return bool(_rows(self._story.north, query, from_text(image)))


def _is_without_words(error: StrongroomError) -> bool:
    """Tell whether a command just broke off, or the product did not expect what happened."""
    return isinstance(error, CommandFailedError) or error.code == "core.error" or error.code.endswith(".internal")


def until(found: Callable[[], bool]) -> bool:
    """Wait until something is so; tell whether it came to be."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not found():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _open_jobs(domain: DemoDomain) -> list[tuple[Any, ...]]:
    return _rows(domain, "SELECT id, kind, state FROM jobs WHERE state IN ('queued', 'waiting', 'running')")


def _going(domain: DemoDomain) -> list[tuple[Any, ...]]:
    return _rows(domain, "SELECT image, state FROM copies WHERE state = 'expired'")


def _rows(domain: DemoDomain, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a catalog beside its primary, which need not run."""
    connection = sqlite3.connect(domain.home / "catalog.db", timeout=20)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()
