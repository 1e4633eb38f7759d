"""Deduplicating storage: segments in frames, frames in containers, containers in a store.

Vocabulary
    *segment*: a piece of a stream, named by a keyed hash. *frame*: neighbouring segments, compressed together
    and encrypted; named by the digest of its stored form. *container*: immutable object of many frames, or of
    many manifest pages. *manifest*: Merkle tree of pages from an image's stream to its frames. *reference*:
    one use of a segment. *origin*: the domain that made an image; the index answers for one origin at a time.
    *store*: whole immutable objects by key; :mod:`~strongroom.pool.folder` is the one for local file systems.

Invariants
    - What has a name is whole and never changes. What is being written has none, and goes with its writer.
    - Frames are durable before the pages that name them, pages before the image's commit. The caller keeps
      the order: ``SegmentWriter.finish``, ``WriteSession.finish``, ``ManifestBuilder.finish``,
      ``PageSink.finish``, then the commit.
    - The index is a cache. It learns of a container when this is durable, and is made from footers alone.
    - A name is a claim: a backup finds a segment again only in a container that bears its naming key's mark.
    - A data key encrypts for one container of one session; its nonces are counted in one process, none twice. A
      collection may move the frames elsewhere, as they are.
    - Nothing here makes or keeps keys: frame keys are handed in by id, as a ``Secret``.
    - Memory is bounded by the limits that are given, whatever the size of the image or of the pool.

What may run beside what
    ====================  =====  =======  ====  ======  =======
    this / beside this    write  receive  read  verify  collect
    ====================  =====  =======  ====  ======  =======
    WriteSession          yes    yes      yes   yes     (1)
    FrameReceiver         yes    yes      yes   yes     (1)
    FrameReader, verify   yes    yes      yes   yes     (2)
    ContainerRepair       yes    yes      (2)   (2)     yes
    Folder.clean          yes    yes      yes   yes     yes
    collection            yes    yes      yes   yes     (4)
    Index.refresh         yes    yes      yes   yes     yes
    Index.rebuild         (3)    (3)      (3)   (3)     (3)
    ====================  =====  =======  ====  ======  =======

    (1) What is condemned is not found any more. Whoever found it before has until the end of its session: a
    collection removes it only when no session is open that began before, and no image refers to it
    (:mod:`~strongroom.pool.collection`). (2) The image must stay as long as it is read: whoever expires it looks.
    (3) No other process may have the index open. (4) One collection at a time.

    One thread drives a session and its writers. A store, an index and the readers may be shared by threads;
    several processes may use one pool, with one index file on one machine.
"""
