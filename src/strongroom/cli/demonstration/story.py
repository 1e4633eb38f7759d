"""The steps of the demonstration, each with its evidence."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from strongroom.cli.demonstration.compare import MOST_SHOWN, differences
from strongroom.cli.demonstration.domains import DemoDomain
from strongroom.core.errors import StrongroomError

PHRASE: Final = "granite umbrella violin harbour lantern mosaic"
WRONG_PHRASE: Final = "granite umbrella violin harbour lantern museum"
LONG_NAME: Final = "x" * 113
WAITING: Final = "waiting-for-key"
READABLE: Final = "readable"

Facts = dict[str, Any]


@dataclass
class Step:
    """One step, done."""

    name: str
    ok: bool
    seconds: float
    facts: Facts
    error: str | None = None


@dataclass
class Story:
    """The main job, from two empty folders to a restored tree.

    Args:
        folder: where everything is made.
        source: the folder to back up.
    """

    folder: Path
    source: Path
    identical: bool = False
    _images: dict[str, str] = field(default_factory=dict)
    _tag: str = ""

    def __post_init__(self) -> None:
        self.north = DemoDomain(self.folder, "north")
        self.south = DemoDomain(self.folder, "south")
        self.data = self.folder / "data"
        self.small = self.folder / "letters"
        self.carried = self.folder / "carried"

    def run(self) -> Iterator[Step]:
        """Do the steps in order; the first that fails is the last."""
        steps: tuple[tuple[str, Callable[[], Facts]], ...] = (
            ("two domains", self._make_domains),
            ("trust", self._make_trust),
            ("policies, credential, key", self._make_policies),
            ("backup, sealed replication", self._back_up),
            ("automatic import, waiting for key", self._see_import),
            ("second backup after changes", self._back_up_again),
            ("disaster, key from pass phrase, restore", self._recover_by_phrase),
            ("key from carried keystore, restore", self._recover_by_keystore),
        )
        for name, deed in steps:
            begun = time.monotonic()
            try:
                facts = deed()
            except StrongroomError as error:
                yield Step(name, False, time.monotonic() - begun, {}, f"{error.message} [{error.code}]")
                return
            yield Step(name, bool(facts.pop("ok", True)), time.monotonic() - begun, facts)

    def stop(self) -> None:
        """End both domains in order."""
        for domain in (self.north, self.south):
            domain.stop()

    # ------------------------------------------------------------ the steps

    def _make_domains(self) -> Facts:
        shutil.copytree(self.source, self.data, symlinks=True)
        _copy_owners_and_times(self.source, self.data)
        self.small.mkdir()
        (self.small / "to whom it may concern.txt").write_text("kept twice, read by few\n", encoding="utf-8")
        made = {domain.name: domain.init() for domain in (self.north, self.south)}
        for domain in (self.north, self.south):
            domain.start()
        return {
            name: {"domain": facts["domain"], "fingerprint_sha256": facts["fingerprint_sha256"]}
            for name, facts in made.items()
        }

    def _make_trust(self) -> Facts:
        north, south = self.north, self.south
        pins = {domain.name: domain.command("ca", "show")["fingerprint_sha256"] for domain in (north, south)}
        domains = {domain.name: domain.command("status")["domain"] for domain in (north, south)}
        tokens = {
            domain.name: domain.command(
                "token", "create", "for-the-other", "--purpose", "trust", "--reason", "demonstration"
            )["token"]
            for domain in (north, south)
        }
        wrong = "0" * 64
        refused = north.refusal(
            "trust", "add", south.peer, "--fingerprint", wrong, "--token-file", "-", secret=tokens["south"]
        )
        north.command(
            "trust", "add", south.peer, "--fingerprint", pins["south"], "--token-file", "-", secret=tokens["south"]
        )
        south.command(
            "trust", "add", north.peer, "--fingerprint", pins["north"], "--token-file", "-", secret=tokens["north"]
        )
        trusts = {
            domain.name: domain.wait_for(
                "active trust", "trust", "list", until=lambda found: bool(found) and found[0]["state"] == "active"
            )[0]
            for domain in (north, south)
        }
        media_token = south.command(
            "token", "create", "media-of-north", "--purpose", "enrol-foreign-media",
            "--reason", "demonstration", "--for-domain", domains["north"],
        )["token"]  # fmt: skip
        media = north.command(
            "cert", "issue", "--to", south.peer, "--fingerprint", pins["south"], "--token-file", "-", secret=media_token
        )
        return {
            "ok": refused.code == "pki.wrong-fingerprint",
            "wrong_fingerprint_refused_with": refused.code,
            **{f"{name}_holds": trust["held_certificate"] for name, trust in trusts.items()},
            "media_server_of_north_holds": {key: media[key] for key in ("issuer", "subject", "serial")},
        }

    def _make_policies(self) -> Facts:
        north, south = self.north, self.south
        south.command("pool", "create", "vault")
        too_long = south.refusal("slp", "create", LONG_NAME, "--import", "vault", "--retention", "target")
        south.command("slp", "create", "from-north", "--import", "vault", "--retention", "target")
        credential = south.command(
            "storage", "credential", "create", "north-to-vault", "--pool", "vault", "--sender", "north"
        )["secret"]
        target = north.command(
            "storage", "target", "add", "vault-of-south", "--peer", "south", "--pool", "vault", "--token-file", "-",
            secret=credential,
        )  # fmt: skip
        north.command("pool", "create", "pool")
        north.command("kms", "group", "create", "finance")
        not_there = north.refusal("slp", "create", "early", "--backup", "pool", "--retention", "30d",
                                    "--key-group", "finance", "--replicate-to", "south:nowhere")  # fmt: skip
        key = north.command(
            "kms", "key", "create", "finance-1", "--group", "finance", "--source", "passphrase",
            "--passphrase-file", "-", "--activate", secret=PHRASE,
        )  # fmt: skip
        self._tag = key["tag"]
        policy = north.command(
            "slp", "create", "nightly", "--backup", "pool", "--retention", "30d", "--key-group", "finance",
            "--replicate-to", "south:from-north",
        )  # fmt: skip
        north.command("kms", "group", "create", "letters")
        north.command("kms", "key", "create", "letters-1", "--group", "letters", "--source", "random", "--activate")
        north.command(
            "slp", "create", "letters", "--backup", "pool", "--retention", "30d", "--key-group", "letters",
            "--replicate-to", "south:from-north",
        )  # fmt: skip
        return {
            "ok": (too_long.code, not_there.code) == ("slp.bad-name", "slp.not-ready-there"),
            "name_of_113_characters_refused_with": too_long.code,
            "import_policy_that_is_not_there_refused_with": not_there.code,
            "target": {key: target[key] for key in ("name", "domain", "pool", "medium")},
            "key_tag": self._tag,
            "checked_with_peer": policy["checked_with_peer"],
        }

    def _back_up(self) -> Facts:
        north = self.north
        backup = north.command("backup", str(self.data), "--slp", "nightly")
        self._images["data"] = backup["image"]
        letters = north.command("backup", str(self.small), "--slp", "letters")
        self._images["letters"] = letters["image"]
        sent = north.wait_for(
            "replication of two images",
            "replication",
            "status",
            until=lambda rows: len(rows) == 2 and all(row["state"] in ("sent", "confirmed") for row in rows),
        )
        return {
            "image": backup["image"],
            "files": backup["files"],
            "content_bytes": backup["content_bytes"],
            "stored_bytes": backup["added_bytes"],
            "sent_bytes": _sent(sent, backup["image"]),
            "keys_at_target": len(self.south.command("kms", "key", "list")),
        }

    def _see_import(self) -> Facts:
        image = self._images["data"]
        found = self.south.wait_for("import of two images", "image", "list", until=lambda rows: len(rows) == 2)
        row = next(one for one in found if one["image"] == image)
        refused = self.south.refusal("restore", image, "--to", str(self.folder / "too-early"))
        self.north.wait_for(
            "receipts", "replication", "status", until=lambda rows: all(one["state"] == "confirmed" for one in rows)
        )
        waiting = self.south.command("import", "status", "--missing-keys")
        receipts = self.north.command("image", "show", image, "--receipts")
        return {
            "ok": row["state"] == WAITING and self._tag in row["key_tags"] and len(receipts) == 1,
            "state": row["state"],
            "key_tags": row["key_tags"],
            "restore_refused_with": refused.code,
            "missing_keys": [one["tag"] for one in waiting["by_tag"]],
            "receipts_at_source": [
                {key: one[key] for key in ("target_name", "state", "received", "verified")} for one in receipts
            ],
        }

    def _back_up_again(self) -> Facts:
        changed = _change_some_files(self.data)
        backup = self.north.command("backup", str(self.data), "--slp", "nightly")
        self._images["again"] = backup["image"]
        rows = self.north.wait_for(
            "replication of the second image",
            "replication",
            "status",
            until=lambda found: all(row["state"] == "confirmed" for row in found) and len(found) == 3,
        )
        return {
            "changed_files": changed,
            "content_bytes": backup["content_bytes"],
            "read_bytes": backup["read_bytes"],
            "unread_bytes": backup["same_bytes"],
            "stored_bytes": backup["added_bytes"],
            "sent_bytes": _sent(rows, backup["image"]),
        }

    def _recover_by_phrase(self) -> Facts:
        north, south = self.north, self.south
        north.command("kms", "keystore", "quiesce")
        self.carried.mkdir(mode=0o700)
        shutil.copy2(north.home / "kms" / "keystore", self.carried / "keystore")
        shutil.copytree(north.home.with_name(north.home.name + ".keys"), self.carried / "keys")
        north.command("kms", "keystore", "unquiesce")
        north.destroy(self.folder / "ashes")
        wrong = south.refusal(
            "kms", "key", "recover", self._tag, "--group", "finance", "--name", "finance-1",
            "--passphrase-file", "-", secret=WRONG_PHRASE,
        )  # fmt: skip
        south.command(
            "kms", "key", "recover", self._tag, "--group", "finance", "--name", "finance-1",
            "--passphrase-file", "-", secret=PHRASE,
        )  # fmt: skip
        listed = self._wait_readable("again")
        restored = self.folder / "restored"
        south.command("restore", self._images["again"], "--to", str(restored))
        found = list(_first(differences(self.data, restored / self.data.relative_to("/"))))
        self.identical = not found
        return {
            "ok": self.identical and wrong.code == "kms.wrong-pass-phrase" and listed > 0,
            "wrong_phrase_refused_with": wrong.code,
            "files_listed_from_encrypted_data": listed,
            "identical": self.identical,
            "differences": found,
        }

    def _recover_by_keystore(self) -> Facts:
        south = self.south
        report = south.command(
            "kms", "keystore", "import", str(self.carried / "keystore"), "--keys", str(self.carried / "keys")
        )
        listed = self._wait_readable("letters")
        restored = self.folder / "restored-letters"
        south.command("restore", self._images["letters"], "--to", str(restored))
        found = list(_first(differences(self.small, restored / self.small.relative_to("/"))))
        self.identical = self.identical and not found
        return {
            "ok": not found and listed > 0,
            "imported_tags": report["imported"],
            "skipped_tags": report["skipped"],
            "files_listed_from_encrypted_data": listed,
            "identical": not found,
            "differences": found,
        }

    def _wait_readable(self, name: str) -> int:
        """Wait until an image can be read and its file list is there; give how many files it lists."""
        image = self._images[name]
        self.south.wait_for(
            "a readable image",
            "image",
            "list",
            until=lambda rows: any(row["image"] == image and row["state"] == READABLE for row in rows),
        )
        jobs = self.south.wait_for(
            "phase two",
            "job",
            "list",
            until=lambda rows: any(
                row["kind"] == "list-files" and row["subject"] == image and row["state"] == "done" for row in rows
            ),
        )
        done = next(row for row in jobs if row["kind"] == "list-files" and row["subject"] == image)
        return int(self.south.command("job", "show", str(done["job"]))["result"]["files"])


def _first(found: Iterator[str]) -> Iterator[str]:
    for _, difference in zip(range(MOST_SHOWN), found, strict=False):
        yield difference


def _sent(rows: list[dict[str, Any]], image: str) -> int:
    return sum(int(row["bytes_sent"] or 0) for row in rows if row["image"] == image)


def _change_some_files(folder: Path) -> int:
    """Write into a few files, add one, remove one; give how many were touched."""
    files = sorted(path for path in folder.rglob("*") if not path.is_symlink() and path.is_file())
    chosen = files[:: max(1, len(files) // 10)][:10]
    for path in chosen[:-1]:
        with path.open("ab") as file:
            file.write(b"\n# a change\n")
    for path in chosen[-1:]:  # none, when the folder holds no file
        path.unlink()
    (folder / "a new file.txt").write_text("new\n", encoding="utf-8")
    return len(chosen) + 1


def _copy_owners_and_times(source: Path, copy: Path) -> None:
    """Give the copy's folders and links the owners and times that ``copytree`` leaves out."""
    for path in sorted([copy, *copy.rglob("*")], reverse=True):
        original = source / path.relative_to(copy)
        status = original.lstat()
        if os.geteuid() == 0:
            os.chown(path, status.st_uid, status.st_gid, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(status.st_mode & 0o7777)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
