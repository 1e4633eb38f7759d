"""What was acknowledged when the power went, for each domain."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from durability.recording import Recording


@dataclass
class Facts:
    """What one domain had acknowledged.

    Attributes:
        name: of the domain and of its home.
        port: where its primary listens.
        has_pool: a pool was made.
        images: images of which a copy is here, with the name of the tree as it was then.
        receipts: images whose copy elsewhere is confirmed.
        tags: keys.
        policies: lifecycle policies.
        trusts: the other domain is trusted.
        sends: the other domain takes images.
        expired: images of which no copy is here any more, for certain.
        damaged: a container that was damaged on purpose, and that no repair has mended yet; empty for none.
    """

    name: str
    port: int
    has_pool: bool = False
    images: dict[str, str] = field(default_factory=dict)
    receipts: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    trusts: bool = False
    sends: bool = False
    expired: list[str] = field(default_factory=list)
    damaged: str = ""

    def home(self, world: Path) -> Path:
        """Give its home."""
        return world / self.name


def facts_at(marks: Iterable[tuple[int, bytes]], line: int) -> dict[str, Facts]:
    """Read the marks that were made up to a line of the record; give the domains that were made by then."""
    found: dict[str, Facts] = {}
    for at, data in marks:
        if at > line:
            break
        mark = json.loads(data)
        name = mark["name"]
        if mark["fact"] == "domain":
            found[name] = Facts(name, mark["port"])
            continue
        facts = found[name]
        match mark["fact"]:
            case "pool":
                facts.has_pool = True
            case "image":
                facts.images[mark["image"]] = mark["tree"]
            case "receipt":
                facts.receipts.append(mark["image"])
            case "key":
                facts.tags.append(mark["tag"])
            case "policy":
                facts.policies.append(mark["policy"])
            case "trust":
                facts.trusts = True
            case "target":
                facts.sends = True
            case "goes":  # from here on it may be gone, though nobody has said so yet
                facts.images.pop(mark["image"])
            case "expired":
                facts.expired.append(mark["image"])
            case "damaged":
                facts.damaged = mark["container"]
            case "repaired":
                facts.damaged = ""
            case other:
                raise ValueError(f"there is no fact '{other}'")
    return found


def names_in(recording: Recording) -> list[str]:
    """Name the domains of a record."""
    last = recording.marks[-1][0] if recording.marks else 0
    return list(facts_at(recording.marks, last))
