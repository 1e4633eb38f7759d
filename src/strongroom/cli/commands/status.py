"""``strongroom status``: how the domain does."""

from __future__ import annotations

import time
from typing import Any, Final

import click

from strongroom.cli.session import Session, verb
from strongroom.cli.terminal import safe, size
from strongroom.cli.values import Seconds
from strongroom.core.errors import UnavailableError

POLL_SECONDS: Final = 0.3


class NotServingError(UnavailableError):
    """The domain did not serve in time."""

    code = "cli.not-serving"
    default_hint = "look at what 'strongroom serve' says, and at the logs in HOME/logs"


@click.command()
@verb
@click.option("--wait", type=Seconds(), metavar="TIME", help="Wait so long, such as 30s, for all of it to serve.")
def command(session: Session, wait: int | None) -> None:
    """Show the domain, its pools, jobs, alarms and trusts.

    With --wait it ends with 8 when primary and media servers do not serve in that time.
    """
    found = _ask(session, wait or 0)
    session.out.result(found, None if session.out.as_json else _text(found))


def _ask(session: Session, wait_seconds: int) -> dict[str, Any]:
    end = time.monotonic() + wait_seconds
    while True:
        try:
            found: dict[str, Any] = session.api.get("/status")
        except UnavailableError as error:
            if error.retry == "never" or time.monotonic() >= end:
                raise
            time.sleep(POLL_SECONDS)
        else:
            servers = found.get("media_servers") or {}
            if not wait_seconds or servers.get("online") == servers.get("known"):
                return found
            if time.monotonic() >= end:
                raise NotServingError(
                    f"{servers.get('online')} of {servers.get('known')} media servers are online after"
                    f" {wait_seconds} seconds"
                )
            time.sleep(POLL_SECONDS)


def _text(found: dict[str, Any]) -> str:
    lines = [
        f"domain   {found['name']} ({found['domain']}), incarnation {found.get('incarnation', '-')}",
        f"primary  {found.get('host', '-')}, version {found.get('version', '-')}, since {found.get('started', '-')}",
        f"keys     {found.get('kms', '-')}",
    ]
    servers = found.get("media_servers") or {}
    lines.append(f"media    {servers.get('online', '-')} of {servers.get('known', '-')} media servers are online")
    jobs = found.get("jobs") or {}
    lines.append("jobs     " + ", ".join(f"{count} {name.replace('_', ' in ')}" for name, count in jobs.items()))
    for pool in found.get("pools") or []:
        online = "online" if pool.get("online") else "OFFLINE"
        lines.append(f"pool     {pool.get('name')}: {online}, {size(pool.get('free_bytes'))} free")
    lines += [
        f"trust    {trust.get('name')}: {trust.get('state')}, {trust.get('health')}"
        for trust in found.get("trusts") or []
    ]
    for alarm in found.get("alarms") or []:
        lines.append(f"ALARM    {alarm.get('message')} [{alarm.get('code')}]")
        if alarm.get("hint"):
            lines.append(f"         {alarm['hint']}")
    return "\n".join(safe(line) for line in lines)
