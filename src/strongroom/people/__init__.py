"""People: who they are, how they sign in, what they may do.

Vocabulary: a *user* has a name and perhaps a password; a *system account* is a uid of the primary's machine
that stands for a user; a *role* is a named set of permissions (``noun.verb``); a *grant* gives a user a role
everywhere or on one object; a *session* is what signing in gives.

Invariants: passwords are kept as Argon2id, session tokens as SHA-256; an attempt is counted before the
password is looked at, so that many at once find no gap; a change of password, state or system account ends
the sessions it concerns; what a session may do is read from the rows at each use.
"""
