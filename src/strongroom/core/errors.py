"""The tree of errors, from which every error of the product descends.

    StrongroomError
    ├── InputError             the caller's words are wrong                  exit 2, HTTP 400
    ├── NotFoundError          the thing named does not exist                exit 3, HTTP 404
    ├── RefusedError           its state, or a rule, forbids it              exit 4, HTTP 409
    ├── AuthenticationError    the caller is not who it must be              exit 5, HTTP 401
    │   └── AuthorityError     the caller is known and may not do this       exit 5, HTTP 403
    ├── IntegrityError         bytes are not what was signed or written      exit 6, HTTP 422
    ├── KeyUnavailableError    no usable key for what was asked              exit 7, HTTP 423
    ├── UnavailableError       a host, service or lock is not there now      exit 8, HTTP 503
    └── ResourceError          the machine ran out of something              exit 9, HTTP 507

Each noun derives its own errors from these, beside the code that raises them, and gives each a stable
``code`` such as ``kms.key-not-found``. Translation to an exit code or an HTTP status happens once, at the
edge, from the branch alone; exit code 1 is left for defects of the product.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

Retry = Literal["never", "later"]


class StrongroomError(Exception):
    """An error with a cause, a cure and a stable code.

    Args:
        message: the facts; lower case, no full stop, values quoted.
        hint: what the operator can do, in one sentence; empty when there is nothing.
        context: facts for programs (ids, counts). Never a secret.
    """

    code: str = "core.error"
    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    retry: Retry = "never"
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str = "", context: Mapping[str, str | int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
        self.context: dict[str, str | int] = dict(context or {})


class InputError(StrongroomError):
    """The caller's words are wrong: an option, a name, a document."""

    code = "core.bad-input"
    exit_code = 2
    http_status = 400


class NotFoundError(StrongroomError):
    """The thing named does not exist here."""

    code = "core.not-found"
    exit_code = 3
    http_status = 404


class RefusedError(StrongroomError):
    """A rule, or the state of the thing, forbids what was asked."""

    code = "core.refused"
    exit_code = 4
    http_status = 409


class AuthenticationError(StrongroomError):
    """The caller could not show who it is."""

    code = "core.not-authenticated"
    exit_code = 5
    http_status = 401


class AuthorityError(AuthenticationError):
    """The caller is known, and may not do this."""

    code = "core.no-authority"
    http_status = 403


class IntegrityError(StrongroomError):
    """Bytes are not what was signed, sealed or written."""

    code = "core.damaged"
    exit_code = 6
    http_status = 422


class KeyUnavailableError(StrongroomError):
    """No usable key for what was asked; it may come."""

    code = "core.key-unavailable"
    exit_code = 7
    http_status = 423
    retry: Retry = "later"


class UnavailableError(StrongroomError):
    """A host, a service or a lock is not there now."""

    code = "core.unavailable"
    exit_code = 8
    http_status = 503
    retry: Retry = "later"


class ResourceError(StrongroomError):
    """The machine ran out of something, or refused a read or a write."""

    code = "core.out-of-resources"
    exit_code = 9
    http_status = 507
    retry: Retry = "later"


_BRANCHES: tuple[type[StrongroomError], ...] = (
    InputError,
    NotFoundError,
    RefusedError,
    AuthenticationError,
    AuthorityError,
    IntegrityError,
    KeyUnavailableError,
    UnavailableError,
    ResourceError,
)


def to_document(error: StrongroomError) -> dict[str, object]:
    """Write an error for another process: members of RFC 9457, and code, hint, retry and context."""
    return {
        "type": f"urn:strongroom:error:{error.code}",
        "title": (type(error).__doc__ or error.code).splitlines()[0],
        "status": error.http_status,
        "detail": error.message,
        "code": error.code,
        "hint": error.hint,
        "retry": error.retry,
        "context": error.context,
    }


def from_document(document: Mapping[str, object]) -> StrongroomError:
    """Make an error again that another process wrote with :func:`to_document`.

    The branch follows from the status; the code is the writer's. What is missing or of another type is left
    out, because the other process may be of another release.
    """
    status = document.get("status")
    branch = next((b for b in _BRANCHES if b.http_status == status), StrongroomError)
    code, hint, context = document.get("code"), document.get("hint"), document.get("context")
    error = branch(
        str(document.get("detail") or "the other side gave no reason"),
        hint=hint if isinstance(hint, str) else "",
        context={k: v for k, v in context.items() if isinstance(v, str | int)} if isinstance(context, dict) else None,
    )
    if isinstance(code, str):
        error.code = code
    retry = document.get("retry")
    if retry in ("never", "later"):
        error.retry = "later" if retry == "later" else "never"
    return error
