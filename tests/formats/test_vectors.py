"""Every vector has the outcome that its file states, and the files are what their generator gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import DomainId, MediumId
from strongroom.core.secret import Secret
from strongroom.formats import copy_header, fragment, journal, key_envelope, root_key, signed
from strongroom.formats.hop import HOP
from strongroom.formats.identity import REVOCATION_LIST, RootKeySigner
from strongroom.formats.image_header import IMAGE_HEADER, header_digest
from strongroom.formats.key_envelope import KEY_ENVELOPE, WrapContext
from strongroom.formats.media_header import MEDIA_HEADER
from strongroom.formats.passphrase import normalise
from strongroom.formats.receipt import RECEIPT, ReceiptMismatchError, check_answers
from strongroom.formats.signed import ARCHIVE_CERTIFICATE, Kind
from strongroom.formats.trailer import TRAILER
from tests.formats import make_peer_vectors, make_vectors, samples

KINDS: dict[str, Kind[Any]] = {
    "archive-certificate": ARCHIVE_CERTIFICATE,
    "revocation-list": REVOCATION_LIST,
    "media-header": MEDIA_HEADER,
    "image-header": IMAGE_HEADER,
    "hop": HOP,
    "copy-header": copy_header.COPY_HEADER,
    "trailer": TRAILER,
    "receipt": RECEIPT,
    "key-envelope": KEY_ENVELOPE,
    "journal-batch": journal.BATCH,
}


def load(name: str) -> Any:
    return json.loads((make_vectors.VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def cases(*names: str) -> list[Any]:
    return [pytest.param(n, c, id=f"{n}-{c['name']}") for n in names for c in load(n)["cases"]]


def outcome(check: Callable[[], object]) -> str:
    try:
        check()
    except StrongroomError as error:
        return error.code
    return "ok"


def checker(name: str) -> Callable[[bytes], Any]:
    match name:
        case "copy-header":
            return copy_header.verify
        case "fragment":
            return fragment.verify
        case _:
            return lambda data: signed.verify(KINDS[name], data)


def test_the_files_are_what_their_generator_gives() -> None:
    expected = make_vectors.files() | make_peer_vectors.files()
    assert {path.name for path in make_vectors.VECTORS.iterdir()} == set(expected)
    for name, text in expected.items():
        assert (make_vectors.VECTORS / name).read_text(encoding="utf-8") == text, name


@pytest.mark.parametrize(("name", "case"), cases(*KINDS, "fragment"))
def test_a_signed_object_has_the_stated_outcome_i6(name: str, case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["data"])
    assert outcome(lambda: checker(name)(data)) == case["outcome"]


@pytest.mark.parametrize("name", KINDS)
def test_a_good_object_says_what_was_put_in_and_is_written_the_same(name: str) -> None:
    (good, *_) = load(name)["cases"]
    data = bytes.fromhex(good["data"])
    verified = signed.verify(KINDS[name], data)
    assert verified.signer.hex() == good["signer"]
    said = msgspec.to_builtins(verified.payload, builtin_types=(bytes,))
    assert make_vectors.readable(said) == good["fields"]
    domain = next(d for d in (samples.ORIGIN, samples.TARGET) if d.id == verified.signer)
    signer = RootKeySigner(Secret(domain.root_seed)) if KINDS[name].by_root else domain.signer()
    assert signed.sign(KINDS[name], verified.payload, signer) == data


def test_another_pinned_domain_is_foreign_and_not_damage() -> None:
    stranger = DomainId(samples.THIRD.id)
    assert outcome(lambda: signed.verify(HOP, samples.HOP, pinned=stranger)) == "format.foreign"
    assert outcome(lambda: copy_header.verify(samples.COPY, pinned=stranger)) == "format.foreign"
    assert outcome(lambda: fragment.verify(samples.COPY + samples.TRAILER, pinned=stranger)) == "format.foreign"


def test_a_fragment_file_is_written_as_the_vectors_have_it() -> None:
    assert fragment.encode(samples.COPY, samples.ORIGIN.signer()) == samples.COPY + samples.TRAILER
    read = fragment.verify(fragment.encode(samples.TARGET_COPY, samples.TARGET.signer()))
    assert [hop.signer for hop in read.hops] == [samples.ORIGIN.id]
    assert header_digest(read.image.data) == samples.digest(samples.HEADER)


@pytest.mark.parametrize("case", load("journal")["cases"], ids=lambda case: case["name"])
def test_a_journal_is_complete_up_to_the_stated_batch(case: dict[str, Any]) -> None:
    found = load("journal")
    batches = [bytes.fromhex(data) for data in case["batches"]]
    domain, medium = DomainId(bytes.fromhex(found["domain"])), MediumId(bytes.fromhex(found["medium"]))
    state = journal.follow(batches, domain=domain, medium=medium)
    assert state.complete_to == case["complete_to"]
    assert (state.problem.code if state.problem else "ok") == case["outcome"]


@pytest.mark.parametrize("case", load("root-key-file")["cases"], ids=lambda case: case["name"])
def test_a_root_key_file_has_the_stated_outcome(case: dict[str, Any]) -> None:
    phrase = normalise(load("root-key-file")["pass_phrase"])
    data = bytes.fromhex(case["data"])
    assert outcome(lambda: root_key.open_sealed(data, phrase)) == case["outcome"]
    if case["outcome"] == "ok":
        seed = root_key.open_sealed(data, phrase)
        assert seed.reveal().hex() == case["seed"]
        assert RootKeySigner(seed).domain.hex() == case["domain"]


@pytest.mark.parametrize("number", [1, 2])
def test_data_keys_open_under_the_wrapping_key_of_each_generation(number: int) -> None:
    keys = load("keys")
    envelope = signed.verify(KEY_ENVELOPE, samples.ENVELOPES[number - 1]).payload
    wrapping_key = Secret(bytes.fromhex(keys["wrapping_keys"][str(number)]))
    opened = {
        row.key: key_envelope.unwrap(row, wrapping_key=wrapping_key, context=WrapContext.of(envelope))
        for row in envelope.keys
    }
    assert {key.hex(): value.reveal().hex() for key, value in opened.items()} == {
        key: value["value"] for key, value in keys["data_keys"].items()
    }
    for key, value in opened.items():
        stated = keys["data_keys"][key.hex()]["frame_key"]
        assert key_envelope.frame_key(value).reveal().hex() == stated


@pytest.mark.parametrize("field", ["domain", "source", "sending", "image", "origin", "header"])
def test_a_receipt_counts_only_for_the_very_sending_r8(field: str) -> None:
    ours = signed.verify(HOP, samples.HOP).payload
    receipt = signed.verify(RECEIPT, samples.RECEIPT).payload
    check_answers(receipt, ours)
    other = msgspec.structs.replace(receipt, **{field: bytes(len(getattr(receipt, field)))})
    with pytest.raises(ReceiptMismatchError, match=f"'{field}'"):
        check_answers(other, ours)
