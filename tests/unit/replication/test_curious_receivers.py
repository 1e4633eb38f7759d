"""R10, R11: a receiver that asks for more than the image is given nothing of it."""

from __future__ import annotations

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PageId
from strongroom.formats import manifest_page
from strongroom.formats import replication_messages as messages
from strongroom.formats.fragment import Fragment
from strongroom.replication import errors
from strongroom.replication.pools import SendingPool
from strongroom.replication.sender import SenderSession
from tests.support.images import fixed
from tests.support.replication import CREDENTIAL, make_hop
from tests.support.vault import Vault


def say(session: SenderSession, *said: messages.AnyMessage) -> StrongroomError | None:
    for message in said:
        for _ in session.receive(messages.encode(message)):
            pass
    return session.failure


@pytest.fixture
def sender(source: Vault, images: list[Fragment], target: Vault) -> SenderSession:
    sending, hop = make_hop(source.domain, target.domain, images[0])
    pool = SendingPool(source.pool, source.id)
    return SenderSession(source.id, target.id, images[0], hop, sending, CREDENTIAL, pool)


def greet(target: Vault) -> list[messages.AnyMessage]:
    hello = messages.Hello(versions=[1], role="receiver", domain=target.id, capabilities=[])
    return [hello, messages.Accept(session=bytes(16))]


def page_of(source: Vault, image: Fragment) -> bytes:
    """A leaf page of the payload that only this image has."""
    root = image.streams[1].root
    pages = source.pool.pages(source.id)
    decoded = manifest_page.decode(pages.page(PageId(root)), PageId(root))
    return root if isinstance(decoded, manifest_page.Leaf) else decoded.children[0].page


@pytest.mark.parametrize("what", ["page of another image", "frames of another image", "unknown page", "envelope"])
def test_nothing_outside_the_image_is_disclosed(
    source: Vault, images: list[Fragment], target: Vault, sender: SenderSession, what: str
) -> None:
    other = page_of(source, images[1])
    naming = source.data_keys.issue(source.group, 1)
    source.pool.envelopes.put(naming.envelope)
    asked: dict[str, messages.AnyMessage] = {
        "page of another image": messages.WantPages(pages=[other]),
        "frames of another image": messages.WantFrames(frames=[messages.FramesOfPage(page=other, map=b"\1")]),
        "unknown page": messages.WantPages(pages=[fixed("no page")]),
        "envelope": messages.WantEnvelopes(envelopes=[naming.identity]),
    }
    assert say(sender, *greet(target)) is None
    assert isinstance(say(sender, asked[what]), errors.ProtocolError)
    assert (sender.sent.pages, sender.sent.frames, sender.sent.envelopes) == (0, 0, 0)


def test_a_page_below_the_roots_is_given_to_whoever_has_its_parents(
    source: Vault, images: list[Fragment], target: Vault, sender: SenderSession
) -> None:
    assert say(sender, *greet(target), messages.WantPages(pages=[page_of(source, images[0])])) is None
    assert sender.sent.pages == 1


def test_nothing_is_said_before_the_image_is_accepted(
    images: list[Fragment], target: Vault, sender: SenderSession
) -> None:
    asked = messages.WantPages(pages=[images[0].streams[0].root])
    assert isinstance(say(sender, greet(target)[0], asked), errors.ProtocolError)


def test_stored_is_not_believed_before_acceptance(target: Vault, sender: SenderSession) -> None:
    assert isinstance(say(sender, greet(target)[0], messages.Stored()), errors.ProtocolError)
    assert not sender.stored


def test_no_common_version_is_said(target: Vault, sender: SenderSession) -> None:
    hello = messages.Hello(versions=[2, 3], role="receiver", domain=target.id, capabilities=[])
    assert isinstance(say(sender, hello), errors.NoCommonVersionError)


def test_a_strangers_words_are_made_fit_to_show() -> None:
    told = messages.Error(code="replication.quota", message="a\x1b[2Jb\nc", hint="\x07", retry="later")
    error = errors.from_message(told)
    assert isinstance(error, errors.QuotaError)
    assert error.message == "the other side: a [2Jb c"
    assert errors.from_message(messages.Error(code="x.new", message="m", hint="", retry="later")).code == "x.new"
