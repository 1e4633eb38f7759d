"""Fuzz one target in this process, which ends with it.

Usage: ``python -m tests.fuzz.worker TARGET [OPTION of libFuzzer]...``
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(
    include=["strongroom.formats", "strongroom.services.messages", "strongroom.services.upkeep_messages"]
):
    from tests.fuzz.targets import attempt

if __name__ == "__main__":
    name = sys.argv[1]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], lambda data: attempt(name, data))
    atheris.Fuzz()
