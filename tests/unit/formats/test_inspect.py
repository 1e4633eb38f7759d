from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.ids import DomainId, to_text
from strongroom.formats import signed
from strongroom.formats.domain_statement import DOMAIN_STATEMENT
from strongroom.formats.errors import DamagedError
from strongroom.formats.explanation import BytesSource, Explanation, Knowledge, Outcome, Source
from strongroom.formats.identity import REVOCATION_LIST
from strongroom.formats.inspect import EXPLAINERS, MAX_OBJECTS, explain
from tests.formats import make_vectors
from tests.formats import samples as s

ORIGIN = DomainId(s.ORIGIN.id)


def of(data: bytes, knowledge: Knowledge | None = None) -> Explanation:
    return explain(BytesSource(data), knowledge)


def outcome(found: Explanation) -> Outcome:
    assert found.signature is not None
    return found.signature.outcome


def test_a_media_header_is_explained_without_key_or_server() -> None:
    found = of(s.ORIGIN.signed(b"SRMEDH01", s.pack(s.media_header() | {"later": b"\1" * 5})))
    assert (found.what, found.magic, found.problems) == ("media header", "SRMEDH01", ())
    assert found.fields == {
        "domain": ORIGIN.hex(),
        "medium": to_text(s.POOL),
        "kind": "pool",
        "label": "main pool",
        "created": "2026-01-01T00:00:00.000000000Z",
        "features": [],
        "later": "0101010101",
    }
    assert found.signature is not None
    assert found.signature.domain == ORIGIN
    assert found.signature.archive_number == 1
    assert found.signature.outcome is Outcome.UNKNOWN


def test_a_pinned_domain_is_told_apart_from_an_unknown_one_i6() -> None:
    assert outcome(of(s.HEADER, Knowledge(pinned=frozenset({ORIGIN})))) is Outcome.PINNED
    assert outcome(of(s.HEADER, Knowledge(pinned=frozenset({DomainId(s.THIRD.id)})))) is Outcome.UNKNOWN


def test_a_changed_header_is_invalid_with_the_reason_and_still_shown_i6() -> None:
    changed = s.HEADER.replace(b"files1.example", b"files2.example")
    found = of(changed, Knowledge(pinned=frozenset({ORIGIN})))
    assert outcome(found) is Outcome.INVALID
    assert found.signature is not None
    assert found.signature.domain is None
    assert found.problems == ("the signature of the image header does not hold",)
    assert found.fields["client"] == "files2.example"


def test_a_later_version_is_newer_and_not_damage() -> None:
    assert outcome(of(b"SRIMGH02" + s.HEADER[8:])) is Outcome.NEWER


def test_an_object_of_a_revoked_key_is_revoked() -> None:
    revocations = signed.verify(REVOCATION_LIST, s.REVOCATIONS).payload
    knowledge = Knowledge(pinned=frozenset({ORIGIN}), revocations={ORIGIN: revocations})
    by_second_key = s.ORIGIN.signed(b"SRHOPR01", s.pack(s.hop()), number=2)
    assert outcome(of(by_second_key, knowledge)) is Outcome.REVOKED
    assert outcome(of(s.HOP, knowledge)) is Outcome.PINNED


def test_a_copy_header_shows_its_tags_and_what_it_embeds_i1() -> None:
    found = of(s.TARGET_COPY)
    assert found.problems == ()
    assert found.fields["tags"] == [s.TAG.hex()]
    assert found.fields["encrypted"] is True
    assert [part.what for part in found.parts] == ["image header", "hop"]
    image = found.parts[0]
    assert image.fields["(digest of this header)"] == s.digest(s.HEADER).hex()
    assert image.fields["entries"] == {
        "root": s.fixed("entries root").hex(),
        "segments": 4,
        "bytes": 1_000_000,
        "chunker": s.CHUNKER,
    }


def test_a_copy_header_of_sound_parts_that_do_not_belong_together_has_a_problem() -> None:
    found = of(s.copy_at(s.THIRD, [s.HOP]))
    assert outcome(found) is Outcome.UNKNOWN
    assert not any(part.problems for part in found.parts)
    assert "the hops lead to the domain" in found.problems[0]


def test_a_pool_fragment_is_two_objects_that_must_belong_together() -> None:
    found = of(s.COPY + s.TRAILER)
    assert (found.what, found.problems) == ("fragment of a copy in a pool", ())
    assert [part.what for part in found.parts] == ["copy header", "trailer"]
    assert sum(part.length for part in found.parts) == found.length
    other = s.ORIGIN.signed(b"SRTRLR01", s.pack(s.trailer(copy=2)))
    assert of(s.COPY + other).problems == ("the trailer has another 'copy' than the copy header",)
    assert "5 bytes that are no object" in of(s.COPY + s.TRAILER + b"extra").problems[0]


def test_objects_inside_a_journal_batch_are_explained() -> None:
    found = of(s.BATCH_2)
    assert [part.what for part in found.parts] == ["receipt"]
    records = found.fields["records"]
    assert isinstance(records, list)
    lock = records[-1]
    assert isinstance(lock, dict)
    assert lock["kind"] == "lock"
    assert str(lock["until"]).startswith("2026-04-03T")


def test_a_root_key_file_shows_its_head_and_nothing_secret() -> None:
    found = of(s.root_key_file(derived=bytes(32)))
    assert found.fields["domain"] == ORIGIN.hex()
    assert found.problems == ()
    assert s.ORIGIN.root_seed.hex() not in repr(found)


@pytest.mark.parametrize("data", [b"", b"S", b"%PDF-1.7", b"SRIMGHXX", bytes(100)])
def test_what_is_no_format_of_ours_is_said_to_be_unknown(data: bytes) -> None:
    found = of(data)
    assert found.what == "unknown"
    assert found.problems


def test_a_long_file_of_objects_is_explained_as_far_as_the_bound() -> None:
    found = of(s.TRAILER * (MAX_OBJECTS + 1))
    assert len(found.parts) == MAX_OBJECTS
    assert "were not looked at" in found.problems[0]


def test_a_format_is_added_by_a_row() -> None:
    def explainer(source: Source, knowledge: Knowledge) -> Explanation:
        assert not knowledge.pinned
        if source.size < 6:
            raise DamagedError("the note is cut short")
        return Explanation("note", "SRZ1", source.size)

    more = {b"SRZ": explainer, **EXPLAINERS}
    assert explain(BytesSource(b"SRZ1.."), explainers=more).what == "note"
    assert explain(BytesSource(b"SRZ1."), explainers=more).problems == ("the note is cut short",)
    assert explain(BytesSource(b"SRZOOT01"), explainers=more).what == "unknown"


@given(st.sampled_from([s.COPY + s.TRAILER, s.BATCH_2, s.ENVELOPES[0]]), st.data())
def test_hostile_files_are_explained_and_raise_nothing(good: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 20))
    hostile = good[:at] + data.draw(st.binary(max_size=20)) + good[at + cut :]
    found = of(hostile)
    troubled = found.problems or any(part.problems for part in found.parts)
    assert troubled or hostile in (good, s.COPY)


@pytest.mark.parametrize(
    ("name", "what"), [("domain-statement", "domain statement"), ("trust-binding", "trust binding")]
)
def test_what_primaries_sign_for_each_other_is_explained(name: str, what: str) -> None:
    cases = json.loads((make_vectors.VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    for case in cases:
        found = of(bytes.fromhex(case["data"]))
        assert bool(found.problems) == (case["outcome"] != "ok"), case["name"]
        if case["outcome"] == "ok":
            assert found.what == what


def test_a_domain_statement_shows_the_fingerprint_that_people_compare() -> None:
    (case, *_) = json.loads((make_vectors.VECTORS / "domain-statement.json").read_text(encoding="utf-8"))["cases"]
    statement = signed.verify(DOMAIN_STATEMENT, bytes.fromhex(case["data"])).payload
    found = of(bytes.fromhex(case["data"]))
    assert found.fields["(fingerprints of the roots)"] == [hashlib.sha256(r).hexdigest() for r in statement.roots]
