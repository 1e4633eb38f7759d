"""``strongroom kms``: key groups, keys, and the keystore that holds them."""

from __future__ import annotations

import click

from strongroom.cli.commands.kms.group import group
from strongroom.cli.commands.kms.key import key
from strongroom.cli.commands.kms.keystore import keystore


@click.group()
def command() -> None:
    """Manage key groups, keys and the keystore."""


for _part in (group, key, keystore):
    command.add_command(_part)
