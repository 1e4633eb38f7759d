"""R7, R10, R11: one image from pool to pool, sealed, whole, and never twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace

from strongroom.core.errors import IntegrityError, StrongroomError, from_document, to_document
from strongroom.database.errors import DatabaseBusyError, DatabaseDamagedError, DatabaseNewerError
from strongroom.formats import image_stream, key_envelope, signed
from strongroom.formats import replication_messages as messages
from strongroom.formats.errors import DamagedError
from strongroom.formats.fragment import Fragment
from strongroom.images.restore import restore_stream
from strongroom.images.verify import verify_image
from strongroom.pool.containers import list_containers
from strongroom.pool.errors import BucketDeniedError, FrameMissingError
from strongroom.pool.incoming import INCOMING
from strongroom.replication import errors
from strongroom.replication.ports import Offered, Receiving
from strongroom.services.record_http import InternalError
from tests.support.images import OTHER, fixed
from tests.support.replication import Authority, Wire, make_hop, replicate
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, record, stream
from tests.unit.replication.conftest import SIZE


def is_empty(vault: Vault) -> bool:
    return (
        not list(list_containers(vault.pool.store))
        and not list(vault.pool.fragments.names())
        and not list(vault.pool.store.list("envelopes/"))
        and not list((vault.path / INCOMING).iterdir())
    )


@pytest.mark.parametrize("receiver_dials", [False, True])
@pytest.mark.parametrize("number", [0, 2])
def test_an_image_arrives_whole_and_unread(
    source: Vault, images: list[Fragment], target: Vault, number: int, receiver_dials: bool
) -> None:
    authority = Authority(target)
    image = images[number]
    done = replicate(source, image, target, authority=authority, wire=Wire(receiver_dials=receiver_dials))
    assert done.receiver.failure is None
    assert done.sender.failure is None
    assert done.receiver.finished
    assert done.sender.stored
    assert done.sender.receipt is not None
    (copy,) = authority.committed
    assert copy.image.data == image.image.data
    assert copy.copy.payload.tags == image.copy.payload.tags
    assert target.issued == target.opened == []
    assert list(verify_image(target.pool, copy, None)) == []
    assert done.sender.sent.frames == done.receiver.received.frames > 10
    assert done.sender.sent.frame_bytes == done.receiver.received.frame_bytes


def test_the_origin_reads_what_it_gets_back(source: Vault, images: list[Fragment], target: Vault) -> None:
    authority = Authority(target)
    replicate(source, images[0], target, authority=authority)
    target.open = source.open  # type: ignore[method-assign]  # the target is given the key
    contents = b""
    with target.reading(authority.committed[0]) as stored:
        for block in image_stream.read_blocks(restore_stream(stored)):
            contents += bytes(block) if isinstance(block, bytes | memoryview) else b""
    assert contents[:SIZE] == random_bytes("file 0 0", SIZE)
    assert len(contents) == SIZE * 12


def test_only_what_the_target_lacks_is_sent(source: Vault, images: list[Fragment], target: Vault) -> None:
    first = replicate(source, images[0], target)
    second = replicate(source, images[1], target)
    assert second.receiver.finished
    assert second.sender.sent.frames < first.sender.sent.frames / 3
    assert SIZE < second.sender.sent.frame_bytes < 4 * SIZE
    again = replicate(source, images[1], target)
    assert again.receiver.finished
    assert (again.sender.sent.frames, again.sender.sent.pages, again.sender.sent.envelopes) == (0, 0, 0)


@hypothesis.settings(max_examples=15, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(cuts=st.lists(st.integers(0, 40), min_size=1, max_size=4), dials=st.booleans(), restart=st.booleans())
def test_nothing_is_sent_twice_after_a_break(
    source: Vault,
    images: list[Fragment],
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    dials: bool,
    restart: bool,
) -> None:
    target = Vault(tmp_path_factory.mktemp("target"), "target")
    whole = replicate(source, images[0], Vault(tmp_path_factory.mktemp("whole"), "target"))
    taken = 0
    for cut in [*cuts, None]:
        done = replicate(source, images[0], target, wire=Wire(cut_after=cut, receiver_dials=dials))
        taken += done.receiver.received.frames
        assert done.broken == (cut is not None and not done.receiver.finished) or done.receiver.finished
        if restart:
            target.reopen()
    assert done.receiver.finished
    assert taken == whole.receiver.received.frames
    target.pool.close()


def test_a_refusal_reaches_the_sender_and_nothing_is_stored(
    source: Vault, images: list[Fragment], target: Vault
) -> None:
    authority = Authority(target, refusal=errors.OriginNotAcceptedError("no images of 'origin' yet"))
    done = replicate(source, images[0], target, authority=authority)
    assert isinstance(done.sender.failure, errors.OriginNotAcceptedError)
    assert done.sender.failure.retry == "later"
    assert "no images of 'origin' yet" in done.sender.failure.message
    assert is_empty(target)


def test_the_receipt_comes_when_the_image_is_there_already(
    source: Vault, images: list[Fragment], target: Vault
) -> None:
    held = errors.AlreadyHeldError("the image is here")
    held.receipt = b"the receipt"
    done = replicate(source, images[0], target, authority=Authority(target, refusal=held))
    assert isinstance(done.sender.failure, errors.AlreadyHeldError)
    assert done.sender.failure.receipt == b"the receipt"
    assert is_empty(target)


# -- a receiver with trouble of its own

TROUBLES = [
    DatabaseDamagedError("database: database disk image is malformed"),
    DatabaseNewerError("a newer program wrote the database"),
    DamagedError("a row of ours is cut short"),
    BucketDeniedError("the object storage refuses the key"),
    FrameMissingError("a frame is not where the index says"),
    InternalError("'/v1/media/receive' failed"),
]


def as_record(error: StrongroomError) -> StrongroomError:
    """What the media server makes of an error that its primary answers with."""
    return from_document(to_document(error))


class FailingAtTheEnd(Authority):
    """A primary that fails when everything is stored."""

    def commit(self, *_: object) -> None:
        assert self.refusal is not None
        raise self.refusal

    def begin(self, offered: Offered) -> Receiving:
        self.offers.append(offered)
        return Receiving(fixed("session", 16), self.vault.medium)


@pytest.mark.parametrize("authority", [Authority, FailingAtTheEnd])
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda error: error.code)
def test_trouble_of_the_receivers_own_is_told_as_such_and_may_pass(
    source: Vault, images: list[Fragment], target: Vault, trouble: StrongroomError, authority: type[Authority]
) -> None:
    """Its primary cannot read its catalog, say, and answers so: that is no word about the image."""
    done = replicate(source, images[0], target, authority=authority(target, refusal=as_record(trouble)))
    failure = done.sender.failure
    assert isinstance(failure, errors.OwnTroubleError)
    assert (failure.code, failure.retry) == ("replication.own-trouble", "later")
    assert failure.hint
    assert trouble.code in failure.message
    assert trouble.message in failure.message
    assert replicate(source, images[0], target).receiver.finished  # when it has passed


def test_what_a_primary_finds_wrong_with_an_image_stays_that(
    source: Vault, images: list[Fragment], target: Vault
) -> None:
    refusal = as_record(errors.BadImageError("hop 2 does not name the hop before it"))
    assert type(refusal) is IntegrityError
    done = replicate(source, images[0], target, authority=Authority(target, refusal=refusal))
    assert isinstance(done.sender.failure, errors.BadImageError)
    assert done.sender.failure.retry == "never"
    assert "hop 2" in done.sender.failure.message


def test_what_a_primary_says_may_be_tried_later_keeps_its_name(
    source: Vault, images: list[Fragment], target: Vault
) -> None:
    refusal = as_record(DatabaseBusyError("another transaction was in the way"))
    done = replicate(source, images[0], target, authority=Authority(target, refusal=refusal))
    assert done.sender.failure is not None
    assert (done.sender.failure.code, done.sender.failure.retry) == ("database.busy", "later")


def test_an_envelope_here_that_cannot_be_read_is_not_the_images_fault(
    source: Vault, images: list[Fragment], target: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: object) -> None:
        raise DamagedError("an envelope of ours is cut short")

    monkeypatch.setattr(type(target.pool.envelopes), "data_keys", damaged)
    done = replicate(source, images[0], target)
    assert isinstance(done.sender.failure, errors.OwnTroubleError)
    assert done.sender.failure.retry == "later"


def test_an_envelope_that_claims_keys_of_another_is_the_images_fault(
    source: Vault, images: list[Fragment], target: Vault
) -> None:
    """Only the pool can tell: it holds the envelope that has these data keys already."""
    replicate(source, images[0], target)
    (held,) = target.pool.envelopes.for_frames()
    data = target.pool.envelopes.read_newest(held.envelope, source.id)
    assert data is not None
    keys = signed.verify(key_envelope.KEY_ENVELOPE, data).payload.keys

    def claiming(message: messages.AnyMessage, body: bytes) -> bytes:
        assert isinstance(message, messages.Envelopes)
        asked = signed.verify(key_envelope.KEY_ENVELOPE, body[: message.lengths[0]]).payload
        claims = signed.sign(key_envelope.KEY_ENVELOPE, replace(asked, keys=keys), source.domain.signer)
        return messages.encode(messages.Envelopes(lengths=[len(claims)]), [claims])

    done = replicate(source, images[1], target, wire=Wire(tamper=change(messages.Envelopes, claiming)))
    assert isinstance(done.sender.failure, errors.BadImageError)
    assert "claims a data key" in done.sender.failure.message


# -- a sender that lies


def change(kind: type[object], edit: Callable[[messages.AnyMessage, bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the first message of a kind."""
    done = False

    def tamper(message: bytes) -> bytes:
        nonlocal done
        decoded, body = messages.decode(message)
        if done or not isinstance(decoded, kind):
            return message
        done = True
        return edit(decoded, bytes(body))

    return tamper


def flip(message: messages.AnyMessage, body: bytes) -> bytes:
    return messages.encode(message, [body[:-1], bytes([body[-1] ^ 1])])


def one_more(message: messages.AnyMessage, body: bytes) -> bytes:
    assert isinstance(message, messages.Frames | messages.Pages | messages.Envelopes)
    extra = body[: message.lengths[0]]
    return messages.encode(replace(message, lengths=[*message.lengths, len(extra)]), [body, extra])


def swapped(message: messages.AnyMessage, body: bytes) -> bytes:
    assert isinstance(message, messages.Frames)
    first, second = messages.cut(memoryview(body), message.lengths)[:2]
    return messages.encode(messages.Frames(lengths=[len(second), len(first)]), [second, first])


def other_lengths(message: messages.AnyMessage, body: bytes) -> bytes:
    assert isinstance(message, messages.Frames)
    return messages.encode(replace(message, lengths=[length + 1 for length in message.lengths]), [body])


def as_frames(message: messages.AnyMessage, body: bytes) -> bytes:
    assert isinstance(message, messages.Pages)
    return messages.encode(messages.Frames(lengths=message.lengths), [body])


LIES: dict[str, Callable[[bytes], bytes]] = {
    "changed page": change(messages.Pages, flip),
    "changed frame": change(messages.Frames, flip),
    "changed envelope": change(messages.Envelopes, flip),
    "changed offer": change(messages.Offer, flip),
    "frames in another order": change(messages.Frames, swapped),
    "more frames than asked for": change(messages.Frames, one_more),
    "more envelopes than asked for": change(messages.Envelopes, one_more),
    "lengths that do not add up": change(messages.Frames, other_lengths),
    "frames instead of pages": change(messages.Pages, as_frames),
    "an offer twice": change(
        messages.Pages,
        lambda *_: messages.encode(messages.Hello(versions=[1], role="sender", domain=bytes(32), capabilities=[])),
    ),
    "garbage": change(messages.Pages, lambda *_: b"\xff" * 40),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_sender_is_refused_and_plants_nothing(
    source: Vault, images: list[Fragment], target: Vault, lie: str
) -> None:
    authority = Authority(target)
    done = replicate(source, images[0], target, authority=authority, wire=Wire(tamper=LIES[lie]))
    assert isinstance(done.receiver.failure, errors.BadImageError | errors.ProtocolError)
    assert authority.committed == []
    assert list(list_containers(target.pool.store)) == []
    assert done.sender.failure is not None
    assert done.sender.failure.code == done.receiver.failure.code
    assert not done.sender.stored


@pytest.mark.parametrize(
    "changes",
    [
        {"image": bytes(16)},
        {"to": OTHER.id},
        {"sending": bytes(16)},
        {"origin": OTHER.id},
        {"header": bytes(32)},
        {"previous": bytes(31) + b"\1"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_hop_of_another_sending_is_refused(
    source: Vault, images: list[Fragment], target: Vault, changes: dict[str, object]
) -> None:
    _, hop = make_hop(source.domain, target.domain, images[0], **changes)
    sending, _ = make_hop(source.domain, target.domain, images[0])
    authority = Authority(target)
    done = replicate(source, images[0], target, authority=authority, hop=(sending, hop))
    assert isinstance(done.receiver.failure, errors.BadImageError)
    assert authority.offers == []
    assert is_empty(target)


def test_a_hop_that_another_domain_signed_is_refused(source: Vault, images: list[Fragment], target: Vault) -> None:
    hop = make_hop(OTHER, target.domain, images[0])
    done = replicate(source, images[0], target, hop=hop)
    assert isinstance(done.receiver.failure, errors.BadImageError)


def test_a_cascade_goes_on_and_a_loop_is_refused(
    source: Vault, images: list[Fragment], target: Vault, tmp_path: Path
) -> None:
    third = Vault(tmp_path / "third", "other")
    one, two, three = Authority(target), Authority(third), Authority(target)
    replicate(source, images[0], target, authority=one)
    assert replicate(target, one.committed[0], third, authority=two).receiver.finished
    assert len(two.committed[0].hops) == 2
    assert list(verify_image(third.pool, two.committed[0], None)) == []
    loop = replicate(third, two.committed[0], target, authority=three)
    assert isinstance(loop.sender.failure, errors.LoopError)
    assert three.offers == []
    home = Vault(tmp_path / "home", "origin")
    back = Authority(home)
    recalled = replicate(third, two.committed[0], home, authority=back)
    assert recalled.receiver.finished
    assert back.committed[0].hops == ()


@pytest.mark.parametrize("of", ["another group", "another image", "another domain"])
def test_an_envelope_that_is_not_the_one_asked_for_is_refused(
    source: Vault, images: list[Fragment], target: Vault, of: str
) -> None:
    """Rightly signed, each of them: of a wrong group, sent once more for another image, or a stranger's."""

    def other(message: messages.AnyMessage, body: bytes) -> bytes:
        assert isinstance(message, messages.Envelopes)
        payload = signed.verify(key_envelope.KEY_ENVELOPE, body[: message.lengths[0]]).payload
        wrong = {
            "another group": signed.sign(
                key_envelope.KEY_ENVELOPE, replace(payload, group=bytes(16)), source.domain.signer
            ),
            "another image": source.data_keys.issue(source.group, 1).envelope,
            "another domain": signed.sign(key_envelope.KEY_ENVELOPE, replace(payload, domain=OTHER.id), OTHER.signer),
        }[of]
        return messages.encode(messages.Envelopes(lengths=[len(wrong)]), [wrong])

    authority = Authority(target)
    done = replicate(
        source, images[0], target, authority=authority, wire=Wire(tamper=change(messages.Envelopes, other))
    )
    assert isinstance(done.receiver.failure, errors.BadImageError)
    assert authority.committed == []
    assert is_empty(target)


def test_a_header_that_another_domain_wrote_is_refused(
    source: Vault, images: list[Fragment], target: Vault, tmp_path: Path
) -> None:
    """A sender passes on copies of its own; the header of another's is no word of the sender."""
    other = Vault(tmp_path / "other", "other")
    theirs = other.store(stream(data(b"abc"), record(b"/a", 3), files=1, content=3))[0]

    def foreign(message: messages.AnyMessage, body: bytes) -> bytes:
        assert isinstance(message, messages.Offer)
        _, hop = make_hop(source.domain, target.domain, theirs)
        return messages.encode(message, [hop, theirs.copy.data])

    authority = Authority(target)
    done = replicate(source, images[0], target, authority=authority, wire=Wire(tamper=change(messages.Offer, foreign)))
    assert isinstance(done.receiver.failure, errors.BadImageError)
    assert "domain" in done.receiver.failure.message
    assert authority.offers == []
    assert is_empty(target)


def test_an_offer_that_was_made_before_is_refused_under_a_new_sending(
    source: Vault, images: list[Fragment], target: Vault
) -> None:
    """Replayed headers: the hop says for which sending they were signed."""

    def replayed(message: messages.AnyMessage, body: bytes) -> bytes:
        assert isinstance(message, messages.Offer)
        return messages.encode(replace(message, sending=fixed("a later sending", 16)), [body])

    authority = Authority(target)
    wire = Wire(tamper=change(messages.Offer, replayed))
    done = replicate(source, images[0], target, authority=authority, wire=wire)
    assert isinstance(done.receiver.failure, errors.BadImageError)
    assert authority.offers == []
    assert is_empty(target)


def test_a_peer_that_is_not_who_its_certificate_says_is_refused(
    source: Vault, images: list[Fragment], target: Vault
) -> None:
    def another(message: messages.AnyMessage, _: bytes) -> bytes:
        assert isinstance(message, messages.Hello)
        return messages.encode(replace(message, domain=OTHER.id))

    done = replicate(source, images[0], target, wire=Wire(tamper=change(messages.Hello, another)))
    assert isinstance(done.receiver.failure, errors.ProtocolError)
