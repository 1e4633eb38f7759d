"""One stream of an image on its way into a pool: chunker, segment writer and manifest."""

from __future__ import annotations

from strongroom.core.ids import DataKeyId
from strongroom.formats import frame
from strongroom.formats.segment import ChunkSizes
from strongroom.pool.chunker import Chunker
from strongroom.pool.expected import Expected
from strongroom.pool.manifest import ManifestBuilder, StreamRoot
from strongroom.pool.references import Named, Reference
from strongroom.pool.writer import WriteSession


class SegmentStream:
    """Cuts, stores and lists one stream.

    Args:
        sizes: of its segments.
        session: stores it.
        manifest: of this stream.
        expected: what it may bring.

    Attributes:
        keys: data keys of the frames that the manifest names.
    """

    def __init__(
        self, sizes: ChunkSizes, session: WriteSession, manifest: ManifestBuilder, expected: Expected | None = None
    ) -> None:
        self._chunker = Chunker(sizes, session.name, expected)
        self._writer = session.writer()
        self._manifest = manifest
        self.keys: set[DataKeyId] = set()

    def feed(self, data: bytes | memoryview) -> list[tuple[bytes, int]]:
        """Take bytes; give name and length of the segments that were cut."""
        return self._add(self._chunker.feed(data))

    def end_run(self) -> list[tuple[bytes, int]]:
        """Cut here; give name and length of the segments that were left."""
        return self._add(self._chunker.end_run())

    def refer(self, references: list[Reference]) -> None:
        """Put segments that are stored already at this place of the stream."""
        self._note(self._writer.refer(references))

    def finish(self) -> StreamRoot:
        """End the stream and its manifest."""
        self._note(self._writer.finish())
        return self._manifest.finish()

    def _add(self, segments: list[Named]) -> list[tuple[bytes, int]]:
        if not segments:
            return []
        self._note(self._writer.add(segments))
        return [(segment.name, len(segment.data)) for segment in segments]

    def _note(self, certain: list[Reference]) -> None:
        self.keys.update(reference.data_key_id for reference in certain if reference.data_key_id != frame.NO_KEY)
        self._manifest.add(certain)
