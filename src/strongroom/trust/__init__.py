"""Trust between two domains: how it is made, kept in step, checked and removed.

Vocabulary: a *peer* is another domain with its primary. Trust is two one-way records, one in each domain, each made by
that domain's administrator. *Ours* is what our administrator decided, *theirs* what the other's did, as last heard. An
*exchange* is one record each way between two primaries; it does not matter who calls.

Invariants, each of which has a test:

- Images pass only when our own administrator has added the peer, and the peer says the same.
- Trust is made in one transaction on each side, or not at all.
- Tokens and fingerprints are handed from person to person; nothing here sends them on.
- A message is handled once: what it did, its answer and the note that it was handled are one transaction.
- Who speaks is judged from the certificate that this domain issued and its row in the registry, and nothing else.

Locks: none. All state is in the database, and every function takes the connection of its caller's transaction.
"""
