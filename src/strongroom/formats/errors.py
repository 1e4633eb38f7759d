"""What can be wrong with bytes. Verification raises; it does not return ``False``."""

from __future__ import annotations

from strongroom.core.errors import IntegrityError, RefusedError


class DamagedError(IntegrityError):
    """The bytes do not follow their format: cut, changed, or never right."""

    code = "format.damaged"
    default_hint = "look at the file with 'strongroom inspect'; if another copy of the image exists, use that one"


class NewerFormatError(IntegrityError):
    """The bytes follow a later version of the format, or need a feature that this program lacks."""

    code = "format.newer"
    default_hint = "use a release of strongroom that is at least as new as the one that wrote this"


class SignatureError(DamagedError):
    """The signature, or the certificate beside it, does not hold."""

    code = "format.bad-signature"
    default_hint = "the object was changed after it was signed, or never signed by this domain: do not use it"


class ForeignError(IntegrityError):
    """The object is authentic, and belongs to another domain, medium or image than was asked for."""

    code = "format.foreign"
    default_hint = "compare the identities in the message with the ones you expect"


class RevokedError(IntegrityError):
    """The signature holds, and the domain has revoked the archive key that made it."""

    code = "format.revoked"
    default_hint = "an administrator must decide whether it is used: it may have been signed by whoever has the key"


class OutOfBoundsError(RefusedError):
    """A value that its format cannot hold was to be written."""

    code = "format.out-of-bounds"
    default_hint = "shorten the value that the message names"
