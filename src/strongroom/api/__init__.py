"""The REST interface for people and programs: translators between JSON over HTTPS and the packages below.

Vocabulary: a *route* is a method and a path; it has one *permission*, which is part of its definition; a *caller* is
who passed the guard of a route; a *port* is what a route asks of other hosts, filled in by ``services``.

Invariants:

- There is no route without a permission (:mod:`strongroom.api.routing`). ``anybody`` and ``session`` are said aloud.
- What changes anything leaves evidence before and after, through :class:`strongroom.api.security.Caller` or through the
  package that does it; a refused permission leaves evidence in the guard.
- Errors leave as RFC 9457 documents; of an unexpected one nothing leaves but its number.
- A secret is in the body of a request, or once in the answer that made it; never in a path, a query or a log.
- Everything that blocks is in synchronous routes, which run in threads.
"""
