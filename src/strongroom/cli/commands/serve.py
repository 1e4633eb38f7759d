"""``strongroom serve``: run the roles of a domain on this host."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.core.errors import InputError
from strongroom.settings.home import Home

ALL = ("primary", "media")


class NotThePrimaryHomeError(InputError):
    """The home holds no catalog and no CA: its primary is elsewhere."""

    code = "serve.not-the-primary"
    default_hint = "serve it with '--role media', or name the primary's home"


@click.command("serve")
@click.argument("home", type=click.Path(path_type=Path))
@click.option("--role", type=click.Choice(["all", *ALL]), default="all", show_default=True, help="Which roles.")
@click.option("--moved", is_flag=True, help="The home was moved here on purpose, and no other copy of it runs.")
def command(home: Path, role: str, moved: bool) -> None:
    """Serve the domain in HOME until it is told to stop (SIGTERM, Ctrl-C).

    A HOME that 'strongroom join' made has the media server alone.
    """
    from strongroom.services.supervisor import Supervisor
    from strongroom.settings.domain import DomainSettings
    from strongroom.settings.media_host import MediaHost, is_joined

    place = Home(home.absolute())
    if is_joined(place):
        if role == "primary":
            raise NotThePrimaryHomeError(f"'{place.path}' is the home of a media server")
        joined = MediaHost.load(place)

        def announce_joined() -> None:
            click.echo(f"strongroom: a media server of '{joined.domain}' serves: {joined.listen}")

        Supervisor(place, ("media",), moved=moved, announce=announce_joined).run()
        return
    settings = DomainSettings.load(place)

    def announce() -> None:
        click.echo(
            f"strongroom: '{settings.domain}' serves: peers {settings.primary.listen_peer},"
            f" people {settings.primary.listen_people}, media {settings.media.listen}"
        )

    Supervisor(place, ALL if role == "all" else (role,), moved=moved, announce=announce).run()
