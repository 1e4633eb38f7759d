"""The tables that all packages share, with one rule for the names of constraints."""

from __future__ import annotations

from sqlalchemy import MetaData

# A migration can only drop or change a constraint whose name it knows; the databases would each invent
# another.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
