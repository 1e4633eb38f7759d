"""What this interface itself refuses.

api.bad-request            a field is missing, unknown or out of bounds
api.no-such-route          nothing is at this path
api.method-not-allowed     the path does not take this method
api.too-long               the body is longer than it may be
api.too-slow               the body did not arrive in time
api.busy                   too many slow computations at once
api.ambiguous              the name fits several things
api.internal               a defect; the log has the traceback under the number given
session.missing            the request has no session
kms.locked                 the keystore is not open
storage.trust-not-active   a target in a domain that is not trusted now
slp.exists                 a policy has this name
slp.not-ready-there        the target domain would not import by the policy that is named
image.nothing-to-hold      no copy that could be held
image.no-such-hold         the image has no such hold
pool.not-found             no pool has this name
serve.cannot-listen        an address cannot be listened at
"""

from __future__ import annotations

from strongroom.core.errors import (
    AuthenticationError,
    InputError,
    KeyUnavailableError,
    NotFoundError,
    RefusedError,
    ResourceError,
    Retry,
    StrongroomError,
    UnavailableError,
)


class BadRequestError(InputError):
    """A field of the request is missing, unknown or out of bounds."""

    code = "api.bad-request"
    default_hint = "the fields and their bounds are in the OpenAPI document, '/v1/openapi.json'"


class NoSuchRouteError(NotFoundError):
    """Nothing is at this path."""

    code = "api.no-such-route"
    default_hint = "the routes are listed in '/v1/openapi.json'; client and server may be of different releases"


class MethodNotAllowedError(InputError):
    """The path does not take this method."""

    code = "api.method-not-allowed"
    http_status = 405
    default_hint = NoSuchRouteError.default_hint


class BodyTooLongError(InputError):
    """The body of the request is longer than it may be."""

    code = "api.too-long"


class BodyTooSlowError(UnavailableError):
    """The body of the request did not arrive in time."""

    code = "api.too-slow"


class BusyError(UnavailableError):
    """Too many slow computations run at once."""

    code = "api.busy"
    default_hint = "try again in a few seconds"


class AmbiguousError(InputError):
    """The name fits several things."""

    code = "api.ambiguous"
    default_hint = "give the identity instead of the name"


class UnexpectedError(StrongroomError):
    """A defect of the product."""

    code = "api.internal"
    default_hint = "report it with the lines of the primary's log that have this number"


class NoSessionError(AuthenticationError):
    """The request has no session."""

    code = "session.missing"
    default_hint = "sign in with 'strongroom login', and send 'Authorization: Bearer TOKEN'"


class KeystoreLockedError(KeyUnavailableError):
    """The keystore is not open, so keys can be neither used nor shown."""

    code = "kms.locked"
    default_hint = "put the key files back into the key folder; the primary looks again by itself"


class TrustNotActiveError(RefusedError):
    """A storage server of another domain becomes a target only once the trust is active."""

    code = "storage.trust-not-active"
    retry: Retry = "later"
    default_hint = "finish the trust first: 'strongroom trust check' tells what is missing"


class PolicyExistsError(RefusedError):
    """A lifecycle policy has this name."""

    code = "slp.exists"
    default_hint = "save a new version of it with 'PUT /v1/slps/NAME', or choose another name"


class NothingToHoldError(RefusedError):
    """The image has no complete copy of this domain."""

    code = "image.nothing-to-hold"
    default_hint = "copies of another domain are held there"


class NoSuchHoldError(NotFoundError):
    """The image has no such hold."""

    code = "image.no-such-hold"
    default_hint = "show the image's holds with 'strongroom image show'"


class PoolNotFoundError(NotFoundError):
    """No pool has this name."""

    code = "pool.not-found"
    default_hint = "list the pools with 'strongroom pool list'"


class ImportPolicyNotReadyError(RefusedError):
    """The target domain says that it would not import by the policy that is named."""

    code = "slp.not-ready-there"
    default_hint = "ask the other administrator to create or activate the import SLP, then save this policy again"


class CannotListenError(ResourceError):
    """An address of this host cannot be listened at."""

    code = "serve.cannot-listen"
    default_hint = "end the process that has the port, or change the address in 'strongroom.toml'"
