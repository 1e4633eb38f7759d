"""Backup and restore in the command's own process, against a real socket that keeps what comes."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.exits import WITH_PROBLEMS
from strongroom.client.sender import Totals
from strongroom.core.errors import AuthenticationError, KeyUnavailableError, RefusedError, ResourceError
from tests.support.contract_server import Asked, Contract
from tests.support.image_loop import Image, keep
from tests.unit.cli.conftest import Domain

IMAGE = "0a4ff09a-2f0c-4bbd-8f4c-8d6a2c9d5c11"


@dataclass
class MediaServer:
    """Keeps the last image that came."""

    domain: Domain
    image: Image | None = None
    previous_started: str | None = None

    def attach(self) -> None:
        primary, media = self.domain.primary, self.domain.media
        primary.routes["POST /backups"] = self.begin
        primary.routes["POST /restores"] = lambda _: self.grant() | {"files": 1, "bytes": 1}
        primary.routes["POST /jobs/7/cancel"] = {}
        primary.routes["GET /jobs/7"] = {"job": 7, "state": "running"}
        media.routes["GET /backup/7/previous"] = lambda _: iter(self.kept().previous_stream())
        media.routes["POST /backup/7"] = self.store
        media.routes["GET /restore/7"] = lambda _: iter(self.kept().restore_stream())

    def grant(self) -> dict[str, Any]:
        return {"job": 7, "token": "grant", "media_socket": str(self.domain.media_socket)}

    def begin(self, _: Asked) -> dict[str, Any]:
        found = self.grant() | {"image": IMAGE, "previous": self.image is not None}
        return found | ({"previous_started": self.previous_started} if self.image and self.previous_started else {})

    def kept(self) -> Image:
        assert self.image is not None
        return self.image

    def store(self, asked: Asked) -> dict[str, Any]:
        assert asked.token == "grant"
        # The sender's totals are not here: they are what the stream says at its end.
        self.image = _keep(asked.body, self.image)
        return {
            "image": IMAGE,
            "files": len(self.image.files),
            "content_bytes": sum(file.entry.size for file in self.image.files),
            "read_bytes": 1,
            "same_bytes": 2,
            "added_bytes": 3,
            "problems": len(self.image.problems),
            "acknowledged": True,
        }


def _keep(blocks: Iterator[bytes], previous: Image | None) -> Image:
    from strongroom.formats.image_stream import StreamEnd, read_blocks

    data = b"".join(blocks)
    (end,) = (block for block in read_blocks([data]) if isinstance(block, StreamEnd))
    return keep([data], Totals(files=end.files, content=end.content, problems=end.problems), previous)


@pytest.fixture
def media(domain: Domain, monkeypatch: pytest.MonkeyPatch) -> MediaServer:
    monkeypatch.setattr("strongroom.cli.jobs.REASON_SECONDS", 0.1)
    monkeypatch.setattr("strongroom.cli.jobs.POLL_SECONDS", 0.01)
    server = MediaServer(domain)
    server.attach()
    return server


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_bytes(b"hello" * 1000)
    (root / "sub" / "b.txt").write_bytes(b"")
    (root / "sub" / "link").symlink_to("../a.txt")
    with open(os.fsencode(root) + b"/odd-\xff\x1b", "wb") as file:  # noqa: PTH123 - the name is bytes
        file.write(b"odd")
    return root


def test_a_backup_restored_elsewhere_is_the_same_tree(domain: Domain, media: MediaServer, tree: Path) -> None:
    found = domain.json("backup", str(tree), "--slp", "daily")
    assert found["acknowledged"] is True
    assert (found["image"], found["files"], found["problems"], found["problem_files"]) == (IMAGE, 6, 0, [])
    order = domain.primary.body("POST /backups")
    assert order == {"paths_b64": [base64.b64encode(os.fsencode(tree)).decode()], "slp": "daily"}
    target = tree.parent / "restored"
    told = domain.json("restore", IMAGE, "--to", str(target))
    # The folders on the way to the root of the backup are none of its files.
    assert (told["problems"], told["to"]) == (0, str(target))
    restored = target / tree.relative_to("/")
    assert subprocess.run(["diff", "-r", "--no-dereference", tree, restored], check=False).returncode == 0


def test_a_relative_path_is_of_the_working_folder(
    domain: Domain, media: MediaServer, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    domain.json("backup", "sub", "--slp", "daily", "--client", "c1")
    assert domain.primary.body("POST /backups") == {
        "paths_b64": [base64.b64encode(os.fsencode(tree / "sub")).decode()],
        "slp": "daily",
        "client": "c1",
    }


def test_what_did_not_change_is_not_sent_again_and_full_read_sends_all(
    domain: Domain, media: MediaServer, tree: Path
) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    media.previous_started = "2099-01-01T00:00:00Z"  # long after the files were written
    domain.json("backup", str(tree), "--slp", "daily")
    assert "GET /backup/7/previous" in domain.media.paths()
    domain.media.asked.clear()
    domain.json("backup", str(tree), "--slp", "daily", "--full-read")
    assert domain.media.paths() == ["POST /backup/7"]


def test_a_file_written_in_the_moment_before_the_previous_backup_is_read_again(
    domain: Domain, media: MediaServer, tree: Path
) -> None:
    def same_blocks(started: str) -> int:
        from strongroom.formats.image_stream import Same, read_blocks

        seen: list[int] = []

        def store(asked: Asked) -> dict[str, Any]:
            data = b"".join(asked.body)
            runs = [run for block in read_blocks([data]) if isinstance(block, Same) for run in block.runs]
            seen.append(sum(count for _, count in runs))
            return {"image": IMAGE, "acknowledged": True}

        media.previous_started = started
        domain.media.routes["POST /backup/7"] = store
        domain.json("backup", str(tree), "--slp", "daily")
        return seen[0]

    domain.json("backup", str(tree), "--slp", "daily")
    assert same_blocks("2099-01-01T00:00:00Z") == 6
    assert same_blocks("2001-01-01T00:00:00Z") == 0


def test_without_the_start_of_the_previous_backup_everything_is_read(
    domain: Domain, media: MediaServer, tree: Path
) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    domain.media.asked.clear()
    domain.json("backup", str(tree), "--slp", "daily")
    assert domain.media.paths() == ["POST /backup/7"]


def test_problems_are_listed_and_end_with_10(domain: Domain, media: MediaServer, tree: Path) -> None:
    missing = tree.parent / "gone\x1b[2J"
    result = domain.run("backup", str(tree), str(missing), "--slp", "daily")
    assert result.exit_code == WITH_PROBLEMS
    assert "gone\\x1b[2J: it was listed, and is gone or replaced now [client.vanished]" in result.stderr
    media.image = None
    found = domain.json("backup", str(tree), str(missing), "--slp", "daily", exit_code=WITH_PROBLEMS)
    assert found["problems_by_code"] == {"client.vanished": 1}
    assert base64.b64decode(found["problem_files"][0]["path_b64"]) == os.fsencode(missing)


def test_no_usable_key_is_no_backup(domain: Domain, media: MediaServer, tree: Path) -> None:
    def refuse(_: Asked) -> object:
        raise KeyUnavailableError("the group has no active key")

    domain.primary.routes["POST /backups"] = refuse
    assert domain.run("backup", str(tree), "--slp", "daily").exit_code == 7
    assert domain.media.asked == []


def test_a_refusal_in_the_middle_of_the_stream_is_told_as_it_was_given(
    domain: Domain, media: MediaServer, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(24 << 20))

    def refuse(asked: Asked) -> object:
        next(asked.body)
        refused = ResourceError("the pool is full", hint="make room")
        refused.code = "pool.full"
        raise refused

    domain.media.routes["POST /backup/7"] = refuse
    document = domain.json("backup", str(tmp_path / "large"), "--slp", "daily", exit_code=9)
    assert (document["code"], document["hint"]) == ("pool.full", "make room")
    assert "POST /jobs/7/cancel" in domain.primary.paths()


def test_an_image_that_is_not_acknowledged_is_no_success(domain: Domain, media: MediaServer, tree: Path) -> None:
    domain.media.routes["POST /backup/7"] = lambda asked: {"image": IMAGE, "files": len(list(asked.body))}
    assert domain.json("backup", str(tree), "--slp", "daily", exit_code=8)["code"] == "cli.not-acknowledged"


def test_a_media_server_that_is_not_there_is_unavailable(domain: Domain, media: MediaServer, tree: Path) -> None:
    media.domain.media_socket = tree / "no-socket"
    assert domain.json("backup", str(tree), "--slp", "daily", exit_code=8)["code"] == "cli.unreachable"
    assert "POST /jobs/7/cancel" in domain.primary.paths()


def test_a_bad_pattern_makes_no_job(domain: Domain, media: MediaServer, tree: Path) -> None:
    assert domain.run("backup", str(tree), "--slp", "daily", "--exclude", "[").exit_code == 2
    assert domain.primary.asked == []


def test_tar_to_standard_output_is_nothing_but_the_tar(domain: Domain, media: MediaServer, tree: Path) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    result = domain.run("restore", IMAGE, "--tar", "-")
    assert result.exit_code == 0, result.stderr
    with tarfile.open(fileobj=io.BytesIO(result.stdout_bytes)) as tar:
        names = tar.getnames()
        member = tar.extractfile(str(tree.relative_to("/") / "a.txt"))
        assert member is not None
        assert member.read() == b"hello" * 1000
    assert len(names) == 6
    assert domain.run("restore", IMAGE, "--tar", "-", "--json").exit_code == 2


def test_tar_to_a_file_has_its_name_only_when_it_is_whole(domain: Domain, media: MediaServer, tree: Path) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    tar = tree.parent / "image.tar"
    found = domain.json("restore", IMAGE, "--tar", str(tar))
    assert found["tar_bytes"] == tar.stat().st_size
    assert domain.json("restore", IMAGE, "--tar", str(tar), exit_code=4)["code"] == "cli.target-exists"
    assert domain.run("restore", IMAGE, "--tar", str(tar), "--overwrite").exit_code == 0
    whole = tar.read_bytes()
    _break_off(domain.media, media)
    assert domain.run("restore", IMAGE, "--tar", str(tar), "--overwrite").exit_code == 8
    assert tar.read_bytes() == whole
    assert sorted(path.name for path in tree.parent.iterdir() if "image.tar" in path.name) == ["image.tar"]


def test_a_restore_of_some_paths_asks_for_them_and_writes_no_others(
    domain: Domain, media: MediaServer, tree: Path
) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    target = tree.parent / "some"
    wanted = tree / "sub"
    domain.json("restore", IMAGE, str(wanted), "--to", str(target), "--copy", "2")
    assert domain.primary.body("POST /restores") == {
        "image": IMAGE,
        "paths_b64": [base64.b64encode(os.fsencode(wanted)).decode()],
        "copy": 2,
    }
    restored = target / tree.relative_to("/")
    assert sorted(path.name for path in restored.iterdir()) == ["sub"]


def test_existing_files_stay_and_the_restore_ends_with_10(domain: Domain, media: MediaServer, tree: Path) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    target = tree.parent / "restored"
    domain.json("restore", IMAGE, "--to", str(target))
    (target / tree.relative_to("/") / "a.txt").write_text("mine")
    found = domain.json("restore", IMAGE, "--to", str(target), exit_code=WITH_PROBLEMS)
    assert found["problems_by_code"]["client.exists"] == 4
    assert (target / tree.relative_to("/") / "a.txt").read_text() == "mine"
    domain.json("restore", IMAGE, "--to", str(target), "--overwrite")
    assert (target / tree.relative_to("/") / "a.txt").read_bytes() == b"hello" * 1000


def test_a_restore_that_breaks_off_tells_what_the_job_says(domain: Domain, media: MediaServer, tree: Path) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    _break_off(domain.media, media)
    target = str(tree.parent / "restored")
    assert domain.json("restore", IMAGE, "--to", target, exit_code=8)["code"] == "client.stream-lost"
    error = {"code": "pool.frame-damaged", "message": "a frame is damaged", "hint": "restore copy 2", "retry": "never"}
    domain.primary.routes["GET /jobs/7"] = {"job": 7, "state": "failed", "error": error}
    document = domain.json("restore", IMAGE, "--to", target, exit_code=11)
    assert document["hint"] == "restore copy 2"
    assert document["context"] == {"job": "7", "code": "pool.frame-damaged"}


def test_what_the_job_says_is_told_when_the_session_ended_during_the_work(
    domain: Domain, media: MediaServer, tree: Path
) -> None:
    """A session of the local socket lasts ten minutes, a restore may take hours."""
    domain.json("backup", str(tree), "--slp", "daily")
    domain.primary.asked.clear()
    _break_off(domain.media, media)
    error = {"code": "pool.frame-damaged", "message": "a frame is damaged", "hint": "restore copy 2", "retry": "never"}

    def over(then: object) -> Any:
        def answer(_: Asked) -> object:
            if domain.primary.paths().count("POST /session") < 2:
                raise AuthenticationError("the session is over")
            if isinstance(then, Exception):
                raise then
            return then

        return answer

    domain.primary.routes["GET /jobs/7"] = over({"job": 7, "state": "failed", "error": error})
    ended = RefusedError("job 7 has ended: failed")
    ended.code = "jobs.ended"
    domain.primary.routes["POST /jobs/7/cancel"] = over(ended)
    result = domain.run("restore", IMAGE, "--to", str(tree.parent / "restored"))
    assert result.exit_code == 11
    assert "a frame is damaged" in result.stderr
    assert "not cancelled" not in result.stderr


def test_an_interrupted_restore_cancels_its_job_even_when_the_session_is_over(
    domain: Domain, media: MediaServer, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    domain.primary.asked.clear()
    cancelled = []

    def cancel(_: Asked) -> object:
        if domain.primary.paths().count("POST /session") < 2:
            raise AuthenticationError("the session is over")
        cancelled.append(7)
        return {}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    domain.primary.routes["POST /jobs/7/cancel"] = cancel
    monkeypatch.setattr("strongroom.client.restorer.Restorer.restore", interrupt)
    assert domain.run("restore", IMAGE, "--to", str(tree.parent / "restored")).exit_code == 130
    assert cancelled == [7]


def test_a_stream_without_its_end_is_not_a_restore(domain: Domain, media: MediaServer, tree: Path) -> None:
    domain.json("backup", str(tree), "--slp", "daily")
    pieces = list(media.kept().restore_stream())
    domain.media.routes["GET /restore/7"] = lambda _: iter(pieces[:-1])
    domain.primary.routes["GET /jobs/7"] = {"job": 7, "state": "done"}
    assert domain.run("restore", IMAGE, "--to", str(tree.parent / "restored")).exit_code == 6


def test_a_restore_has_one_target(domain: Domain, media: MediaServer) -> None:
    assert domain.run("restore", IMAGE).exit_code == 2
    assert domain.run("restore", IMAGE, "--to", "/x", "--tar", "-").exit_code == 2
    assert domain.run("restore", IMAGE, "relative/path", "--to", "/x").exit_code == 2
    assert domain.run("restore", IMAGE, "--tar", "/x", "--owners-by-name").exit_code == 2
    assert domain.primary.asked == []


def test_what_the_media_server_refuses_ends_a_restore(domain: Domain, media: MediaServer, tree: Path) -> None:
    def refuse(_: Asked) -> object:
        raise RefusedError("the copy is not here")

    domain.media.routes["GET /restore/7"] = refuse
    assert domain.run("restore", IMAGE, "--to", str(tree)).exit_code == 4


def _break_off(contract: Contract, media: MediaServer) -> None:
    """Let the stream end in the middle, without a last chunk."""

    def broken(_: Asked) -> Iterator[bytes | None]:
        yield from list(media.kept().restore_stream())[:3]
        yield None

    contract.routes["GET /restore/7"] = broken
