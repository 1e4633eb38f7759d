"""The one place that knows how a relational database is opened, changed and upgraded.

SQLite serves one machine, PostgreSQL serves many; the code above is the same. What a caller may rely on, on
both:

- Reading (:func:`read`) sees one consistent snapshot, cannot change anything, and never waits for a writer.
- Writing (:func:`write`, :func:`transact`) is serial: the outcome is that of some order of the transactions,
  one after the other. SQLite lets one writer in at a time; PostgreSQL runs them side by side at the level
  SERIALIZABLE and refuses one of two that got in each other's way. So whatever writes should go through
  :func:`transact`, which runs the function again when it was refused; the function must therefore have no
  effect outside the transaction.
- What was committed survives a power failure (``synchronous=FULL``; PostgreSQL's default).
- Errors are of the tree in :mod:`strongroom.core.errors`; violated constraints stay SQLAlchemy's
  ``IntegrityError``, because only the package that owns the table knows what they mean.

Each package defines its tables on the shared :data:`metadata`, with the column types of this package, and
adds a revision to ``migrations/versions``. Packages point downwards: a table may refer to tables of lower
packages only.
"""

from strongroom.database.columns import DOCUMENT_BYTES, Document, Identity, Moment, encode_document, row_id
from strongroom.database.engine import is_sqlite, open_engine
from strongroom.database.errors import (
    DatabaseBusyError,
    DatabaseDamagedError,
    DatabaseFullError,
    DatabaseNewerError,
    DatabaseUnreachableError,
    DatabaseURLError,
    DocumentError,
)
from strongroom.database.metadata import metadata
from strongroom.database.migrate import latest_version, schema_version, upgrade
from strongroom.database.transactions import racing, read, transact, write

__all__ = [
    "DOCUMENT_BYTES",
    "DatabaseBusyError",
    "DatabaseDamagedError",
    "DatabaseFullError",
    "DatabaseNewerError",
    "DatabaseURLError",
    "DatabaseUnreachableError",
    "Document",
    "DocumentError",
    "Identity",
    "Moment",
    "encode_document",
    "is_sqlite",
    "latest_version",
    "metadata",
    "open_engine",
    "racing",
    "read",
    "row_id",
    "schema_version",
    "transact",
    "upgrade",
    "write",
]
