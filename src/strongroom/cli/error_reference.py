"""The page of errors, made from the error classes: every code that the product can answer with, and its cure."""

from __future__ import annotations

import importlib
import pkgutil
from collections import defaultdict
from collections.abc import Iterator

import strongroom
from strongroom.core.errors import StrongroomError

_NOT_IMPORTED = ("strongroom.testing", "strongroom.database.migrations")
_FRONT = """# Errors

Made from the error classes by `scripts/errors-page`; do not edit.

An error has a *code* that does not change between releases. A command shows it in brackets on standard error, `--json`
and REST as the member `code`, and a job's log keeps it. The message has the facts of the case, the hint its cure; the
cure below is the usual one, and a case may give a better one. *Again* says whether the same request may succeed
later without anybody changing anything. Exit codes are explained in [exit codes](exit-codes.md).

Problems of single files, while a backup or a restore goes on, have codes too; they are listed in the
[image stream](protocols/image-stream.md).
"""


def import_all() -> None:
    """Import every module of the product, so that every error class is known."""
    for module in pkgutil.walk_packages(strongroom.__path__, "strongroom."):
        if not module.name.startswith(_NOT_IMPORTED) and not module.name.endswith(".__main__"):
            importlib.import_module(module.name)


def error_classes() -> dict[str, list[type[StrongroomError]]]:
    """Give all error classes of the product by the code that they set themselves, sorted by it."""
    import_all()
    found: defaultdict[str, list[type[StrongroomError]]] = defaultdict(list)
    every: set[type[StrongroomError]] = {StrongroomError, *_below(StrongroomError)}
    for kind in every:
        if "code" in vars(kind) and kind.__module__.startswith("strongroom."):
            found[kind.code].append(kind)
    return dict(sorted(found.items()))


def _below(kind: type[StrongroomError]) -> Iterator[type[StrongroomError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def page() -> str:
    """Write the page."""
    parts = [_FRONT]
    noun = ""
    for code, (kind, *_) in error_classes().items():
        if code.partition(".")[0] != noun:
            noun = code.partition(".")[0]
            parts.append(f"\n## {noun}\n\n| code | meaning | exit | HTTP | again | cure |\n|---|---|---|---|---|---|\n")
        parts.append(_row(code, kind))
    return "".join(parts)


def _row(code: str, kind: type[StrongroomError]) -> str:
    meaning = (kind.__doc__ or "").splitlines()[0].rstrip(".")
    cells = (f"`{code}`", meaning, str(kind.exit_code), str(kind.http_status), kind.retry, kind.default_hint)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
