"""The media server of a domain: it moves data, and decides nothing.

It has its pools open, and of keys exactly what the primary gives it for a job. Whatever it does can be done again.

Threads
    One event loop serves the listeners. Work with pools, and every question to the primary, runs in threads: one for
    each backup, restore or replication session, and one for the beat.

What it says and hears: ``docs/reference/protocols/media-server.md`` and ``replication.md``.
"""
