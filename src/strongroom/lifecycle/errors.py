"""What can be wrong with a lifecycle policy, or with what it is asked to do.

slp.bad-name               the name cannot be used
slp.bad-document           the policy's document cannot be read
slp.bad-operations         the operations break a rule
slp.not-found              no policy, or no version, has this name
slp.not-active             the policy takes no new images
replication.not-found      nothing was promised to this target
replication.wrong-state    the replication's state forbids this step
replication.fenced         a newer attempt has taken the replication over
"""

from __future__ import annotations

from strongroom.core.errors import InputError, NotFoundError, RefusedError


class PolicyNameError(InputError):
    """The name of a policy cannot be used."""

    code = "slp.bad-name"
    default_hint = "Use 1 to 112 characters, without control characters and without blanks at the ends."


class PolicyDocumentError(InputError):
    """The document of a policy cannot be read."""

    code = "slp.bad-document"
    default_hint = "The fields and their values are listed in docs/reference/lifecycle-policies.md."


class OperationsError(InputError):
    """The operations of a policy break a rule."""

    code = "slp.bad-operations"
    default_hint = "The rules are listed in docs/reference/lifecycle-policies.md."


class PolicyNotFoundError(NotFoundError):
    """No policy, or no version of it, has this name."""

    code = "slp.not-found"
    default_hint = "List the policies with 'strongroom slp list'."


class PolicyNotActiveError(RefusedError):
    """The policy is deactivated and takes no new images."""

    code = "slp.not-active"
    default_hint = "Activate it with 'strongroom slp activate'."


class ReplicationNotFoundError(NotFoundError):
    """Nothing of this image was promised to this target."""

    code = "replication.not-found"
    default_hint = "See 'strongroom replication status' for what is promised."


class ReplicationStateError(RefusedError):
    """The state of the replication forbids this step."""

    code = "replication.wrong-state"
    default_hint = "See 'strongroom replication status' for its state."


class FencedError(RefusedError):
    """A newer attempt has taken the replication over; this one must stop."""

    code = "replication.fenced"
    default_hint = "Nothing is to be done; the newer attempt goes on."
