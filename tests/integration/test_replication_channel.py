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

from strongroom.formats.fragment import Fragment
from strongroom.formats.replication_messages import MAX_MESSAGE_BYTES
from strongroom.images.verify import verify_image
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


async def run(
    source: Vault,
    image: Fragment,
    target: Vault,
    ends: Callable[[Channel, Channel], tuple[Channel, Channel]],
    break_after: int | None = None,
) -> tuple[SenderSession, ReceiverSession, Authority]:
    """Run a session; ``ends`` says which channel is the sender's and which the receiver's."""
    authority = Authority(target)
    sender, source_pool = sending(source, image, target)
    receiver, target_pool = receiving(source, target, authority)
    stop = threading.Event()
    async with joined() as (accepted, dialled):
        of_sender, of_receiver = ends(accepted, dialled)
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

    _, first, _ = await run(source, image, target, ends, break_after=20)
    assert not first.finished
    target.reopen()
    _, second, authority = await run(source, image, target, ends)
    assert second.finished
    assert first.received.frames >= 20
    assert second.received.frames_here >= first.received.frames
    total = len({path for path in (target.path / "containers").rglob("*") if path.is_file()})
    assert total > 0
    assert list(verify_image(target.pool, authority.committed[0], None)) == []


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
