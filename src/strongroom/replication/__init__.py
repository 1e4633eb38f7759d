"""Copies of images between domains.

A *session* moves one image from a media server of the sender to one of the receiver, over any ordered duplex channel
of messages. Both ends are state machines that take a message and give messages; they do not know who dialled, nor
what carries the messages. What they need of a pool or of a primary comes through the ports in
:mod:`strongroom.replication.ports`.

Specification: ``docs/reference/protocols/replication.md``.
"""
