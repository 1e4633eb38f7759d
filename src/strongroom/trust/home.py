"""This domain as its peers see it: who it is, which home of it speaks, and how its decisions are numbered."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, update

from strongroom.core.clock import Clock, to_ns
from strongroom.core.entropy import Entropy
from strongroom.core.ids import UUID_BYTES, DomainId, HostId
from strongroom.database import racing
from strongroom.formats import signed
from strongroom.formats.domain_statement import DOMAIN_STATEMENT, DomainStatement
from strongroom.formats.signed import Signer
from strongroom.trust.state import NO_INSTANCE, Home
from strongroom.trust.tables import trust_home, trust_statements


@dataclass(frozen=True)
class OurDomain:
    """What a primary knows of its own domain.

    Args:
        domain: its id.
        name: for people.
        host: the primary's id.
        incarnation: raised by each restore.
        roots: CA roots, DER, the one in use first.
        addresses: where the peer listener is, ``host:port``.
        signer: the archive key.
    """

    domain: DomainId
    name: str
    host: HostId
    incarnation: int
    roots: tuple[bytes, ...]
    addresses: tuple[str, ...]
    signer: Signer


def begin(connection: Connection, entropy: Entropy) -> None:
    """Note that the primary has started: a later start, another instance. Call once, before anything is said."""
    _ensure_row(connection)
    connection.execute(update(trust_home).values(start=trust_home.c.start + 1, instance=entropy.bytes(UUID_BYTES)))


def take_number(connection: Connection, count: int = 1) -> int:
    """Take numbers for decisions; no two are alike, and each is higher than all before.

    Returns:
        The last of them.
    """
    _ensure_row(connection)
    statement = update(trust_home).values(number=trust_home.c.number + count).returning(trust_home.c.number)
    return int(connection.execute(statement).scalar_one())


def speaking(connection: Connection, incarnation: int) -> Home:
    """Say which home speaks."""
    _ensure_row(connection)
    row = connection.execute(select(trust_home)).one()
    return Home(incarnation, row.start, row.instance)


def publish(connection: Connection, ours: OurDomain, clock: Clock) -> bytes:
    """Give this domain's statement, made anew only when something in it has changed."""
    held = newest_statement(connection, ours.domain)
    if held is not None and _says(held, ours):
        return statement_bytes(connection, ours.domain)
    number = held.number + 1 if held is not None and held.incarnation == ours.incarnation else 1
    statement = DomainStatement(
        domain=ours.domain,
        name=ours.name,
        incarnation=ours.incarnation,
        number=number,
        roots=ours.roots,
        peer=ours.addresses,
        issued=to_ns(clock.now()),
        features=(),
    )
    data = signed.sign(DOMAIN_STATEMENT, statement, ours.signer)
    keep_statement(connection, statement, data, clock)
    return data


def keep_statement(connection: Connection, statement: DomainStatement, data: bytes, clock: Clock) -> None:
    """Keep a checked statement, unless a later one of its domain is here already."""
    held = newest_statement(connection, DomainId(statement.domain))
    facts = {
        "incarnation": statement.incarnation,
        "number": statement.number,
        "data": data,
        "received": clock.now(),
    }
    if held is None:
        with racing():
            connection.execute(insert(trust_statements).values(domain=statement.domain, **facts))
    elif statement.order > held.order:
        connection.execute(
            update(trust_statements).where(trust_statements.c.domain == statement.domain).values(**facts)
        )


def newest_statement(connection: Connection, domain: DomainId) -> DomainStatement | None:
    """Give the newest statement of a domain, if it ever made one."""
    row = connection.execute(select(trust_statements.c.data).where(trust_statements.c.domain == domain)).one_or_none()
    return None if row is None else signed.verify(DOMAIN_STATEMENT, bytes(row.data), pinned=domain).payload


def statement_bytes(connection: Connection, domain: DomainId) -> bytes:
    """Give the newest statement of a domain as it was signed."""
    query = select(trust_statements.c.data).where(trust_statements.c.domain == domain)
    return bytes(connection.execute(query).scalar_one())


def _says(statement: DomainStatement, ours: OurDomain) -> bool:
    said = (statement.incarnation, statement.name, statement.roots, statement.peer)
    return said == (ours.incarnation, ours.name, ours.roots, ours.addresses)


def _ensure_row(connection: Connection) -> None:
    if connection.execute(select(trust_home.c.id)).first() is None:
        with racing():
            connection.execute(insert(trust_home).values(id=1, number=0, start=0, instance=NO_INSTANCE))
