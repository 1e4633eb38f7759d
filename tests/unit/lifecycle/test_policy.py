from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from strongroom.lifecycle.errors import OperationsError, PolicyDocumentError, PolicyNameError
from strongroom.lifecycle.policy import (
    MAX_DOCUMENT_BYTES,
    Fixed,
    Import,
    Passed,
    Replication,
    Target,
    TargetRetention,
    check_name,
    read_policy,
    retention_here,
    retention_there,
    write_policy,
)

DOMAIN, OTHER = "ab" * 32, "cd" * 32
BACKUP = {"type": "backup", "storage": "pool", "retention": {"type": "fixed", "seconds": 60}, "key_group": "keys"}
IMPORT = {"type": "import", "storage": "pool", "retention": {"type": "target", "otherwise_seconds": 60}}


def replication(source: int = 1, domain: str = DOMAIN, **more: Any) -> dict[str, Any]:
    return {"type": "replication", "source": source, "to": {"type": "domain", "domain": domain, "slp": "in"}} | more


def document(*operations: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"name": "gold", "operations": operations} | more).encode()


@pytest.mark.parametrize("name", ["a" * 112, "é" * 112, "\U0001f512" * 112, "e\u0301" * 112, "from A to B"])
def test_name_of_112_characters_is_taken_whatever_their_bytes_r4(name: str) -> None:
    assert len(check_name(name)) <= 112
    assert len(check_name(name).encode()) <= 448


def test_name_of_113_characters_is_refused_with_the_numbers_r4() -> None:
    with pytest.raises(PolicyNameError, match="113 characters; 1 to 112"):
        check_name("a" * 113)


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\x00", "a\u202eb", "a\u200bb", "\ud800", "a\u2028b"])
def test_name_that_nobody_can_type_or_see_is_refused(name: str) -> None:
    with pytest.raises(PolicyNameError):
        check_name(name)


def test_names_that_look_equal_are_equal() -> None:
    assert check_name("caf\u0065\u0301") == check_name("caf\u00e9")
    policy = read_policy(document(BACKUP, replication(to={"type": "domain", "domain": DOMAIN, "slp": "e\u0301"})))
    target = policy.operations[1]
    assert isinstance(target, Replication)
    assert isinstance(target.to, Target)
    assert target.to.slp == "\u00e9"


def test_policy_reads_as_it_was_written() -> None:
    policy = read_policy(document(BACKUP, replication(), replication(domain=OTHER), data_class="secret"))
    assert read_policy(write_policy(policy)) == policy


@pytest.mark.parametrize(
    ("operations", "rule"),
    [
        ([replication()], "must be a backup or an import"),
        ([BACKUP, IMPORT], "only the first one"),
        ([IMPORT, IMPORT], "only the first one"),
        ([BACKUP, BACKUP], "only the first one"),
        ([BACKUP | {"source": 1}], "cannot start from another"),
        ([BACKUP, replication(2)], "earlier one"),
        ([BACKUP, replication(), replication(2, OTHER)], "makes no copy in this domain"),
        ([BACKUP, replication(), replication()], "target twice"),
        ([BACKUP, replication(), replication(to={"type": "all"})], "the only replication"),
        ([IMPORT | {"retention": {"type": "fixed", "seconds": 9}}], "needs target retention"),
        ([BACKUP, replication(retention={"type": "target"})], "only a policy with an import"),
        (
            [IMPORT | {"retention": {"type": "target", "otherwise_seconds": 5, "at_least_seconds": 9}}],
            "between",
        ),
    ],
)
def test_rules_of_the_operations_r4_l1(operations: list[dict[str, Any]], rule: str) -> None:
    with pytest.raises(OperationsError, match=rule):
        read_policy(document(*operations))


def test_import_with_fixed_retention_may_pass_the_target_retention_on_r4() -> None:
    fixed = IMPORT | {"retention": {"type": "fixed", "seconds": 9}}
    assert read_policy(document(fixed, replication(retention={"type": "target"}))).takes_imports


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"[]",
        b"\xff",
        document(),
        document(BACKUP | {"typo": 1}),
        document(BACKUP | {"retention": {"type": "fixed", "seconds": 0}}),
        document(BACKUP | {"retention": {"type": "target", "otherwise_seconds": 1}}),
        document(BACKUP, replication(domain="AB" * 32)),
        document(BACKUP, replication(domain=DOMAIN + "\n")),
        document(*[BACKUP] * 65),
        document(BACKUP, data_class="x" * 65),
        b" " * (MAX_DOCUMENT_BYTES + 1),
        b"[" * 50_000,
    ],
)
def test_document_that_cannot_be_read_is_refused(bad: bytes) -> None:
    with pytest.raises(PolicyDocumentError):
        read_policy(bad)


@pytest.mark.parametrize(("wanted", "kept"), [(None, 50), (5, 10), (70, 70), (1 << 33, 100)])
def test_wanted_retention_is_kept_between_floor_and_ceiling_l2(wanted: int | None, kept: int) -> None:
    bounds = TargetRetention(otherwise_seconds=50, at_least_seconds=10, at_most_seconds=100)
    assert retention_here(Import(storage="pool", retention=bounds), wanted) == kept


def test_fixed_retention_of_an_import_wins_over_what_is_wanted_l2() -> None:
    assert retention_here(Import(storage="pool", retention=Fixed(7)), 99) == 7


@pytest.mark.parametrize(("retention", "said"), [(None, None), (Fixed(7), 7), (Passed(), 99)])
def test_hop_says_the_retention_that_is_wanted_there(retention: Fixed | Passed | None, said: int | None) -> None:
    assert retention_there(Replication(source=1, to=Target(DOMAIN, "in"), retention=retention), 99) == said


def test_example_in_the_documentation_is_a_policy() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/lifecycle-policies.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert read_policy(example.encode()).name == "gold"
