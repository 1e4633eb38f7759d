"""The ``strongroom`` command: finds the module of the noun that was asked for, and imports no other."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Any

import click

from strongroom import __version__
from strongroom.cli import commands
from strongroom.cli.exits import INTERRUPTED, unforeseen
from strongroom.core.errors import StrongroomError


def _modules() -> dict[str, str]:
    """Name the nouns and their modules; ``import`` is a word of Python, so its module has an underscore behind."""
    names = (module.name for module in pkgutil.iter_modules(commands.__path__))
    return {name.rstrip("_").replace("_", "-"): name for name in names}


class LazyGroup(click.Group):
    """A group whose subcommands are the modules of ``strongroom.cli.commands``.

    A name is listed from the folder alone: a server's imports must not slow down a command that
    talks to it, nor break the offline tools that are wanted on the day when something is broken.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the nouns, sorted."""
        return sorted({*super().list_commands(ctx), *_modules()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the noun's module and take its ``command``; None when there is no such noun."""
        if cmd_name in self.commands or cmd_name not in (modules := _modules()):
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(f"{commands.__name__}.{modules[cmd_name]}").command
        # Only the module has the noun's name: each calls its command `command`.
        command.name = cmd_name
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn an error of the product into cause, cure, code and exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise  # click's own, which it shows
        except (KeyboardInterrupt, click.Abort):
            print("strongroom: interrupted", file=sys.stderr)  # noqa: T201 - talk to people
            ctx.exit(INTERRUPTED)
        except Exception as error:  # noqa: BLE001 - the last place where a traceback can be kept from people
            from strongroom.cli.output import show_error  # only commands that fail pay for it

            told = error if isinstance(error, StrongroomError) else unforeseen(error)
            show_error(told, as_json=bool(ctx.meta.get("strongroom.json")))
            ctx.exit(told.exit_code)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="strongroom", message="%(prog)s %(version)s")
def main() -> None:
    """Back up, restore, replicate and prove it."""
