"""The programs that strongroom is measured beside: restic and borg, each put into a folder of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SUITE = "trixie"
_BORG_NEEDS = ("gcc", "pkg-config", "libacl1-dev", "liblz4-dev", "libssl-dev", "libxxhash-dev", "libzstd-dev")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True)
class Peers:
    """Where the programs are.

    Attributes:
        restic: path of the program.
        borg: path of the program.
        versions: what each says of itself.
    """

    restic: Path
    borg: Path
    versions: dict[str, str]


def install(folder: Path) -> Peers:
    """Install what is not there yet: the newest restic of Debian that runs here, and borg 1.4 of PyPI.

    Raises:
        subprocess.CalledProcessError: a registry did not give it.
    """
    restic = _restic(folder / "restic")
    borg = _borg(folder / "borg")
    versions = {
        "restic": _said(str(restic), "version"),
        "borg": _said(str(borg), "--version"),
        "tar": _said("tar", "--version").splitlines()[0],
        "zstd": _said("zstd", "--version"),
    }
    return Peers(restic, borg, versions)


def _restic(folder: Path) -> Path:
    """Take the package of a later Debian beside the system's own lists; the program is one static file."""
    program = folder / "usr/bin/restic"
    if program.exists():
        return program
    for name in ("lists/partial", "cache/archives/partial", "sources"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources/list.sources"
    sources.write_text(
        f"Types: deb\nURIs: {_mirror()}\nSuites: {_SUITE}\nComponents: main\nSigned-By: {_KEYRING}\n",
        encoding="ascii",
    )
    options = [
        f"-oDir::Etc::sourcelist={sources}",
        "-oDir::Etc::sourceparts=-",
        f"-oDir::State::lists={folder / 'lists'}",
        f"-oDir::Cache={folder / 'cache'}",
        "-oAPT::Sandbox::User=root",
    ]
    _run(["apt-get", "-qq", *options, "update"], folder)
    _run(["apt-get", "-qq", *options, "download", "restic"], folder)
    (package,) = folder.glob("restic_*.deb")
    _run(["dpkg-deb", "-x", str(package), str(folder)], folder)
    return program


def _mirror() -> str:
    """Take the mirror that this system's own lists name first."""
    for line in _said("apt-get", "indextargets", "--format", "$(REPO_URI)").splitlines():
        if line.rstrip("/").endswith("/debian"):
            return line
    raise SystemExit("bench: error: apt knows no Debian mirror; run 'apt-get update' once")


def _borg(folder: Path) -> Path:
    program = folder / "bin/borg"
    if not program.exists():
        missing = [name for name in _BORG_NEEDS if not _is_installed(name)]
        if missing:
            _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], None)
        _run([sys.executable, "-m", "venv", str(folder)], None)
        _run([str(folder / "bin/pip"), "install", "-q", "--disable-pip-version-check", "borgbackup>=1.4,<1.5"], None)
    return program


def _is_installed(package: str) -> bool:
    words = ["dpkg-query", "-W", "-f", "${Status}", package]
    return "ok installed" in subprocess.run(words, check=False, capture_output=True, text=True).stdout


def _run(words: list[str], folder: Path | None) -> None:
    subprocess.run(words, cwd=folder, check=True, stdin=subprocess.DEVNULL)


def _said(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
