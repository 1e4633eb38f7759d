"""``strongroom demo``: two domains on this host do the whole main job."""

from __future__ import annotations

import shutil
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strongroom.cli.exits import JOB_FAILED, leave
from strongroom.cli.output import Output
from strongroom.cli.session import alone
from strongroom.cli.terminal import safe
from strongroom.core.errors import InputError

if TYPE_CHECKING:
    from strongroom.cli.demonstration.story import Step, Story


@click.command("demo")
@alone
@click.option(
    "--source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder to back up.  [default: the standard library of the running Python]",
)
@click.option("--keep", type=click.Path(path_type=Path), help="Leave both homes in this new or empty folder.")
def command(out: Output, source: Path | None, keep: Path | None) -> None:
    """Show the main job: trust, encrypted backup, replication, import, lost key, restore."""
    from strongroom.cli.demonstration.story import Story

    folder = keep.absolute() if keep is not None else Path(tempfile.mkdtemp(prefix="strongroom-demo-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError(f"the folder '{folder}' is not empty", hint="give --keep the name of a new folder")
    story = Story(folder, source or Path(sysconfig.get_path("stdlib")))
    steps: list[Step] = []
    try:
        for step in story.run():
            steps.append(step)
            if not out.as_json:
                _show(len(steps), step)
    finally:
        story.stop()
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():
                out.say(f"'{folder}' could not be removed, and holds the keys of the demonstration: remove it")
    ok = all(step.ok for step in steps) and story.identical
    if out.as_json:
        out.result(_evidence(steps, story))
    else:
        _table(steps, ok)
        if keep is not None:
            click.echo(f"\nKept in '{folder}'. Serve the target again: strongroom serve {folder / 'south'}")
    leave(0 if ok else JOB_FAILED)


def _show(number: int, step: Step) -> None:
    click.echo(f"{number}. {step.name}: {'ok' if step.ok else 'FAILED'} ({step.seconds:.1f} s)")
    if step.error:
        click.echo(f"     {safe(step.error)}")
    for name, value in step.facts.items():
        click.echo(f"     {name.replace('_', ' ')}: {safe(_short(value))}")


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_short, value)) or "none"
    return str(value)


def _table(steps: list[Step], ok: bool) -> None:
    click.echo("")
    width = max(len(step.name) for step in steps)
    for number, step in enumerate(steps, start=1):
        click.echo(f"{number:>2}  {step.name:<{width}}  {step.seconds:>6.1f} s  {'ok' if step.ok else 'FAILED'}")
    click.echo(f"\n{'everything is as it must be' if ok else 'something is not as it must be'}")


def _evidence(steps: list[Step], story: Story) -> dict[str, Any]:
    return {
        "steps": [
            {
                "name": step.name,
                "ok": step.ok,
                "seconds": round(step.seconds, 3),
                "facts": step.facts,
                **({"error": step.error} if step.error else {}),
            }
            for step in steps
        ],
        "identical": story.identical,
    }
