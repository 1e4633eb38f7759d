"""The keystore as a file: quiescing it for a copy, and taking in one that was carried here."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from strongroom.api.errors import BadRequestError
from strongroom.api.fields import Answer, Body, Line, Password, secret, text
from strongroom.api.routing import Routes
from strongroom.api.security import Caller, CallerDep
from strongroom.core.errors import NotFoundError
from strongroom.core.ids import to_text
from strongroom.core.secret import Secret
from strongroom.formats import keystore
from strongroom.formats.passphrase import normalise
from strongroom.kms.keyfolder import KeyFolder
from strongroom.kms.states import KeyState
from strongroom.kms.transfer import ImportReport

routes = Routes("kms")


class KeystoreFileError(NotFoundError):
    """The keystore that was carried here cannot be read."""

    code = "kms.carried-keystore"
    default_hint = "give the path on the primary's host, readable for the user that runs strongroom"


class Quiesced(Answer):
    """How many times 'unquiesce' is due before keys can be changed again."""

    outstanding: int


class CarriedKeystore(Body):
    """Where a carried keystore lies, on the primary's host."""

    path: Line = Field(description="the keystore file")
    keys_path: Line = Field(description="the folder of its key files")
    hmk_passphrase: Password | None = None
    kpk_passphrase: Password | None = None
    preview: bool = Field(default=False, description="only tell what would be done")


class ImportedKey(Answer):
    """A key that was not here, and the state that it enters."""

    tag: str
    state: KeyState


class ImportedGroup(Answer):
    """A group that is new here; it has another name than there when its name was taken."""

    group: str
    name: str


class Imported(Answer):
    """What was brought in; skipped keys were here already."""

    imported: list[ImportedKey]
    skipped: list[str]
    groups: list[ImportedGroup]
    preview: bool


@routes.post("/kms/keystore/quiesce", "keystore.quiesce")
def quiesce_keystore(caller: CallerDep) -> Quiesced:
    """Refuse changes of keys while the keystore file is copied; encrypting and decrypting go on."""
    return Quiesced(outstanding=caller.act(caller.parts.open_kms().quiesce))


@routes.post("/kms/keystore/unquiesce", "keystore.quiesce")
def unquiesce_keystore(caller: CallerDep) -> Quiesced:
    """Take back one 'quiesce'."""
    return Quiesced(outstanding=caller.act(caller.parts.open_kms().unquiesce))


@routes.post("/kms/keystore/import", "keystore.import")
def import_keystore(body: CarriedKeystore, caller: CallerDep) -> Imported:
    """Bring in the keys of another keystore, carried here with its key files; all or none.

    Groups and tags stay what they were, so that nothing has to be created anew.
    """
    report = caller.act(
        lambda: _bring(body, caller),
        facts={"path": body.path, "preview": body.preview},
        describe=lambda done: {"imported": len(done.imported), "skipped": len(done.skipped)},
    )
    return Imported(
        imported=[ImportedKey(tag=tag.hex(), state=state) for tag, state in report.imported],
        skipped=[tag.hex() for tag in report.skipped],
        groups=[ImportedGroup(group=to_text(group), name=name) for group, name in report.groups],
        preview=body.preview,
    )


def _bring(body: CarriedKeystore, caller: Caller) -> ImportReport:
    kms = caller.parts.open_kms()
    path, folder = Path(body.path), Path(body.keys_path)
    if not path.is_absolute() or not folder.is_absolute():
        raise BadRequestError("'path' and 'keys_path' are absolute paths on the primary's host")
    try:
        with path.open("rb") as file:
            data = file.read(keystore.MAX_BYTES + 1)
    except OSError as error:
        raise KeystoreFileError(f"the keystore '{body.path}' cannot be read: {error.strerror}") from error
    files = KeyFolder(folder, caller.parts.entropy)
    with caller.parts.slow.passed():
        hmk = files.load("hmk", _phrase(body.hmk_passphrase))
        kpk = files.load("kpk", _phrase(body.kpk_passphrase))
    return kms.import_keystore(data, hmk, kpk, preview=body.preview)


def _phrase(given: Password | None) -> Secret | None:
    return None if given is None else normalise(text(secret(given)))
