"""Pass phrases: drawn from a word list, or measured when they come from a person.

A key's tag lets whoever has a medium try phrases offline, at the price of one Argon2id each. So a phrase is
generated with at least 77 bits, or must withstand an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Final

from zxcvbn_rs_py import zxcvbn

from strongroom.core.entropy import Entropy
from strongroom.core.secret import Secret
from strongroom.formats.passphrase import normalise
from strongroom.kms.errors import WeakPassPhraseError

GENERATED_BITS: Final = 77
FLOOR_BITS: Final = 64
"""The most that the estimator can tell: it counts guesses in 64 bits."""
MAX_ESTIMATED_CHARACTERS: Final = 100
"""The estimator looks at no more; the rest of a phrase counts for nothing."""


@cache
def words() -> tuple[str, ...]:
    """Give the word list: the EFF's long list, 7,776 words, in its own order."""
    text = resources.files("xkcdpass").joinpath("static/eff-long").read_text(encoding="ascii")
    return tuple(dict.fromkeys(text.split()))


def generate(entropy: Entropy, bits: int = GENERATED_BITS) -> Secret:
    """Draw a pass phrase of so many words that it has at least ``bits`` bits; normalised."""
    listed = words()
    count = math.ceil(bits / math.log2(len(listed)))
    return normalise(" ".join(listed[_below(len(listed), entropy)] for _ in range(count)))


def estimate_bits(phrase: Secret, known: Iterable[str] = ()) -> float:
    """Estimate the work to guess a pass phrase, as the binary logarithm of guesses; 64 at most.

    Args:
        phrase: normalised.
        known: words that a guesser tries first: names of the group, the key, the domain.
    """
    # Without the spaces: the estimator takes each for something to be guessed, which doubles a phrase of
    # words.
    joined = phrase.reveal().decode("utf-8").replace(" ", "")
    return math.log2(max(1, zxcvbn(joined[:MAX_ESTIMATED_CHARACTERS], [word for word in known if word]).guesses))


def check_strength(phrase: Secret, known: Iterable[str] = ()) -> None:
    """Refuse a pass phrase that could be guessed.

    An estimate knows words, names, dates, keyboards and repetitions, but not every poem: a line that stands
    in a book passes and should not be used.

    Args:
        phrase: normalised.
        known: words that a guesser tries first.

    Raises:
        WeakPassPhraseError: with the estimate, and the reason if there is a single one.
    """
    names = [part for word in known for part in (word, *word.split())]
    bits = estimate_bits(phrase, names)
    # Just below 64 is what the estimator gives for "at least".
    if bits > FLOOR_BITS - 0.01:
        return
    joined = phrase.reveal().decode("utf-8").replace(" ", "")
    feedback = zxcvbn(joined[:MAX_ESTIMATED_CHARACTERS], names).feedback
    warning = feedback.warning if feedback is not None else None
    reason = f": {_sentence(repr(warning))}" if warning is not None else ""
    raise WeakPassPhraseError(
        f"the pass phrase could be guessed in about 2^{bits:.0f} tries, "
        f"and at least 2^{FLOOR_BITS} are asked for{reason}"
    )


def _sentence(warning: str) -> str:
    """Turn ``Warning.DatesAreOftenEasyToGuess`` into words; the estimator has no other text for it."""
    name = warning.rpartition(".")[2]
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()


def _below(bound: int, entropy: Entropy) -> int:
    """Draw a number below ``bound``; all are equally likely."""
    limit = (1 << 32) // bound * bound  # what is past the last whole multiple is drawn again
    while (drawn := int.from_bytes(entropy.bytes(4), "big")) >= limit:
        pass
    return drawn % bound
