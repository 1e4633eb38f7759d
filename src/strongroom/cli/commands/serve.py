"""``strongroom serve``: run the roles of a domain on this host."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.settings.home import Home

ALL = ("primary", "media")


@click.command("serve")
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--role", type=click.Choice(["all", *ALL]), default="all", show_default=True, help="Which roles.")
@click.option("--moved", is_flag=True, help="The home was moved here on purpose, and no other copy of it runs.")
def command(home: Path, role: str, moved: bool) -> None:
    """Serve the domain in HOME until it is told to stop (SIGTERM, Ctrl-C)."""
    from strongroom.services.supervisor import Supervisor
    from strongroom.settings.domain import DomainSettings

    place = Home(home.absolute())
    settings = DomainSettings.load(place)

    def announce() -> None:
        click.echo(
            f"strongroom: '{settings.domain}' serves: peers {settings.primary.listen_peer},"
            f" people {settings.primary.listen_people}, media {settings.media.listen}"
        )

    Supervisor(place, ALL if role == "all" else (role,), moved=moved, announce=announce).run()
