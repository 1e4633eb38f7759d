"""Write the test vectors of the signed formats: ``python -m tests.formats.make_vectors``.

Deterministic: keys, ids and times are fixed, and Ed25519 needs no randomness. A test compares the files
    with what this module gives, so that neither can change alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tests.formats import samples as s
from tests.formats.samples import ORIGIN, TARGET, THIRD, Record, pack

VECTORS = Path(__file__).parent / "vectors"
DAMAGED, NEWER, SIGNATURE = "format.damaged", "format.newer", "format.bad-signature"
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493

Case = dict[str, Any]
Seal = Callable[[bytes, bytes], bytes]


def case(name: str, outcome: str, data: bytes, **more: Any) -> Case:
    return {"name": name, "outcome": outcome, **more, "data": data.hex()}


def readable(value: Any) -> Any:
    """A record as JSON: bytes become text with a mark before it."""
    match value:
        case bytes():
            return f"hex:{value.hex()}"
        case dict():
            return {key: readable(item) for key, item in value.items()}
        case list() | tuple():
            return [readable(item) for item in value]
        case _:
            return value


def renamed(body: Record, old: str, new: str) -> Record:
    return {new if key == old else key: value for key, value in body.items()}


def altered(data: bytes, position: int, change: int = 1) -> bytes:
    return data[:position] + bytes([data[position] ^ change]) + data[position + 1 :]


def resealed(data: bytes, **changes: Any) -> bytes:
    """The same magic and payload under a seal that differs in some fields; nothing is signed anew."""
    (length,) = struct.unpack_from(">I", data, 8)
    seal = msgspec.msgpack.decode(data[16 + length :])
    return s.frame(data[:8], data[12 : 12 + length], pack(seal | changes))


def frame_cases(magic: bytes, body: Record, seal: Seal) -> list[Case]:
    """What can go wrong with any signed object."""
    good = seal(magic, pack(body))
    by_root = magic in (b"SRARCC01", b"SRREVL01")
    packed = pack(body)
    entries = packed[len(map_head(len(body))) :]
    sig_at = len(good) - 64
    too_big = int.from_bytes(good[-32:], "little") + ED25519_ORDER
    first, *others = body.items()
    elsewhere = {"domain": THIRD.id} | ({"image": s.image_id(THIRD.id, s.SALT)} if "salt" in body else {})
    cases = [
        case("good", "ok", good, signer=body["domain"].hex(), fields=readable(body)),
        case("good-keys-in-another-order", "ok", seal(magic, pack(dict([*others, first])))),
        case("good-key-of-a-later-version", "ok", seal(magic, pack(body | {"zz_later": [1, {"a": b"b"}]}))),
        case("empty", DAMAGED, b""),
        case("cut-by-one", DAMAGED, good[:-1]),
        case("one-byte-behind", DAMAGED, good + b"\0"),
        case("other-magic", DAMAGED, b"SRXXXX01" + good[8:]),
        case("later-version", NEWER, good[:6] + b"02" + good[8:]),
        case("version-zero", DAMAGED, good[:6] + b"00" + good[8:]),
        case("payload-changed", SIGNATURE, altered(good, 20)),
        case("signature-changed", SIGNATURE, altered(good, sig_at)),
        case("signature-not-canonical", SIGNATURE, good[:-32] + too_big.to_bytes(32, "little")),
        case("length-beyond-its-bound", DAMAGED, good[:8] + b"\xff\xff\xff\xff" + good[12:]),
        case("domain-of-another", SIGNATURE, seal(magic, pack(body | elsewhere))),
        case("record-not-canonical", DAMAGED, seal(magic, b"\xdf" + struct.pack(">I", len(body)) + entries)),
        case("record-with-key-twice", DAMAGED, seal(magic, map_head(len(body) + 1) + entries + entries[:41])),
        case("record-with-float", DAMAGED, seal(magic, pack(body | {"zz": 1.5}))),
        case("text-with-a-zero-byte", DAMAGED, seal(magic, pack(body | {"zz": "a\0b"}))),
        case("integer-beyond-its-range", DAMAGED, seal(magic, pack(body | {"zz": 1 << 63}))),
        case("record-with-nan", DAMAGED, seal(magic, pack(body | {"zz": float("nan")}))),
        case("record-cut", DAMAGED, seal(magic, packed[:-1])),
        case("record-is-an-array", DAMAGED, seal(magic, pack(list(body.values())))),
        case("record-too-deep", DAMAGED, seal(magic, pack(body | {"zz": nested(16)}))),
        case("good-record-as-deep-as-allowed", "ok", seal(magic, pack(body | {"zz": nested(15)}))),
        case("field-missing", DAMAGED, seal(magic, pack(dict([*others[:-1], first])))),
        case("signature-algorithm-of-a-later-version", NEWER, resealed(good, alg=2)),
        case("key-added-to-the-seal", DAMAGED, resealed(good, more=1)),
        case("wrong-sort-of-key", SIGNATURE, resealed(good, cert=ORIGIN.cert() if by_root else None)),
        case("root-key-of-small-order", SIGNATURE, resealed(good, root=(1).to_bytes(32, "little"))),
        case("root-key-of-another", SIGNATURE, resealed(good, root=THIRD.root)),
    ]  # fmt: skip
    if not by_root:
        cases += [
            case("certificate-of-another-domain", SIGNATURE, resealed(good, cert=THIRD.cert())),
            case("certificate-of-another-key-of-the-domain", SIGNATURE, resealed(good, cert=ORIGIN.cert(2))),
        ]
    if "features" in body:
        cases.append(case("unknown-feature", NEWER, seal(magic, pack(body | {"features": ["sparse"]}))))
        odd = body | {"features": ["sparse"], "medium": "text", "image": None}
        cases.append(case("unknown-feature-changes-a-field", NEWER, seal(magic, pack(odd))))
        cases.append(case("features-absent", DAMAGED, seal(magic, pack(renamed(body, "features", "other")))))
    return cases


def map_head(count: int) -> bytes:
    return bytes([0x80 | count]) if count < 16 else b"\xde" + struct.pack(">H", count)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


def changed(seal: Seal, magic: bytes, make: Callable[..., Record]) -> Callable[..., Case]:
    def one(name: str, outcome: str, **changes: Any) -> Case:
        return case(name, outcome, seal(magic, pack(make(**changes))))

    return one


def kinds() -> dict[str, list[Case]]:
    """Every case of every signed kind, by the name of its page or file."""
    origin, target, root = ORIGIN.signed, TARGET.signed, ORIGIN.root_signed
    key = {"domain": ORIGIN.id, "number": 1, "alg": 1, "key": s.fixed("archive public"), "from": s.T0}
    certificate = changed(root, b"SRARCC01", lambda **c: key | c)
    revocations = changed(root, b"SRREVL01", s.revocation_list)
    media = changed(origin, b"SRMEDH01", s.media_header)
    image = changed(origin, b"SRIMGH01", s.image_header)
    hop = changed(origin, b"SRHOPR01", s.hop)
    copy = changed(origin, b"SRCPYH01", s.copy_header)
    end = changed(origin, b"SRTRLR01", s.trailer)
    receipt = changed(target, b"SRRCPT01", s.receipt)
    envelope = changed(origin, b"SRENVL01", s.key_envelope)
    journal = changed(origin, b"SRJRNL01", lambda **c: s.batch(1, bytes(32), s.state_record(**c)))
    row = next(row for row in s.key_envelope()["keys"] if row["purpose"] == 1)
    streams = s.image_header()
    second = origin(b"SRCPYH01", pack(s.copy_header(fragment=2, earlier=[s.POOL], previous=s.fixed("trailer"))))
    header = origin(b"SRIMGH01", pack(s.image_header(entries=None, payload=None)))
    no_streams = origin(b"SRCPYH01", pack(s.copy_header(header=header)))
    clear = origin(b"SRCPYH01", pack(s.copy_header(encrypted=False, cipher=0, tags=[], key_pages=[])))
    elsewhere = origin(b"SRCPYH01", pack(s.copy_header(journal_medium=s.TARGET_POOL)))
    return {
        "archive-certificate": [
            *frame_cases(b"SRARCC01", key, root),
            certificate("number-zero", DAMAGED, number=0),
            certificate("key-of-a-later-algorithm", NEWER, alg=2),
        ],
        "revocation-list": [
            *frame_cases(b"SRREVL01", s.revocation_list(), root),
            revocations("good-empty", "ok", revoked=[]),
            revocations("reason-of-too-many-bytes", DAMAGED, revoked=[
                {"certificate": 1, "since": 0, "reason": "\u00e9" * 129}]),
            revocations("not-ascending", DAMAGED, revoked=[
                {"certificate": n, "since": 0, "reason": ""} for n in (2, 1)]),
            revocations("reason-too-long", DAMAGED, revoked=[
                {"certificate": 1, "since": 0, "reason": "x" * 257}]),
        ],
        "media-header": [
            *frame_cases(b"SRMEDH01", s.media_header(), origin),
            media("good-tape", "ok", kind="tape", label="\u00e9" * 64),
            media("another-kind", NEWER, kind="cloud"),
            media("label-empty", DAMAGED, label=""),
            media("label-too-long", DAMAGED, label="x" * 129),
            media("label-of-too-many-bytes", DAMAGED, label="\u00e9" * 65),
            media("label-with-a-zero-byte", DAMAGED, label="a\0b"),
            media("medium-too-short", DAMAGED, medium=s.POOL[:15]),
        ],
        "image-header": [
            *frame_cases(b"SRIMGH01", s.image_header(), origin),
            image("good-not-encrypted", "ok", cipher=0, key_group=bytes(16)),
            image("good-kept-for-ever", "ok", retention=None),
            image("cipher-of-a-later-version", NEWER, cipher=2),
            image("kind-of-a-later-version", NEWER, kind="synthetic"),
            image("cipher-without-key-group", DAMAGED, key_group=bytes(16)),
            image("key-group-without-cipher", DAMAGED, cipher=0),
            image("good-policy-of-112-characters", "ok", slp="\U0001f512" * 112),
            image("good-not-in-a-pool", "ok", entries=None, payload=None),
            image("one-stream-only", DAMAGED, payload=None),
            image("identity-of-another-domain", DAMAGED, image=s.image_id(TARGET.id, s.SALT)),
            image("salt-of-another-image", DAMAGED, salt=s.OTHER_SALT),
            image("digest-of-a-later-version", NEWER, digest=3),
            image("retention-too-long", DAMAGED, retention=(1 << 33) + 1),
            image("time-before-1970", DAMAGED, started=-1),
            image("stream-incomplete", DAMAGED, entries={"root": s.fixed("entries root"), "segments": 4}),
        ],
        "hop": [
            *frame_cases(b"SRHOPR01", s.hop(), origin),
            hop("good-with-retention", "ok", retention=86_400),
            hop("retention-too-long", DAMAGED, retention=(1 << 33) + 1),
            hop("policy-name-too-long", DAMAGED, slp="x" * 113),
        ],
        "copy-header": [
            *frame_cases(b"SRCPYH01", s.copy_header(), origin),
            case("good-at-a-target", "ok", s.TARGET_COPY),
            case("good-at-the-end-of-a-cascade", "ok", s.copy_at(THIRD, [s.HOP, s.SECOND_HOP])),
            copy("good-with-streams-of-its-own", "ok", entries=streams["payload"], payload=streams["entries"]),
            copy("one-stream-only", DAMAGED, entries=streams["entries"]),
            case("hops-in-the-domain-of-the-origin", DAMAGED, s.copy_at(ORIGIN, [
                s.HOP, TARGET.signed(b"SRHOPR01", pack(s.hop(TARGET, ORIGIN, s.digest(s.HOP))))])),
            copy("good-second-fragment", "ok", fragment=2, earlier=[s.fixed("tape 1", 16)],
                 previous=s.fixed("trailer")),
            copy("second-fragment-without-the-trailer-before", DAMAGED, fragment=2, earlier=[s.fixed("tape 1", 16)]),
            copy("first-fragment-with-a-trailer-before", DAMAGED, previous=s.fixed("trailer")),
            copy("good-not-encrypted", "ok", encrypted=False, cipher=0, tags=[], key_pages=[]),
            copy("fragment-without-its-media", DAMAGED, fragment=2, previous=s.fixed("trailer")),
            copy("encrypted-without-cipher", DAMAGED, cipher=0),
            copy("clear-with-tags", DAMAGED, encrypted=False, cipher=0, key_pages=[]),
            copy("clear-with-key-pages", DAMAGED, encrypted=False, cipher=0, tags=[]),
            copy("encrypted-without-tags", DAMAGED, tags=[]),
            copy("tags-not-ascending", DAMAGED, tags=[b"\2" * 32, b"\1" * 32]),
            copy("tag-twice", DAMAGED, tags=[s.TAG, s.TAG]),
            copy("copy-number-zero", DAMAGED, copy=0),
            copy("header-of-another-image", DAMAGED, image=s.OTHER_IMAGE),
            copy("header-changed", SIGNATURE, header=altered(s.HEADER, 100)),
            copy("header-of-a-later-version", NEWER, header=b"SRIMGH02" + s.HEADER[8:]),
            case("foreign-header-without-hops", DAMAGED, s.copy_at(TARGET, [])),
            case("hops-lead-elsewhere", DAMAGED, s.copy_at(THIRD, [s.HOP])),
            case("hops-in-the-wrong-order", DAMAGED, s.copy_at(THIRD, [s.SECOND_HOP, s.HOP])),
            case("hop-missing", DAMAGED, s.copy_at(THIRD, [s.SECOND_HOP])),
            case("hop-of-another-image", DAMAGED, s.copy_at(TARGET, [
                origin(b"SRHOPR01", pack(s.hop(image=s.OTHER_IMAGE)))])),
            case("hop-of-another-header", DAMAGED, s.copy_at(TARGET, [
                origin(b"SRHOPR01", pack(s.hop(header=bytes(32))))])),
            case("hop-does-not-name-the-one-before", DAMAGED, s.copy_at(THIRD, [
                s.HOP, TARGET.signed(b"SRHOPR01", pack(s.hop(TARGET, THIRD, bytes(32))))])),
            case("hops-in-a-circle", DAMAGED, s.copy_at(TARGET, circle())),
            case("hops-that-returned-are-not-cut", DAMAGED, s.copy_at(TARGET, returned())),
            case("hop-changed", SIGNATURE, s.copy_at(TARGET, [altered(s.HOP, 100)])),
        ],
        "trailer": [
            *frame_cases(b"SRTRLR01", s.trailer(), origin),
            end("last-is-a-number", DAMAGED, last=1),
        ],
        "fragment": [
            case("good", "ok", s.COPY + s.TRAILER),
            case("good-at-a-target", "ok", s.TARGET_COPY + target(
                b"SRTRLR01", pack(s.trailer(s.TARGET_COPY, domain=TARGET.id, medium=s.TARGET_POOL)))),
            case("clear-copy-of-an-encrypted-image", DAMAGED, clear + origin(b"SRTRLR01", pack(s.trailer(clear)))),
            case("without-streams", DAMAGED, no_streams + origin(b"SRTRLR01", pack(s.trailer(no_streams)))),
            case("journal-of-another-medium", DAMAGED, elsewhere + origin(
                b"SRTRLR01", pack(s.trailer(elsewhere)))),
            case("without-trailer", DAMAGED, s.COPY),
            case("byte-between", DAMAGED, s.COPY + b"\0" + s.TRAILER),
            case("byte-behind", DAMAGED, s.COPY + s.TRAILER + b"\0"),
            case("trailer-of-another-domain", "format.foreign", s.COPY + target(
                b"SRTRLR01", pack(s.trailer(domain=TARGET.id)))),
            *[
                case(f"trailer-{name}", DAMAGED, s.COPY + origin(b"SRTRLR01", pack(s.trailer(**change))))
                for name, change in dict[str, Record]({
                    "of-another-medium": {"medium": s.TARGET_POOL},
                    "of-another-image": {"image": s.OTHER_IMAGE},
                    "of-another-copy": {"copy": 2},
                    "of-another-fragment": {"fragment": 2},
                    "of-another-attempt": {"copy_header": bytes(32)},
                    "not-the-last": {"last": False},
                    "with-another-digest": {"digest": bytes(32)},
                    "with-another-length": {"bytes": 1},
                    "with-another-count": {"files": 1},
                }).items()
            ],
            case("second-fragment", DAMAGED, second + origin(b"SRTRLR01", pack(s.trailer(second, fragment=2)))),
        ],
        "receipt": [
            *frame_cases(b"SRRCPT01", s.receipt(), target),
            receipt("good-readable", "ok", state="readable", expires=s.T0),
            receipt("state-of-a-later-version", NEWER, state="verified"),
            receipt("tags-not-ascending", DAMAGED, tags=[b"\2" * 32, b"\1" * 32]),
        ],
        "key-envelope": [
            *frame_cases(b"SRENVL01", s.key_envelope(), origin),
            envelope("good-next-generation", "ok", generation=2),
            envelope("cipher-of-a-later-version", NEWER, cipher=2),
            envelope("not-encrypted", DAMAGED, cipher=0),
            envelope("without-keys", DAMAGED, keys=[]),
            envelope("key-twice", DAMAGED, keys=[row, row]),
            envelope("purpose-of-a-later-version", NEWER, keys=[row | {"purpose": 3}]),
            envelope("frames-with-a-medium", DAMAGED, keys=[row | {"medium": s.POOL}]),
            envelope("names-without-a-medium", DAMAGED, keys=[row | {"purpose": 2}]),
            envelope("wrap-too-short", DAMAGED, keys=[row | {"wrapped": bytes(47)}]),
        ],
        "journal-batch": [
            *frame_cases(b"SRJRNL01", s.batch(1, bytes(32), s.state_record("hold")), origin),
            journal("good-unknown-kind", "ok", kind="legal-hold", until=5, object=b"x", hold=s.HOLD),
            journal("reason-of-too-many-bytes", DAMAGED, reason="\u00e9" * 129),
            journal("hold-without-id", DAMAGED, hold=None),
            journal("expiry-of-a-hold", DAMAGED, kind="expiry", hold=s.HOLD),
            journal("good-expiry-never", "ok", kind="expiry"),
            journal("hold-with-until", DAMAGED, until=5),
            journal("lock-without-until", DAMAGED, kind="lock"),
            journal("receipt-without-object", DAMAGED, kind="receipt"),
            journal("hold-with-object", DAMAGED, object=s.HOP),
            case("without-records", DAMAGED, origin(b"SRJRNL01", pack(s.batch(1, bytes(32))))),
        ],
    }  # fmt: skip


def circle() -> list[bytes]:
    """Origin to target, back, and to the target again."""
    back = TARGET.signed(b"SRHOPR01", pack(s.hop(TARGET, ORIGIN, s.digest(s.HOP))))
    again = ORIGIN.signed(b"SRHOPR01", pack(s.hop(ORIGIN, TARGET, s.digest(back))))
    return [s.HOP, back, again]


def returned() -> list[bytes]:
    """Origin to target, to a third domain, and to the target again: it belongs there with the first hop alone."""
    back = THIRD.signed(b"SRHOPR01", pack(s.hop(THIRD, TARGET, s.digest(s.SECOND_HOP))))
    return [s.HOP, s.SECOND_HOP, back]


def journals() -> list[Record]:
    """Journals as lists of batches, and what a reader must say of each."""
    one, two, three = s.BATCH_1, s.BATCH_2, s.BATCH_3
    other_medium = ORIGIN.signed(b"SRJRNL01", pack(s.batch(1, bytes(32), s.state_record("hold"), medium=s.TARGET_POOL)))
    other_second = ORIGIN.signed(b"SRJRNL01", pack(s.batch(2, bytes(32), s.state_record("hold"))))
    foreign = TARGET.signed(b"SRJRNL01", pack(s.batch(1, bytes(32), s.state_record("hold"), domain=TARGET.id)))
    after_one = s.digest(one)
    restored = ORIGIN.signed(b"SRJRNL01", pack(s.batch(2, after_one, s.state_record("hold"), incarnation=2)))
    third_after = ORIGIN.signed(b"SRJRNL01", pack(s.batch(3, s.digest(restored), s.state_record("hold"))))
    other_branch = ORIGIN.signed(b"SRJRNL01", pack(s.batch(2, after_one, s.state_record("hold"))))
    rows: list[tuple[str, list[bytes], int, str]] = [
        ("none", [], 0, "ok"),
        ("whole", [one, two, three], 3, "ok"),
        ("second-missing", [one, three], 1, DAMAGED),
        ("first-missing", [two, three], 0, DAMAGED),
        ("twice-the-same", [one, one, two], 2, "ok"),
        ("second-changed", [one, altered(two, 60), three], 1, SIGNATURE),
        ("second-does-not-name-the-first", [one, other_second], 1, DAMAGED),
        ("of-another-medium", [other_medium], 0, "format.foreign"),
        ("of-another-domain", [foreign], 0, "format.foreign"),
        ("third-of-an-earlier-incarnation", [one, restored, third_after], 2, DAMAGED),
        ("second-of-two-incarnations", [one, two, restored], 2, "ok"),
        ("second-of-two-incarnations-in-the-other-order", [one, restored, two], 2, "ok"),
        ("second-of-an-older-history-only-before-the-third", [one, two, restored, three], 2, DAMAGED),
        ("forked", [one, two, other_branch, three], 1, "journal.forked"),
        ("third-of-a-later-version", [one, two, b"SRJRNL02" + three[8:]], 2, NEWER),
    ]  # fmt: skip
    return [
        {"name": name, "complete_to": to, "outcome": outcome, "batches": [data.hex() for data in batches]}
        for name, batches, to, outcome in rows
    ]


def root_keys() -> list[Case]:
    good = s.root_key_file()
    wrong = "passphrase.wrong"
    no_work = bytes(32)
    return [
        case("good", "ok", good, seed=ORIGIN.root_seed.hex(), domain=ORIGIN.id.hex()),
        case("cut-by-one", DAMAGED, good[:-1]),
        case("one-byte-behind", DAMAGED, good + b"\0"),
        case("later-version", NEWER, b"SRROOT02" + good[8:]),
        case("head-beyond-its-bound", DAMAGED, good[:8] + struct.pack(">I", 1025) + good[12:]),
        case("sealed-part-changed", wrong, altered(good, len(good) - 1)),
        case("salt-changed", wrong, s.root_key_file(derived=no_work, salt=bytes(16))),
        case("another-key-sealed", DAMAGED, s.root_key_file(seed=THIRD.root_seed)),
        case("domain-of-another", DAMAGED, s.root_key_file(derived=no_work, domain=THIRD.id)),
        case("derivation-of-a-later-version", NEWER, s.root_key_file(derived=no_work, kdf=2)),
        case("without-derivation", DAMAGED, s.root_key_file(derived=no_work, kdf=0)),
        case("cipher-of-a-later-version", NEWER, s.root_key_file(derived=no_work, cipher=2)),
        case("not-encrypted", DAMAGED, s.root_key_file(derived=no_work, cipher=0)),
    ]


def keys() -> Record:
    """The secrets and ids from which everything else is made."""
    return {
        "domains": {
            d.name: {
                "id": d.id.hex(),
                "root_seed": d.root_seed.hex(),
                "root_public": d.root.hex(),
                "archive_seeds": {str(n): d.archive_seed(n).hex() for n in (1, 2)},
            }
            for d in (ORIGIN, TARGET, THIRD)
        },
        "pass_phrase": s.PASS_PHRASE,
        "wrapping_keys": {"1": s.WRAPPING_KEY.hex(), "2": s.TARGET_WRAPPING_KEY.hex()},
        "data_keys": {
            key.hex(): {
                "value": value.hex(),
                "frame_key": s.hkdf(value, b"strongroom/data-key/frame/v1\0").hex(),
            }
            for key, value in s.DATA_KEYS.items()
        },
    }


def files() -> dict[str, str]:
    """The text of every vector file, by name."""
    content: dict[str, Any] = {name: {"cases": cases} for name, cases in kinds().items()}
    content["journal"] = {"domain": ORIGIN.id.hex(), "medium": s.POOL.hex(), "cases": journals()}
    content["root-key-file"] = {"pass_phrase": s.PASS_PHRASE, "cases": root_keys()}
    content["keys"] = keys()
    return {f"{name}.json": json.dumps(value, indent=1) + "\n" for name, value in content.items()}


def main() -> None:
    VECTORS.mkdir(exist_ok=True)
    for name, text in files().items():
        (VECTORS / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
