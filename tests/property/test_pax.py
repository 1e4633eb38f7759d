"""M4: the standard library reads the tar members that we write, whatever their names and numbers."""

from __future__ import annotations

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from strongroom.formats import entries, pax
from strongroom.formats.entries import Entry

part = st.binary(min_size=1, max_size=120).filter(lambda n: not {0, 47} & set(n) and n not in (b".", b".."))
paths = st.lists(part, min_size=1, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
owners = (
    st.binary(max_size=40).filter(lambda name: 0 not in name).map(lambda name: name.decode("ascii", "ignore").encode())
)


@given(
    kind=st.sampled_from([entries.REGULAR, entries.FOLDER, entries.SYMLINK, entries.HARD_LINK]),
    path=paths,
    target=paths,
    size=st.integers(0, 1 << 40),
    mtime=st.integers(-(1 << 62), 1 << 62),
    numbers=st.tuples(st.integers(0, 1 << 32), st.integers(0, 1 << 32)),
    names=st.tuples(owners, owners),
)
def test_m4_members_say_what_the_entry_says(
    kind: int,
    path: bytes,
    target: bytes,
    size: int,
    mtime: int,
    numbers: tuple[int, int],
    names: tuple[bytes, bytes],
) -> None:
    if kind != entries.REGULAR:
        size = 0
    wanted = target if kind in (entries.SYMLINK, entries.HARD_LINK) else None
    entry = Entry(kind, path, 0o4751, *numbers, *names, mtime, 0, 1, 1, size, wanted)
    header = pax.header(entry)
    assert len(header) % pax.BLOCK_BYTES == 0
    with tarfile.open(fileobj=io.BytesIO(header), errorlevel=2) as archive:
        info = archive.next()
    assert info is not None
    assert info.name.encode("utf-8", "surrogateescape") == path[1:]
    assert info.mode == 0o4751
    assert (info.uid, info.gid) == numbers
    assert (info.uname.encode(), info.gname.encode()) == names
    assert info.size == size
    assert abs(info.mtime - mtime / 1_000_000_000) <= abs(mtime) * 1e-15
    if wanted is not None:
        expected = wanted[1:] if kind == entries.HARD_LINK else wanted
        assert info.linkname.encode("utf-8", "surrogateescape") == expected


@given(st.integers(0, 1 << 50))
def test_m4_stream_ends_with_two_blocks_of_zeros_and_is_filled_up(blocks: int) -> None:
    length = blocks * pax.BLOCK_BYTES
    end = pax.trailer(length)
    assert not any(end)
    assert 2 * pax.BLOCK_BYTES <= len(end) < 2 * pax.BLOCK_BYTES + pax.RECORD_BYTES
    assert (length + len(end)) % pax.RECORD_BYTES == 0
