"""Every byte that outlives a process: pure encoding and decoding, no I/O.

The pages in ``docs/reference/formats`` are the specification; a module here has the name of its page.
Decoders take bytes from anywhere, hostile ones included: they bound every length before they believe it and
raise :class:`~strongroom.formats.errors.DamagedError` or one of its relatives, never anything else.
"""
