"""``python -m strongroom``: the same as the command ``strongroom``."""

from strongroom.cli.main import main

main(prog_name="strongroom")
