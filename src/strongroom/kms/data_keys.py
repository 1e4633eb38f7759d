"""Data keys: issued in signed envelopes, wrapped by a KMS key, and unwrapped for the job in hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.ids import DataKeyId, EnvelopeId, KeyGroupId, KeyTag, MediumId, to_text
from strongroom.core.secret import Secret
from strongroom.formats import key_envelope, key_tag, signed
from strongroom.formats.algorithms import KEY_BYTES, NONCE_BYTES, Cipher
from strongroom.formats.key_envelope import KEY_ENVELOPE, KeyEnvelope, Purpose, WrapContext, WrappedKey
from strongroom.formats.signed import Signer
from strongroom.kms.errors import DataKeyMissingError, KeyNotFoundError, KeyStateError
from strongroom.kms.keyring import KeyRing
from strongroom.kms.states import DECRYPTS

ID_BYTES = 16
MAX_BATCH = key_envelope.MAX_KEYS


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
        clock: for the envelopes' times.
        entropy: for ids, keys and nonces.
    """

    def __init__(self, ring: KeyRing, signer: Signer, clock: Clock, entropy: Entropy) -> None:
        self._ring = ring
        self._signer = signer
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

    def rewrap(self, envelope: bytes) -> bytes:
        """Write the next generation of an envelope, under the active key of its group.

        The old generation is not touched, and stays good.

        Args:
            envelope: the newest generation at hand; from this domain, or received from another.

        Returns:
            The new envelope, signed by this domain.

        Raises:
            NoActiveKeyError: the group has no active key here.
            GroupNotFoundError: the group is not in this keystore.
            KeyNotFoundError: the key of the old generation is not in the keystore.
            KeyStateError: its state forbids decrypting.
            DamagedError: the envelope is not what was signed.
        """
        old = signed.verify(KEY_ENVELOPE, envelope).payload
        tag, wrapping_key = self._wrapping_key(KeyGroupId(old.group))
        opener = self._opener(KeyTag(old.tag))
        new = replace(
            old,
            domain=self._domain,
            generation=old.generation + 1,
            created=to_ns(self._clock.now()),
            tag=tag,
            cipher=Cipher.AES_256_GCM,
        )
        context = WrapContext.of(new)
        rows = tuple(
            self._wrap(opener(old, row), DataKeyId(row.key), wrapping_key, context, Purpose(row.purpose), row.medium)
            for row in old.keys
        )
        return signed.sign(KEY_ENVELOPE, replace(new, keys=rows), self._signer)

    def unwrap(self, envelopes: Iterable[bytes], wanted: Collection[DataKeyId]) -> dict[DataKeyId, Secret]:
        """Open the data keys that a job needs, and no others.

        Any generation of an envelope will do whose KMS key is active or inactive here; the newest is taken.

        Args:
            envelopes: signed envelopes of any domain.
            wanted: data key ids.

        Returns:
            All of the wanted keys, 32 bytes each.

        Raises:
            KeyNotFoundError: names the tags, of which one would open what is wanted.
            KeyStateError: the keys are here, and their state forbids decrypting.
            DataKeyMissingError: no envelope holds one of the ids.
            CommitmentError: a data key is not the one that its envelope commits to.
            WrongWrappingKeyError: a wrap does not open under the key that its envelope names.
            DamagedError: an envelope is not what was signed.
        """
        missing = set(wanted)
        rows: dict[DataKeyId, list[tuple[KeyEnvelope, WrappedKey]]] = {identity: [] for identity in missing}
        for data in envelopes:
            envelope = signed.verify(KEY_ENVELOPE, data).payload
            for row in envelope.keys:
                if row.key in missing:
                    rows[DataKeyId(row.key)].append((envelope, row))
        tags = {KeyTag(envelope.tag) for found in rows.values() for envelope, _ in found}
        usable = self._usable(rows, tags)
        openers = {tag: self._opener(tag) for tag in {KeyTag(envelope.tag) for envelope, _ in usable.values()}}
        return {identity: openers[KeyTag(envelope.tag)](envelope, row) for identity, (envelope, row) in usable.items()}

    def _usable(
        self, rows: dict[DataKeyId, list[tuple[KeyEnvelope, WrappedKey]]], tags: Collection[KeyTag]
    ) -> dict[DataKeyId, tuple[KeyEnvelope, WrappedKey]]:
        """Choose for each data key the newest generation that opens; raise what keeps any from opening."""
        states = self._ring.states_of(tags)
        chosen = {}
        unknown: set[KeyTag] = set()
        forbidden: set[KeyTag] = set()
        for identity, found in rows.items():
            if not found:
                raise DataKeyMissingError(f"no key envelope holds the data key {to_text(identity)}")
            good = [pair for pair in found if states[KeyTag(pair[0].tag)] in DECRYPTS]
            if good:
                chosen[identity] = max(good, key=lambda pair: pair[0].generation)
                continue
            here = {KeyTag(envelope.tag) for envelope, _ in found if states[KeyTag(envelope.tag)] is not None}
            forbidden |= here
            if not here:
                unknown |= {KeyTag(envelope.tag) for envelope, _ in found}
        if unknown:
            raise KeyNotFoundError(unknown)
        if forbidden:
            names = ", ".join(f"'{tag.hex()}' is '{states[tag]}'" for tag in sorted(forbidden))
            raise KeyStateError(f"the keys are here, but their state forbids decrypting: {names}")
        return chosen

    def _issue(self, group: KeyGroupId, count: int, purpose: Purpose, medium: bytes) -> IssuedBatch:
        tag, wrapping_key = self._wrapping_key(group)
        identity = EnvelopeId(self._entropy.bytes(ID_BYTES))
        context = WrapContext(domain=self._domain, envelope=identity, group=group, tag=tag)
        ids = sorted(DataKeyId(self._entropy.bytes(ID_BYTES)) for _ in range(count))
        keys = tuple((key_id, Secret(self._entropy.bytes(KEY_BYTES))) for key_id in ids)
        payload = KeyEnvelope(
            domain=self._domain,
            envelope=identity,
            generation=1,
            group=group,
            created=to_ns(self._clock.now()),
            tag=tag,
            cipher=Cipher.AES_256_GCM,
            keys=tuple(
                self._wrap(data_key, key_id, wrapping_key, context, purpose, medium) for key_id, data_key in keys
            ),
        )
        return IssuedBatch(signed.sign(KEY_ENVELOPE, payload, self._signer), identity, tag, keys)

    def _wrap(
        self,
        data_key: Secret,
        key_id: DataKeyId,
        wrapping_key: Secret,
        context: WrapContext,
        purpose: Purpose,
        medium: bytes,
    ) -> WrappedKey:
        return key_envelope.wrap(
            data_key,
            wrapping_key=wrapping_key,
            context=context,
            key=key_id,
            nonce=self._entropy.bytes(NONCE_BYTES),
            purpose=purpose,
            medium=medium,
        )

    def _wrapping_key(self, group: KeyGroupId) -> tuple[KeyTag, Secret]:
        tag, key = self._ring.encrypting_key(group)
        return tag, key_tag.wrapping_key(key, tag)

    def _opener(self, tag: KeyTag) -> Callable[[KeyEnvelope, WrappedKey], Secret]:
        """Make what opens rows of envelopes under one KMS key; the key is unwrapped once."""
        wrapping_key = key_tag.wrapping_key(self._ring.decrypting_key(tag), tag)

        def open_row(envelope: KeyEnvelope, row: WrappedKey) -> Secret:
            return key_envelope.unwrap(row, wrapping_key=wrapping_key, context=WrapContext.of(envelope))

        return open_row


def tags_of(envelopes: Sequence[bytes]) -> frozenset[KeyTag]:
    """Tell which KMS keys wrap these envelopes; needs no key, and so no keystore.

    Raises:
        DamagedError: an envelope is not what was signed.
    """
    return frozenset(KeyTag(signed.verify(KEY_ENVELOPE, data).payload.tag) for data in envelopes)
