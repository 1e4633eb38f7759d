"""Tokens, fingerprints, hosts and certificates over REST (T2, T3, T5, T6)."""

from __future__ import annotations

from fastapi.testclient import TestClient
from sqlalchemy import select

from strongroom.core.ids import to_text
from strongroom.database import read
from strongroom.pki.fingerprint import fingerprint_of, read_pin
from strongroom.pki.tables import pki_tokens
from tests.support.api import Stage

REQUEST = {"name": "for-munich", "reason": "the other site", "purpose": "trust", "valid_seconds": 3_600, "uses": 2}


def test_a_token_is_shown_once_and_kept_as_a_hash(stage: Stage, admin: TestClient) -> None:
    """T3."""
    made = admin.post("/v1/tokens", json=REQUEST)
    assert made.status_code == 201, made.text
    token = made.json()["token"]
    assert token.startswith("SRT-")
    assert made.json()["created_by"] == "administrator"
    listed = admin.get("/v1/tokens").json()["items"]
    assert [(one["name"], one["uses"], one["used"], one["purpose"]) for one in listed] == [
        ("for-munich", 2, 0, "trust")
    ]
    assert "token" not in listed[0]
    with read(stage.engine) as connection:
        row = connection.execute(select(pki_tokens)).one()
    assert token not in repr(row)
    assert token.replace("-", "") not in repr(row)


def test_a_withdrawn_token_stays_listed(admin: TestClient) -> None:
    admin.post("/v1/tokens", json=REQUEST)
    assert admin.delete("/v1/tokens/for-munich").json()["revoked"] is not None
    assert admin.get("/v1/tokens").json()["items"][0]["revoked"] is not None
    missing = admin.delete("/v1/tokens/other")
    assert (missing.status_code, missing.json()["code"]) == (404, "pki.token-not-found")


def test_a_name_is_used_once_and_an_order_that_makes_no_sense_is_told(admin: TestClient) -> None:
    admin.post("/v1/tokens", json=REQUEST)
    again = admin.post("/v1/tokens", json=REQUEST)
    assert (again.status_code, again.json()["code"]) == (409, "pki.name-taken")
    roleless = admin.post("/v1/tokens", json=REQUEST | {"name": "h", "purpose": "enrol-host"})
    assert (roleless.status_code, roleless.json()["code"]) == (400, "token.bad-request")


def test_listings_come_in_pages(admin: TestClient) -> None:
    for number in range(5):
        admin.post("/v1/tokens", json=REQUEST | {"name": f"t{number}"})
    seen, after = [], None
    for _ in range(3):
        page = admin.get("/v1/tokens", params={"limit": 2} | ({"after": after} if after else {})).json()
        seen += [one["name"] for one in page["items"]]
        after = page["next"]
    assert seen == ["t0", "t1", "t2", "t3", "t4"]
    assert after is None


def test_the_fingerprint_is_shown_in_hex_and_words_and_sha1_for_comparison_only(
    stage: Stage, admin: TestClient
) -> None:
    """T2."""
    told = admin.get("/v1/ca").json()
    pin = fingerprint_of(stage.primary.root.certificate)
    assert read_pin(told["fingerprint_sha256"]) == pin
    assert read_pin(" ".join(told["words"])) == pin
    assert len(told["fingerprint_sha1_for_comparison"]) == 40
    assert told["verified"] is True
    assert told["domain"] == to_text(stage.primary.domain)
    assert len(told["issuing"]) == 2
    sha1 = {"server": "127.0.0.1:1", "fingerprint": told["fingerprint_sha1_for_comparison"], "token": "t"}
    refused = admin.post("/v1/trusts", json=sha1)
    assert (refused.status_code, refused.json()["code"]) == (400, "pki.sha1-not-accepted")


def test_hosts_and_their_certificates_are_listed_and_revoked(stage: Stage, admin: TestClient) -> None:
    (host,) = admin.get("/v1/hosts").json()["items"]
    assert (host["role"], host["state"], host["home_domain"]) == ("primary", "active", to_text(stage.primary.domain))
    serial = host["certificates"][0]["serial"]
    (certificate,) = admin.get("/v1/certificates").json()["items"]
    assert (certificate["owner"], certificate["serial"], certificate["host"]) == ("issued", serial, host["host"])
    assert f"strongroom:primary:{stage.primary.domain.hex()}" in certificate["uris"]
    revoked = admin.post(f"/v1/certificates/{serial}/revoke", json={"reason": "keyCompromise"}).json()
    assert revoked["revoked_at"] is not None
    assert revoked["reason"] == "keyCompromise"
    missing = admin.post("/v1/certificates/abcdef/revoke", json={})
    assert missing.status_code == 404


def test_a_media_server_is_enrolled_elsewhere_with_pin_and_token(stage: Stage, admin: TestClient) -> None:
    """T6."""
    body = {"server": "primary.elsewhere:7443", "fingerprint": "cd" * 32, "token": "SRT-TOKEN"}
    made = admin.post("/v1/certificates/media", json=body)
    assert (made.status_code, made.json()["owner"]) == (201, "held")
    (asked,) = [one for one in stage.there.asked if one[0] == "enrol_elsewhere"]
    assert asked[1:4] == ("primary.elsewhere:7443", bytes.fromhex("cd" * 32), b"SRT-TOKEN")
    assert asked[4].startswith("user:administrator#")
