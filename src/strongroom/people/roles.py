"""Roles, as one table of permissions; a permission is ``noun.verb``.

    administrator   everything but taking keys out of the domain
    security        trust, keys, certificates, users, audit
    operator        daily work: backup, restore, jobs, media; reads most, changes no rule

``image.redirect`` is to restore, or mount, on a client that is not the one that the image is of; it goes with
``image.restore``, and operators do not have it: else each of them could read every client's files.

``image.unlock`` and ``pool.unlock`` are to lift a governance lock of a pool; no permission lifts a compliance lock.

Administrators and security manage users, so each can make himself the other; what keeps them from it is the evidence.
The table has the verbs of the whole product; those that no command has yet permit nothing.

``read`` is one verb of every noun; ``*`` in the table stands for all verbs of a noun.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

NOUNS: Final[Mapping[str, frozenset[str]]] = {
    noun: frozenset(verbs.split())
    for noun, verbs in {
        "alarm": "read acknowledge",
        "approval": "read give",
        "audit": "read verify",
        "catalog": "read check rebuild",
        "certificate": "read issue renew reissue revoke",
        "config": "read change",
        "dr": "read package",
        "host": "read enrol suspend retire",
        "image": "read backup restore redirect duplicate verify hold release expire lock unlock import recall export",
        "job": "read cancel resume report",
        "key": "read create activate deactivate deprecate terminate destroy recover export",
        "keystore": "read quiesce export import",
        "media": "read label inventory erase",
        "policy": "read create change run delete",
        "pool": "read create scrub repair collect lock unlock",
        "replication": "read pause limit",
        "slp": "read create change activate simulate delete",
        "storage": "read grant rotate revoke target",
        "token": "read create revoke",
        "trust": "read add check change suspend remove",
        "user": "read create change delete",
    }.items()
}
"""Every permission there is: the verbs of each noun."""


class UserRole(StrEnum):
    """Role of a person."""

    ADMINISTRATOR = "administrator"
    SECURITY = "security"
    OPERATOR = "operator"


_SECURITY: Final = """
    alarm.* approval.* audit.* certificate.* host.* key.* keystore.* token.* trust.* user.*
    config.read image.read image.hold job.read policy.read pool.read replication.read slp.read
    storage.read storage.revoke
"""
_OPERATOR: Final = """
    alarm.* job.*
    image.read image.backup image.restore image.duplicate image.verify image.import
    media.read media.label media.inventory policy.read policy.run pool.read pool.scrub
    replication.read replication.pause slp.read slp.simulate catalog.read catalog.check trust.read trust.check
    certificate.read config.read dr.read host.read key.read keystore.read storage.read
"""
_SECURITY_ONLY: Final = frozenset({"key.export", "keystore.export"})


def _expand(words: str) -> frozenset[str]:
    found: set[str] = set()
    for word in words.split():
        noun, _, verb = word.partition(".")
        verbs = NOUNS[noun] if verb == "*" else NOUNS[noun] & {verb}
        if not verbs:
            raise ValueError(f"'{word}' is no permission")
        found |= {f"{noun}.{one}" for one in verbs}
    return frozenset(found)


ALL_PERMISSIONS: Final = _expand(" ".join(f"{noun}.*" for noun in NOUNS))

PERMISSIONS: Final[Mapping[UserRole, frozenset[str]]] = {
    UserRole.ADMINISTRATOR: ALL_PERMISSIONS - _SECURITY_ONLY,
    UserRole.SECURITY: _expand(_SECURITY),
    UserRole.OPERATOR: _expand(_OPERATOR),
}
"""What each role may do."""
