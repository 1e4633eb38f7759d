"""What can go wrong with an image."""

from __future__ import annotations

from strongroom.core.errors import InputError, IntegrityError, NotFoundError


class BadStreamError(InputError):
    """The client sent something that makes no image."""

    code = "images.bad-stream"
    default_hint = "run the backup again; if it happens again, client and media server may be of different releases"


class NotSameError(InputError):
    """The client called a file unchanged that the previous image does not have so."""

    code = "images.not-same"
    default_hint = "run the backup again; if it happens again, without the previous image ('--full-read')"


class BrokenImageError(IntegrityError):
    """Entries and payload of an image do not fit together."""

    code = "images.broken"
    default_hint = "verify the image ('strongroom image verify'), and restore from another copy"


class EnvelopeMissingError(NotFoundError):
    """No key envelope in the pool holds a data key that the image needs."""

    code = "images.envelope-missing"
    default_hint = "verify the image ('strongroom image verify'); a peer's copy still has the envelope"


class NoSuchCopyError(NotFoundError):
    """The pool has no such copy of an image."""

    code = "images.no-such-copy"
    default_hint = "'strongroom image show IMAGE' lists the copies and where they lie"
