"""R10: sessions over real WebSockets; who dialled does not matter, and a broken line loses nothing that came whole."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from strongroom.formats import replication_messages
from strongroom.formats.fragment import Fragment
from strongroom.formats.replication_messages import MAX_MESSAGE_BYTES
from strongroom.images.stored_image import Roots
from strongroom.images.verify import verify_image
from strongroom.pool.manifest import read_manifest
from strongroom.pool.writer import WriterLimits
from strongroom.replication.errors import InterruptedSessionError
from strongroom.replication.pace import Pace
from strongroom.replication.pools import ReceivingPool, SendingPool
from strongroom.replication.receiver import ReceiverSession
from strongroom.replication.sender import SenderSession
from strongroom.services.media.channel import PATH, Channel, accepted_socket, run_receiver, run_sender
from strongroom.settings.system import SystemClock
from tests.support.replication import CREDENTIAL, Authority, make_hop
from tests.support.vault import Vault, random_bytes
from tests.unit.images.test_hostile_streams import data, record, stream

SIZE = 1 << 20
FILES = 40
SMALL = WriterLimits(frame_bytes=256 << 10, container_bytes=4 << 20)


@pytest.fixture
def source(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "source", "origin")


@pytest.fixture
def image(source: Vault) -> Fragment:
    blocks = [data(random_bytes(str(number), SIZE)) + record(b"/%02d" % number, SIZE) for number in range(FILES)]
    return source.store(stream(*blocks, files=FILES, content=FILES * SIZE), limits=SMALL)[0]


@pytest.fixture
def target(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "target", "target")


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Channel, Channel]]:
    """An accepted channel and the one that was dialled."""
    accepted: asyncio.Future[Channel] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def accept(request: web.Request) -> web.WebSocketResponse:
        socket = accepted_socket()
        await socket.prepare(request)
        accepted.set_result(Channel(socket))
        await over.wait()
        return socket

    application = web.Application()
    application.add_routes([web.get(PATH, accept)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(f"ws://127.0.0.1:{port}{PATH}", compress=0, max_msg_size=MAX_MESSAGE_BYTES)
        dialled = Channel(socket)
        try:
            yield await accepted, dialled
        finally:
            over.set()
            await dialled.close()
            await (await accepted).close()
    await runner.cleanup()


def sending(source: Vault, image: Fragment, target: Vault) -> tuple[SenderSession, SendingPool]:
    number, hop = make_hop(source.domain, target.domain, image)
    pool = SendingPool(source.pool, source.id)
    return SenderSession(source.id, target.id, image, hop, number, CREDENTIAL, pool), pool


def receiving(source: Vault, target: Vault, authority: Authority) -> tuple[ReceiverSession, ReceivingPool]:
    pool = ReceivingPool(target.pool)
    return ReceiverSession(target.id, source.id, lambda _: pool, authority), pool


def noting(send: Callable[[bytes], None], left: list[bytes]) -> Callable[[bytes], None]:
    """Note each message that was handed to the line."""

    def noted(message: bytes) -> None:
        send(message)
        left.append(message)

    return noted


def frames_in(messages: list[bytes]) -> int:
    read = [replication_messages.decode(message)[0] for message in messages]
    return sum(len(message.lengths) for message in read if isinstance(message, replication_messages.Frames))


def frames_of(source: Vault, image: Fragment) -> int:
    """Count the frames of an image."""
    page, roots = source.pool.pages(source.id).page, Roots.of(image)
    ids = {
        reference.frame_id
        for root in (roots.entries, roots.payload)
        for reference in read_manifest(root, page, is_encrypted=bool(image.image.payload.cipher))
    }
    return len(ids)


async def run(
    source: Vault,
    image: Fragment,
    target: Vault,
    ends: Callable[[Channel, Channel], tuple[Channel, Channel]],
    break_after: int | None = None,
    left: list[bytes] | None = None,
) -> tuple[SenderSession, ReceiverSession, Authority]:
    """Run a session; ``ends`` says which channel is the sender's and which the receiver's, ``left`` takes what left."""
    authority = Authority(target)
    sender, source_pool = sending(source, image, target)
    receiver, target_pool = receiving(source, target, authority)
    stop = threading.Event()
    async with joined() as (accepted, dialled):
        of_sender, of_receiver = ends(accepted, dialled)
        if left is not None:
            of_sender.send = noting(of_sender.send, left)  # type: ignore[assignment, method-assign]
        loop = asyncio.get_running_loop()

        def check() -> None:
            if break_after is not None and receiver.received.frames >= break_after:
                asyncio.run_coroutine_threadsafe(of_sender.close(), loop).result()

        pace = Pace(SystemClock())
        results = await asyncio.gather(
            asyncio.to_thread(run_sender, sender, of_sender, pace, stop),
            asyncio.to_thread(run_receiver, receiver, target_pool, of_receiver, check),
            return_exceptions=True,
        )
    source_pool.close()
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, InterruptedSessionError):
            raise result
    return sender, receiver, authority


@pytest.mark.parametrize("target_dials", [False, True])
async def test_either_end_may_dial(source: Vault, image: Fragment, target: Vault, target_dials: bool) -> None:
    def ends(accepted: Channel, dialled: Channel) -> tuple[Channel, Channel]:
        return (accepted, dialled) if target_dials else (dialled, accepted)

    sender, receiver, authority = await run(source, image, target, ends)
    assert receiver.finished
    assert sender.stored
    assert sender.receipt is not None
    assert list(verify_image(target.pool, authority.committed[0], None)) == []


async def test_a_broken_line_goes_on_where_it_was(source: Vault, image: Fragment, target: Vault) -> None:
    def ends(accepted: Channel, dialled: Channel) -> tuple[Channel, Channel]:
        return dialled, accepted

    left: list[bytes] = []
    _, first, _ = await run(source, image, target, ends, break_after=20, left=left)
    assert not first.finished
    assert first.received.frames == frames_in(left) >= 20, "what had come was not taken"
    target.reopen()
    again: list[bytes] = []
    _, second, authority = await run(source, image, target, ends, left=again)
    assert second.finished
    assert second.received.frames_here == first.received.frames
    assert second.received.frames == frames_in(again)
    assert frames_in(left) + frames_in(again) == frames_of(source, image)
    assert list(verify_image(target.pool, authority.committed[0], None)) == []


class Asking(ReceiverSession):
    """A session that asks for more with each message that comes."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.failure = None
        self.finished = False

    def start(self) -> list[bytes]:
        return [b"begin"]

    def receive(self, data: bytes) -> list[bytes]:
        self.taken.append(data)
        return [b"more"]


class Kept:
    """Notes what was taken when it was made durable."""

    def __init__(self, session: Asking) -> None:
        self._session = session
        self.durable: list[bytes] = []

    def flush(self) -> None:
        self.durable = list(self._session.taken)

    def abort(self) -> None:
        pass


async def test_what_had_come_is_taken_though_nothing_can_be_asked_for_any_more() -> None:
    session, sent = Asking(), [bytes([number]) for number in range(30)]
    pool = Kept(session)
    async with joined() as (accepted, dialled):
        for message in sent:
            await asyncio.to_thread(dialled.send, message)
        await dialled.close()
        with pytest.raises(InterruptedSessionError):
            await asyncio.to_thread(run_receiver, session, pool, accepted, lambda: None)
    assert pool.durable == sent


async def test_a_paused_line_waits_and_a_stop_ends_the_wait(source: Vault, image: Fragment, target: Vault) -> None:
    sender, source_pool = sending(source, image, target)
    receiver, target_pool = receiving(source, target, Authority(target))
    stop, pace = threading.Event(), Pace(SystemClock(), 0)
    async with joined() as (accepted, dialled):
        work = asyncio.gather(
            asyncio.to_thread(run_sender, sender, dialled, pace, stop),
            asyncio.to_thread(run_receiver, receiver, target_pool, accepted, lambda: None),
            return_exceptions=True,
        )
        await asyncio.sleep(0.3)
        assert sender.sent.frames == 0
        assert not work.done()
        stop.set()
        await asyncio.sleep(0.7)
        await dialled.close()
        results = await work
    source_pool.close()
    assert all(isinstance(result, InterruptedSessionError) for result in results)
