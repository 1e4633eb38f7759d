"""Bodies in chunks: what is sent is what is read, and anything else is told apart from it (C3)."""

from __future__ import annotations

import io
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.services import chunks


def read(body: bytes, room: int = 100) -> bytes:
    return b"".join(bytes(piece) for piece in chunks.read(io.BytesIO(body), bytearray(room)))


def written(blocks: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks) + chunks.END


@given(blocks=st.lists(st.binary(min_size=1, max_size=300)), room=st.integers(1, 400))
def test_whatever_the_chunks_and_the_memory_the_body_is_read(blocks: list[bytes], room: int) -> None:
    assert read(written(blocks), room) == b"".join(blocks)


@given(blocks=st.lists(st.binary(min_size=1, max_size=30)), data=st.data())
def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(blocks: list[bytes], data: st.DataObject) -> None:
    whole = written(blocks)
    with pytest.raises(ConnectionResetError):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(garbage=st.binary(max_size=60))
def test_anything_else_is_refused(garbage: bytes) -> None:
    try:
        read(garbage)
    except (ConnectionResetError, chunks.NotInChunksError):
        return
    assert garbage.startswith((b"0", b"1", b"2", b"3"))
    assert chunks.END[-4:] in garbage


def test_a_chunk_that_the_socket_takes_in_parts_arrives_whole() -> None:
    near, far = socket.socketpair()
    data = bytes(range(256)) * 40_000

    def send() -> None:
        chunks.send(near, data)
        near.sendall(chunks.END)

    sending = threading.Thread(target=send)
    sending.start()
    with far.makefile("rb") as file:
        assert b"".join(bytes(piece) for piece in chunks.read(file, bytearray(1 << 20))) == data
    sending.join()
    near.close()
    far.close()
