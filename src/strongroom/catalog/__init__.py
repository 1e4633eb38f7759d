"""What exists and where: images, their copies, the media they lie on, and what was said about them since.

Every function takes a SQLAlchemy ``Connection`` and joins the caller's transaction, so that a change here and the
change that caused it are one. Nothing here reads a clock, signs, or touches a medium.

Vocabulary: an *image* is one backup, as its origin's header says. A *copy* is that image on one medium; its number
counts in the domain that wrote it. A copy consists of *fragments*, each with a signed copy header and trailer. A
*fact* is what a journal record said about a copy, kept even when the copy is not (or no longer) here.

Invariants:

- The bytes of every header are kept as they were signed. What is in columns can be made from them again.
- A copy's number is never used again: a copy that goes leaves a tombstone in ``copy_facts``.
- A change that must outlive the catalog has a row in ``journal_outbox``, written in the same transaction.
- A copy does not expire while it is held, locked, promised to somebody who has not confirmed it, blocked until a
  person has confirmed it, or when its medium belongs to another domain.
- Deleting begins here: a copy is *expired* first, its bytes are removed after, then it is forgotten.

File lists are Parquet files beside the database (:mod:`strongroom.catalog.file_list`); the table only names them.
"""
