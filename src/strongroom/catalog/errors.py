"""What can be wrong with what the catalog is asked.

catalog.image-not-found      no image has this identity
catalog.copy-not-found       the image has no such copy here
catalog.medium-not-found     no medium has this identity
catalog.medium-conflict      a medium of this identity is known with another owner or kind
catalog.lease-lost           the session may not commit any more; its data must be stored again
catalog.wrong-state          the copy's state forbids this step
catalog.header-mismatch      a header names something else than the session or its neighbour
catalog.conflict             the same image or fragment is known with other content
catalog.tombstoned           the copy was expired, and does not come back
catalog.bad-text             a text in a header cannot be kept
catalog.expiry-refused       a rule keeps the copy
catalog.journal-broken       a batch does not continue the journal
catalog.sending-not-found    nothing was sent under this identity
catalog.no-file-list         the image's file list has not been made yet
catalog.file-list-damaged    the file list is not what was written, or belongs to another key
catalog.file-list-storage    the file list could not be written or removed
catalog.bad-pattern          a search pattern cannot be read
"""

from __future__ import annotations

from strongroom.core.errors import InputError, IntegrityError, NotFoundError, RefusedError, ResourceError


class ImageNotFoundError(NotFoundError):
    """No image has this identity."""

    code = "catalog.image-not-found"
    default_hint = "List the images with 'strongroom image list'."


class CopyNotFoundError(NotFoundError):
    """The image has no such copy in this catalog."""

    code = "catalog.copy-not-found"
    default_hint = "Show the image's copies with 'strongroom image show'."


class MediumNotFoundError(NotFoundError):
    """No medium has this identity."""

    code = "catalog.medium-not-found"
    default_hint = "List the pools with 'strongroom pool list'."


class MediumConflictError(RefusedError):
    """A medium of this identity is known, and is another's or of another kind."""

    code = "catalog.medium-conflict"
    default_hint = "Compare the media header with 'strongroom inspect'; one of the two is not genuine."


class LeaseLostError(RefusedError):
    """The session's lease or epoch is gone: what it stored may have been collected."""

    code = "catalog.lease-lost"
    default_hint = "Run the job again; what is still in the pool is not stored twice."


class WrongStateError(RefusedError):
    """The copy is not in a state in which this step is possible."""

    code = "catalog.wrong-state"
    default_hint = "Show the copy's state with 'strongroom image show'."


class HeaderMismatchError(IntegrityError):
    """A header names another copy, medium or image than the one it was given for."""

    code = "catalog.header-mismatch"
    default_hint = "Look at the header with 'strongroom inspect'; the medium may hold a file that was moved."


class ConflictError(IntegrityError):
    """The same image or fragment is known already, with other content."""

    code = "catalog.conflict"
    default_hint = "Look at both headers with 'strongroom inspect'; both are signed, so find out who signed twice."


class TombstonedError(RefusedError):
    """The copy was expired, and an import does not bring it back."""

    code = "catalog.tombstoned"
    default_hint = "Nothing is to be done; the medium's next clean-up removes the file."


class TextError(IntegrityError):
    """A text in a header holds a character that a database cannot keep."""

    code = "catalog.bad-text"
    default_hint = "The header was made by a defective program; its image can be read with 'strongroom inspect'."


class ExpiryRefusedError(RefusedError):
    """A rule keeps the copy: hold, lock, an open promise, a missing confirmation, or another owner."""

    code = "catalog.expiry-refused"


class JournalBrokenError(IntegrityError):
    """A batch does not continue the journal of its medium."""

    code = "catalog.journal-broken"
    default_hint = "Copies of this medium stay until an administrator has confirmed their expiry."


class SendingNotFoundError(NotFoundError):
    """Nothing was sent from here under this identity."""

    code = "catalog.sending-not-found"
    default_hint = "The receipt may be of another domain's sending; look at it with 'strongroom inspect'."


class NoFileListError(NotFoundError):
    """The image's file list has not been made yet."""

    code = "catalog.no-file-list"
    default_hint = "Run 'strongroom import phase2' for this image; it needs the image's keys."


class FileListDamagedError(IntegrityError):
    """The file list is missing or changed, or was written under another catalog key."""

    code = "catalog.file-list-damaged"
    default_hint = "Make it again with 'strongroom import phase2'."


class PatternError(InputError):
    """A search pattern cannot be read."""

    code = "catalog.bad-pattern"
    default_hint = "Use '*', '?', '[a-z]' and '**'; a backslash takes the next character as it is."


class FileListStorageError(ResourceError):
    """The file list could not be written or removed."""

    code = "catalog.file-list-storage"
    default_hint = "Free space on the disk that holds the catalog, and check that it is not read-only."
