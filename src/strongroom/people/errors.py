"""What can be wrong with users, passwords, sessions and permissions."""

from __future__ import annotations

from strongroom.core.errors import (
    AuthenticationError,
    AuthorityError,
    InputError,
    NotFoundError,
    RefusedError,
)


class UserRequestError(InputError):
    """A user, password or grant as asked for makes no sense."""

    code = "user.bad-request"
    default_hint = "see 'strongroom user --help'"


class WeakPasswordError(InputError):
    """The password is too short, too long, or the user's name."""

    code = "user.weak-password"
    default_hint = "take a phrase of several words, at least twelve characters"


class UserNotFoundError(NotFoundError):
    """No user has this name or id."""

    code = "user.not-found"
    default_hint = "see the users with 'strongroom user list'"


class UserExistsError(RefusedError):
    """A user has this name already."""

    code = "user.exists"
    default_hint = "choose another name"


class LastAdministratorError(RefusedError):
    """Nobody could administer the domain afterwards."""

    code = "user.last-administrator"
    default_hint = "make another user administrator first"


class SignInError(AuthenticationError):
    """Name or password is wrong; which of them is not said."""

    code = "session.sign-in-refused"
    default_hint = "check name and password; after several failures the account is locked for a while"


class NoSystemAccountError(AuthenticationError):
    """The uid stands for no user."""

    code = "session.no-system-account"
    default_hint = "sign in with 'strongroom login', or let an administrator register the system account"


class SessionUnknownError(AuthenticationError):
    """The session does not exist; perhaps it was ended."""

    code = "session.unknown"
    default_hint = "sign in again"


class SessionExpiredError(AuthenticationError):
    """The session was idle, or open, for too long."""

    code = "session.expired"
    default_hint = "sign in again"


class PermissionRefusedError(AuthorityError):
    """The user may not do this, or not to this object."""

    code = "session.no-permission"
    default_hint = "ask an administrator for a role that includes it; 'strongroom whoami' shows what yours permit"
