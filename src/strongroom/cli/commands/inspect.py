"""``strongroom inspect``: what a file of strongroom says, without a server or a key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from strongroom.cli.exits import DAMAGED, WITH_PROBLEMS, leave
from strongroom.cli.output import Output
from strongroom.cli.session import alone
from strongroom.cli.terminal import safe, size
from strongroom.core.errors import InputError

if TYPE_CHECKING:
    from strongroom.formats.explanation import Explanation

_UNKNOWN: Final = "unknown"
_UNREAD: Final = "not read"


@click.command()
@alone
@click.argument("path", type=click.Path(path_type=Path, exists=True), metavar="FILE")
@click.option("--recursive", is_flag=True, help="FILE is a folder: one line for each file in it.")
@click.option("--pin", "pins", multiple=True, metavar="DOMAIN", help="Id of a domain that you know; may be repeated.")
def command(out: Output, path: Path, recursive: bool, pins: tuple[str, ...]) -> None:
    """Show what a header, container, label or key file says, and who signed it.

    Ends with 6 when something of it is damaged, or not signed by who it says. Keys are never shown. In a folder, files
    that hold no lasting format are named and do not count; it ends with 10 when some could not be read.
    """
    pinned = _pinned(pins)
    if path.is_dir() != recursive:
        raise InputError(
            f"'{path}' is {'a folder' if path.is_dir() else 'no folder'}",
            hint="give --recursive for a folder, and only for one",
        )
    if recursive:
        leave(_show_folder(out, path, pinned))
    found = _explain(path, pinned)
    out.result(_to_json(found), None if out.as_json else "\n".join(_lines(found, 0)))
    leave(DAMAGED if _problems(found) else 0)


def _show_folder(out: Output, path: Path, pinned: frozenset[Any]) -> int:
    code = 0

    def results() -> Iterator[dict[str, Any]]:
        nonlocal code
        for file, found in _explained(path, pinned):
            if found.what == _UNREAD:
                code = code or WITH_PROBLEMS
            elif found.what != _UNKNOWN and _problems(found):
                code = DAMAGED
            if out.as_json:
                yield {"file": os.fsencode(file).decode("utf-8", "backslashreplace"), **_to_json(found)}
            else:
                click.echo(f"{safe(str(file))}: {_line(found)}")

    if out.as_json:
        out.stream(results())
    else:
        for _ in results():
            pass
    return code


def _explained(path: Path, pinned: frozenset[Any]) -> Iterator[tuple[Path, Explanation]]:
    """Explain the regular files and sockets below a folder, in order; links are not followed."""
    closed: list[OSError] = []
    for folder, names, files in os.walk(path, onerror=closed.append):
        names.sort()
        for name in sorted(files):
            file = Path(folder, name)
            try:
                if not file.is_symlink() and (file.is_file() or file.is_socket()):
                    yield file, _explain(file, pinned)
            except FileNotFoundError:
                continue  # a domain that is served makes files and removes them
            except OSError as error:
                yield file, _unread(error)
    for refused in closed:
        yield Path(refused.filename), _unread(refused)


def _unread(error: OSError) -> Explanation:
    from strongroom.formats.explanation import Explanation

    return Explanation(_UNREAD, "", 0, problems=((error.strerror or str(error)).lower(),))


def _explain(path: Path, pinned: frozenset[Any]) -> Explanation:
    from strongroom.cli.file_source import FileSource
    from strongroom.formats.explanation import Explanation, Knowledge
    from strongroom.formats.inspect import explain
    from strongroom.formats.other_files import explain_other

    if path.is_socket():
        return Explanation("socket: no lasting format", "", 0)
    with FileSource(path) as source:
        found = explain(source, Knowledge(pinned=pinned))
        return (found.what == _UNKNOWN and explain_other(source, path.name)) or found


def _pinned(pins: tuple[str, ...]) -> frozenset[Any]:
    from strongroom.core.ids import DIGEST_BYTES, DomainId, from_text

    found = set()
    for pin in pins:
        try:
            value = from_text(pin)
        except ValueError as error:
            raise InputError(f"'{pin}' is not the id of a domain", hint="give 64 hexadecimal digits") from error
        if len(value) != DIGEST_BYTES:
            raise InputError(f"'{pin}' is not the id of a domain", hint="give 64 hexadecimal digits")
        found.add(DomainId(value))
    return frozenset(found)


def _problems(found: Explanation) -> list[str]:
    """List what is wrong with a file and all that is in it."""
    return [*found.problems, *(problem for part in found.parts for problem in _problems(part))]


def _to_json(found: Explanation) -> dict[str, Any]:
    from strongroom.core.ids import to_text

    signature = None
    if found.signature is not None:
        signed = found.signature
        signature = {
            "outcome": str(signed.outcome),
            "domain": to_text(signed.domain) if signed.domain is not None else None,
            "archive_number": signed.archive_number,
            "reason": signed.reason,
        }
    return {
        "what": found.what,
        "magic": found.magic,
        "length": found.length,
        "fields": dict(found.fields),
        "signature": signature,
        "problems": list(found.problems),
        "parts": [_to_json(part) for part in found.parts],
    }


def _line(found: Explanation) -> str:
    words = [found.what, size(found.length)]
    if found.signature is not None:
        words.append(str(found.signature.outcome))
    problems = _problems(found)
    if problems and found.what != _UNKNOWN:
        words.append(f"PROBLEM: {problems[0]}" + (f" and {len(problems) - 1} more" if problems[1:] else ""))
    return safe(", ".join(words))


def _lines(found: Explanation, depth: int) -> Iterator[str]:
    from strongroom.core.ids import to_text

    edge = "  " * depth
    magic = f" ({safe(found.magic)})" if found.magic else ""
    yield f"{edge}{safe(found.what)}{magic}, {found.length} bytes"
    if found.signature is not None:
        signed = found.signature
        who = f", signed by {to_text(signed.domain)}" if signed.domain is not None else ""
        key = f" with archive key {signed.archive_number}" if signed.archive_number is not None else ""
        yield f"{edge}  signature: {signed.outcome}{who}{key}"
    for problem in found.problems:
        yield f"{edge}  PROBLEM: {safe(problem)}"
    yield from _value_lines(found.fields, f"{edge}  ")
    for part in found.parts:
        yield from _lines(part, depth + 1)


def _value_lines(value: Any, edge: str) -> Iterator[str]:
    items = value.items() if hasattr(value, "items") else ((f"- {place}", item) for place, item in enumerate(value, 1))
    for key, item in items:
        if isinstance(item, dict | list) and item:
            yield f"{edge}{safe(str(key))}:"
            yield from _value_lines(item, edge + "  ")
        else:
            shown = "-" if item is None or item in ("", [], {}) else safe(str(item))
            yield f"{edge}{safe(str(key))}: {shown}"
