"""The evidence of each use of authority: rows that are only ever added, each bound to the one before it.

A row is written before the deed and one after it, in the transaction of the deed; a deed that was refused
leaves one row, written after its transaction was undone. So no deed without its rows, and no rows of a deed
that never was.

The chain shows that a row was changed or taken out. Who can rewrite the whole table can compute a new chain;
so its head must be kept elsewhere as well (:func:`verify_chain` compares), in checkpoints that others hold.

All audited transactions pass through one row, the head: they are serial on both databases.
"""

from strongroom.audit.chain import AuditDamagedError, Head, current_head, verify_chain
from strongroom.audit.record import Actor, ActorKind, Entry, Fact, Outcome, entries, exercise, record

__all__ = [
    "Actor",
    "ActorKind",
    "AuditDamagedError",
    "Entry",
    "Fact",
    "Head",
    "Outcome",
    "current_head",
    "entries",
    "exercise",
    "record",
    "verify_chain",
]
