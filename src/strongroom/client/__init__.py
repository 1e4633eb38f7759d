"""The agent's work on files: walk, send, restore, and write tar. Synchronous, and without a network.

A backup is a generator of bytes, a restore consumes an iterator of bytes; both are the image stream of
``docs/reference/protocols/image-stream.md``. Who carries the bytes is the business of ``services``.

- *walker* finds files in the order of a walk; *sender* turns them into blocks, and unchanged ones into references to
  the previous image.
- *restorer* writes files below a target; *tar* writes them as a pax tar stream.

Invariants:

- A file with which something went wrong is a problem with a code, counted and reported; the rest goes on.
- No symbolic link is followed, in a walk or on the way to a restored file: folders are held open, and names are looked
  up in them.
- Memory does not grow with the number or the size of files. What grows: the names of one folder at each level of the
  walk (about 50 bytes a name and its length), inodes whose other names were not seen yet (about 300 bytes each),
  paths that could not be restored (about 60 bytes each).
"""
