"""Data keys: issued in signed envelopes, wrapped by a KMS key, and unwrapped for the job in hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.ids import DataKeyId, DomainId, EnvelopeId, KeyGroupId, KeyTag, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.formats import key_envelope, key_tag, signed
from strongroom.formats.algorithms import KEY_BYTES, NONCE_BYTES, Cipher
from strongroom.formats.errors import ForeignError
from strongroom.formats.key_envelope import (
    KEY_ENVELOPE,
    CommitmentError,
    KeyEnvelope,
    Purpose,
    WrapContext,
    WrappedKey,
    WrongWrappingKeyError,
)
from strongroom.formats.signed import Signer
from strongroom.kms.errors import DataKeyMissingError, KeyNotFoundError, KeyStateError
from strongroom.kms.keyring import KeyRing
from strongroom.kms.states import DECRYPTS

ID_BYTES = 16
MAX_BATCH = key_envelope.MAX_KEYS

Row = tuple[KeyEnvelope, WrappedKey]
Opener = Callable[[KeyEnvelope, WrappedKey], Secret]


@dataclass(frozen=True)
class IssuedBatch:
    """Data keys that were just made.

    Attributes:
        envelope: the signed envelope, to be on stable storage before the first byte is encrypted.
        identity: the envelope's id.
        tag: the KMS key that wraps.
        keys: ids and keys, 32 bytes each, ascending by id.
    """

    envelope: bytes
    identity: EnvelopeId
    tag: KeyTag
    keys: tuple[tuple[DataKeyId, Secret], ...]


class DataKeys:
    """Issues and unwraps data keys. Safe for threads.

    Args:
        ring: the KMS keys.
        signer: the domain's archive key.
        incarnation: of the domain, from 1; raised by a restore of its primary.
        clock: for the envelopes' times.
        entropy: for ids, keys and nonces.
    """

    def __init__(self, ring: KeyRing, signer: Signer, incarnation: int, clock: Clock, entropy: Entropy) -> None:
        self._ring = ring
        self._signer = signer
        self._incarnation = incarnation
        self._domain = signed.domain_id_of(signer.root_public_key)
        self._clock = clock
        self._entropy = entropy

    def issue(self, group: KeyGroupId, count: int) -> IssuedBatch:
        """Make a batch of data keys for frames.

        Args:
            group: whose active key wraps them.
            count: how many, 1 to 1,024.

        Raises:
            NoActiveKeyError: the group has no active key: there must be no backup then.
            GroupNotFoundError: no such group.
        """
        if not 1 <= count <= MAX_BATCH:
            raise ValueError(f"a batch has 1 to {MAX_BATCH} data keys, not {count}")
        return self._issue(group, count, Purpose.FRAMES, key_envelope.NO_MEDIUM)

    def issue_naming_key(self, group: KeyGroupId, medium: MediumId) -> IssuedBatch:
        """Make the key that names the segments of one group in one pool.

        Raises:
            NoActiveKeyError: the group has no active key.
            GroupNotFoundError: no such group.
        """
        return self._issue(group, 1, Purpose.NAMES, medium)

    def rewrap(self, envelope: bytes, group: KeyGroupId | None = None) -> bytes:
        """Write a new generation of an envelope under an active key of this domain.

        Nothing that exists is touched; older generations stay good as long as their keys are.

        Args:
            envelope: this domain's newest generation; or, if it has none, one that another domain wrapped.
            group: whose active key wraps. The envelope's own group by default; another domain's envelope, which
                names a group at its origin, needs it.

        Returns:
            The new envelope, signed by this domain.

        Raises:
            NoActiveKeyError: the group has no active key here.
            GroupNotFoundError: the group is not in this keystore.
            KeyNotFoundError: the key of the old generation is not in the keystore.
            KeyStateError: its state forbids decrypting.
            CommitmentError: a data key is not the one that the envelope commits to.
            WrongWrappingKeyError: a wrap does not open under the key that the envelope names.
            DamagedError: the envelope is not what was signed.
        """
        old = signed.verify(KEY_ENVELOPE, envelope).payload
        tag, wrapping_key = self._wrapping_key(KeyGroupId(old.group) if group is None else group)
        opener = self._opener(KeyTag(old.tag))
        new = replace(
            old,
            domain=self._domain,
            incarnation=self._incarnation,
            generation=old.generation + 1 if old.domain == self._domain else 1,
            created=to_ns(self._clock.now()),
            tag=tag,
            cipher=Cipher.AES_256_GCM,
        )
        context = WrapContext.of(new)
        rows = tuple(
            self._wrap(opener(old, row), wrapping_key, context, Purpose(row.purpose), row.medium) for row in old.keys
        )
        return signed.sign(KEY_ENVELOPE, replace(new, keys=rows), self._signer)

    def unwrap(
        self, envelopes: Iterable[bytes], wanted: Collection[DataKeyId], *, origin: DomainId, group: KeyGroupId
    ) -> dict[DataKeyId, Secret]:
        """Open the data keys that a job needs, and no others.

        Any generation of an envelope will do whose KMS key is active or inactive here. The newest is tried first;
        one that does not open hides none that does.

        Args:
            envelopes: signed envelopes, wrapped by any domain.
            wanted: data key ids.
            origin: the domain of the image header for which the keys are wanted.
            group: its key group.

        Returns:
            All of the wanted keys, 32 bytes each.

        Raises:
            KeyNotFoundError: names the tags, of which one would open what is wanted.
            KeyStateError: the keys are here, and their state forbids decrypting.
            DataKeyMissingError: no envelope holds one of the ids.
            ForeignError: only envelopes of another origin or group hold it: it is not for this image.
            CommitmentError: a data key is not the one that its envelope commits to.
            WrongWrappingKeyError: a wrap does not open under the key that its envelope names.
            DamagedError: an envelope is not what was signed.
        """
        found: dict[DataKeyId, list[Row]] = {identity: [] for identity in wanted}
        foreign: set[bytes] = set()
        for data in envelopes:
            envelope = signed.verify(KEY_ENVELOPE, data).payload
            ours = (envelope.origin, envelope.group) == (origin, group)
            for row in envelope.keys:
                if DataKeyId(row.key) not in found:
                    continue
                if ours:
                    found[DataKeyId(row.key)].append((envelope, row))
                else:
                    foreign.add(row.key)
        for identity, rows in found.items():
            if not rows and identity in foreign:
                raise ForeignError(f"the data key {to_text(identity)} is of another origin or key group than the image")
            if not rows:
                raise DataKeyMissingError(f"no key envelope holds the data key {to_text(identity)}")
        usable = self._usable(found)
        tags = {KeyTag(envelope.tag) for rows in usable.values() for envelope, _ in rows}
        openers = {tag: self._opener(tag) for tag in tags}
        return {identity: _open_first(rows, openers) for identity, rows in usable.items()}

    def _usable(self, found: dict[DataKeyId, list[Row]]) -> dict[DataKeyId, list[Row]]:
        """Keep for each data key the rows whose KMS key decrypts, the newest first; raise what leaves none."""
        states = self._ring.states_of({KeyTag(envelope.tag) for rows in found.values() for envelope, _ in rows})
        usable = {}
        unknown: set[KeyTag] = set()
        forbidden: set[KeyTag] = set()
        for identity, rows in found.items():
            good = [row for row in rows if states[KeyTag(row[0].tag)] in DECRYPTS]
            usable[identity] = sorted(good, key=lambda row: row[0].generation, reverse=True)
            if not good:
                tags = {KeyTag(envelope.tag) for envelope, _ in rows}
                here = {tag for tag in tags if states[tag] is not None}
                forbidden |= here
                unknown |= tags if not here else set()
        if unknown:
            raise KeyNotFoundError(unknown)
        if forbidden:
            names = ", ".join(f"'{tag.hex()}' is '{states[tag]}'" for tag in sorted(forbidden))
            raise KeyStateError(f"the keys are here, but their state forbids decrypting: {names}")
        return usable

    def _issue(self, group: KeyGroupId, count: int, purpose: Purpose, medium: bytes) -> IssuedBatch:
        tag, wrapping_key = self._wrapping_key(group)
        identity = EnvelopeId(self._entropy.bytes(ID_BYTES))
        context = WrapContext(domain=self._domain, origin=self._domain, envelope=identity, group=group, tag=tag)
        made = (Secret(self._entropy.bytes(KEY_BYTES)) for _ in range(count))
        keys = sorted(((key_envelope.data_key_id(key), key) for key in made), key=lambda pair: pair[0])
        payload = KeyEnvelope(
            domain=self._domain,
            incarnation=self._incarnation,
            origin=self._domain,
            envelope=identity,
            generation=1,
            group=group,
            created=to_ns(self._clock.now()),
            tag=tag,
            cipher=Cipher.AES_256_GCM,
            keys=tuple(self._wrap(data_key, wrapping_key, context, purpose, medium) for _, data_key in keys),
            features=(),
        )
        return IssuedBatch(signed.sign(KEY_ENVELOPE, payload, self._signer), identity, tag, tuple(keys))

    def _wrap(
        self, data_key: Secret, wrapping_key: Secret, context: WrapContext, purpose: Purpose, medium: bytes
    ) -> WrappedKey:
        return key_envelope.wrap(
            data_key,
            wrapping_key=wrapping_key,
            context=context,
            nonce=self._entropy.bytes(NONCE_BYTES),
            purpose=purpose,
            medium=medium,
        )

    def _wrapping_key(self, group: KeyGroupId) -> tuple[KeyTag, Secret]:
        tag, key = self._ring.encrypting_key(group)
        return tag, key_tag.wrapping_key(key, tag)

    def _opener(self, tag: KeyTag) -> Opener:
        """Make what opens rows of envelopes under one KMS key; the key is unwrapped once."""
        wrapping_key = key_tag.wrapping_key(self._ring.decrypting_key(tag), tag)

        def open_row(envelope: KeyEnvelope, row: WrappedKey) -> Secret:
            return key_envelope.unwrap(row, wrapping_key=wrapping_key, context=WrapContext.of(envelope))

        return open_row


def _open_first(rows: Sequence[Row], openers: Mapping[KeyTag, Opener]) -> Secret:
    """Open the first row that opens: whoever can write to a medium could add a newer one that does not."""
    for position, (envelope, row) in enumerate(rows):
        try:
            return openers[KeyTag(envelope.tag)](envelope, row)
        except (CommitmentError, WrongWrappingKeyError):
            if position == len(rows) - 1:
                raise
    raise ValueError("there is no row to open")
