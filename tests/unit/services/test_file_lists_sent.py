"""File lists on their way from a media server: one that breaks off, or is refused, leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, web
from aiohttp.test_utils import TestClient, TestServer

from strongroom.core.ids import HostId, to_text
from strongroom.database import read, transact
from strongroom.jobs import NewJob, attempts
from strongroom.jobs.tables import EXECUTOR_BYTES
from strongroom.services.primary.image_work import LIST_FILES, has_file_list
from strongroom.services.primary.key_desk import KeyDesk
from strongroom.services.primary.media_routes import PREFIX, MediaRoutes
from strongroom.services.record_http import tell_errors
from tests.support.primaries import OpenPrimary


@pytest.fixture
def north(tmp_path: Path) -> Iterator[OpenPrimary]:
    north = OpenPrimary(tmp_path)
    north.save_backup_policy()
    yield north
    north.close()


@pytest.fixture
async def client(north: OpenPrimary, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestClient[Any, Any]]:
    async def host(_routes: MediaRoutes, _request: web.Request) -> HostId:
        return north.host  # there is no TLS here to tell

    monkeypatch.setattr(MediaRoutes, "_host", host)
    keys = KeyDesk(north.primary, north.clients, north.images)
    routes = MediaRoutes(north.primary, north.clients, keys, north.desk, north.images, north.receiving)
    application = web.Application(middlewares=[tell_errors])
    application.add_routes(routes.table())
    async with TestClient(TestServer(application)) as client:
        yield client


@pytest.fixture
def path(north: OpenPrimary) -> str:
    image = north.back_up()
    north.acknowledge(image)
    params = {"image": to_text(image), "copy": 1, "medium": to_text(north.pool)}
    now = north.primary.clock.now()
    job = transact(north.primary.engine, lambda c: north.primary.jobs.submit(c, NewJob(LIST_FILES, params=params)))
    transact(north.primary.engine, lambda c: attempts.begin(c, job.id, bytes(EXECUTOR_BYTES), now))
    return f"{PREFIX}file-list?job={job.id}&image={to_text(image)}"


async def nothing_is_left(north: OpenPrimary) -> None:
    for _ in range(100):
        names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
        if not names & {"_feed", "to_thread"}:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError(f"these go on for ever: {names}")
    with read(north.primary.engine) as connection:
        assert not has_file_list(connection, north.find_images()[0])
    assert not list(north.primary.file_lists.folder.rglob("*.part"))


async def test_refused_list_leaves_nothing_behind(north: OpenPrimary, client: TestClient[Any, Any], path: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"\xff" * (1 << 20)

    try:
        answer = await client.post(path, data=body())
        assert (await answer.json())["code"] == "format.damaged"
    except ClientError:
        pass  # it was refused while it was sent
    await nothing_is_left(north)


async def test_list_that_breaks_off_leaves_nothing_behind(
    north: OpenPrimary, client: TestClient[Any, Any], path: str
) -> None:
    _, writer = await asyncio.open_connection(client.server.host, client.server.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: north\r\nContent-Length: 1000\r\n\r\n".encode() + bytes(100))
    await writer.drain()
    await asyncio.sleep(0.3)
    writer.close()
    await writer.wait_closed()
    await nothing_is_left(north)
