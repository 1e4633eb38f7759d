"""Files that had problems in a backup or a restore: all counted, many kept for JSON, the first few shown.

What many files have in common, such as an owner that may not be set, is told once with a count.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from strongroom.cli.output import Output
from strongroom.cli.terminal import encode_path, safe, shown_path
from strongroom.client.problems import Kinds, Trouble

SHOWN: Final = 10
_MOST_FOR_JOB: Final = 100
KEPT: Final = 20_000
"""Some 50 MB when they are written as JSON; what is left out is counted."""


class Troubles:
    """Collects the problems of one command."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._kept: list[Trouble] = []
        self._kinds = Kinds()
        self._single = 0
        self.counts: Counter[str] = Counter()

    def add(self, trouble: Trouble) -> None:
        """Take one; people see the first few at once."""
        self.counts[trouble.code] += 1
        if trouble.kind:
            self._kinds.add(trouble)
            return
        self._single += 1
        if self._single <= SHOWN:
            self._out.say(f"{shown_path(trouble.path)}: {safe(trouble.message)} [{safe(trouble.code)}]")
        if self._out.as_json and len(self._kept) < KEPT:
            self._kept.append(trouble)

    def finish(self) -> None:
        """Tell people about those that were not shown."""
        for _, trouble in self._kinds.summaries():
            self._out.say(f"{safe(trouble.message)} [{safe(trouble.code)}], such as {shown_path(trouble.path)}")
        total = self.counts.total()
        if self._single > SHOWN:
            by_code = ", ".join(f"{count} {safe(code)}" for code, count in sorted(self.counts.items()))
            self._out.say(f"{total} files had problems: {by_code}; --json lists them")

    def for_job(self) -> list[dict[str, Any]]:
        """Give what the log of the job is to tell: once for each kind, and once for each code without one."""
        kinds = self._kinds.summaries()
        of_kinds: Counter[str] = Counter()
        for count, trouble in kinds:
            of_kinds[trouble.code] += count
        found = [{"code": one.code, "message": one.message, "files": count} for count, one in kinds]
        for code, count in sorted((self.counts - of_kinds).items()):
            found.append({"code": code, "message": f"{count} files: {code}", "files": count})
        return found[:_MOST_FOR_JOB]

    def to_json(self) -> dict[str, Any]:
        """Give members for the JSON value of the command."""
        return {
            "problems": self.counts.total(),
            "problems_by_code": dict(sorted(self.counts.items())),
            "problem_files": [
                {
                    "path": trouble.path.decode("utf-8", "backslashreplace"),
                    "path_b64": encode_path(trouble.path),
                    "code": trouble.code,
                    "message": trouble.message,
                }
                for trouble in self._kept
            ],
            "problem_files_left_out": self._single - len(self._kept),
            "problem_kinds": [
                {
                    "code": trouble.code,
                    "kind": trouble.kind,
                    "files": count,
                    "message": trouble.message,
                    "example_b64": encode_path(trouble.path),
                }
                for count, trouble in self._kinds.summaries()
            ],
        }
