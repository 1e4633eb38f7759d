"""Keys from pass phrases: making them again, trying the paper in the safe, and the paper itself."""

from __future__ import annotations

from shlex import quote

from strongroom.core.clock import Clock
from strongroom.core.ids import DomainId, KeyTag
from strongroom.core.secret import Secret
from strongroom.formats import key_tag
from strongroom.formats.key_tag import KeyProfile
from strongroom.kms.errors import NotAPassPhraseKeyError, WrongPassPhraseError
from strongroom.kms.views import KeyView


def key_from(tag: KeyTag, phrase: Secret) -> Secret:
    """Make a KMS key again from its tag and pass phrase; slow on purpose (Argon2id).

    Args:
        tag: from the recovery sheet, an image listing, a header or a tape drive.
        phrase: in the form that :func:`strongroom.formats.passphrase.normalise` gives.

    Raises:
        WrongPassPhraseError: it is not this key's pass phrase.
        NotAPassPhraseKeyError: the key was made at random.
        DamagedError: this is not a tag; a digit was mistyped.
        NewerFormatError: the tag is of a later version.
    """
    fields = key_tag.parse(tag)
    if fields.profile is not KeyProfile.PASS_PHRASE:
        raise NotAPassPhraseKeyError(f"the key with the tag '{tag.hex()}' was not made from a pass phrase")
    key = key_tag.from_pass_phrase(phrase, fields.uuid)
    try:
        key_tag.check_key(key, tag)
    except key_tag.WrongKeyError as error:
        raise WrongPassPhraseError(f"this is not the pass phrase of the key with the tag '{tag.hex()}'") from error
    return key


def check(tag: KeyTag, phrase: Secret) -> None:
    """Drill: make sure that the paper in the safe opens what this tag names. Nothing is stored.

    Raises:
        WrongPassPhraseError: it does not.
        NotAPassPhraseKeyError: the key was made at random.
        DamagedError: this is not a tag.
        NewerFormatError: the tag is of a later version.
    """
    key_from(tag, phrase)


def sheet(key: KeyView, domain: DomainId, clock: Clock) -> str:
    """Write the recovery sheet of a pass phrase key: all that is needed beside the phrase."""
    digits = key.tag.hex()
    tag = "\n".join(
        "    " + " ".join(digits[at : at + 4] for at in range(line, line + 32, 4)) for line in range(0, len(digits), 32)
    )
    return f"""\
strongroom recovery sheet

Domain      {domain.hex()}
Key group   {key.group_name}
Key         {key.name}
Profile     {int(key.profile)} (Argon2id, 3 passes, 64 MiB, 4 lanes)
Made        {key.created:%Y-%m-%d %H:%M} UTC
Printed     {clock.now():%Y-%m-%d %H:%M} UTC
Key tag
{tag}

Pass phrase (write it here by hand, or keep it in another place)

    ______________________________________________________________


To make this key again, on any machine, also without this domain's keystore:

1. Install strongroom. If there is no domain, make one: strongroom init HOME --domain NAME
2. strongroom kms key recover {digits} --group {quote(key.group_name)} --name {quote(key.name)}
3. Type the pass phrase. A wrong one is refused at once.
4. Images that wait for this key go on by themselves.

To try the phrase without making the key: strongroom kms key check {digits}

Whoever has this sheet and the phrase can read every backup under this key.
Whoever has the sheet alone can only guess.
"""
