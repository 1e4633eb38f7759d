"""No key and no pass phrase shows itself: not in a repr, a message, a log line or a file in clear."""

from __future__ import annotations

import base64
import logging
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.errors import StrongroomError
from strongroom.core.secret import Secret
from strongroom.formats import key_export, key_file, key_tag, keystore, passphrase
from strongroom.formats.passphrase import normalise
from strongroom.kms.data_keys import DataKeys
from strongroom.kms.phrases import check_strength
from tests.formats.samples import ORIGIN
from tests.support.kms import KmsHome, PhraseKey


def forms(secret: Secret) -> list[str]:
    """What a secret may look like in text."""
    value = secret.reveal()
    return [value.hex(), base64.b64encode(value).decode().rstrip("="), repr(value)[2:-1], str(list(value))[1:-1]]


class Watch:
    """Collects text, and secrets that must not be in it."""

    def __init__(self) -> None:
        self.secrets: list[Secret] = []
        self.text: list[str] = []

    def fails(self, call: Callable[[], object]) -> None:
        """Collect what an error says, and its traceback as a log would show it."""
        with pytest.raises(StrongroomError) as caught:
            call()
        error = caught.value
        self.text += [str(error), repr(error), error.hint, str(error.context)]
        self.text += traceback.format_exception(error)

    def check(self) -> None:
        text = "\n".join(self.text)
        for secret in self.secrets:
            for form in forms(secret):
                assert form not in text


def test_no_secret_in_reprs_errors_and_logs(
    home: KmsHome, phrase_key: PhraseKey, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    cheap = Secret(b"cheaply derived key for a test!!")
    derived = [cheap]
    monkeypatch.setattr(passphrase, "derive", lambda *_: derived[-1])
    watch = Watch()
    home.keys.create_group("g")
    view = home.keys.create_key("g", "one", active=True)
    made = home.keys.create_pass_phrase_key("g", "two")
    wrong, weak = normalise("velvet orbit candle raft nothing mumble"), normalise("Passwort1234!")
    batch = DataKeys(home.ring, ORIGIN.signer(), 1, home.clock, home.entropy).issue(view.group, 2)
    kms_key = home.ring.decrypting_key(view.tag)
    watch.secrets += [kms_key, made.phrase, wrong, weak, cheap, home.hmk.key, home.kpk.key]
    watch.secrets += [secret for _, secret in batch.keys]

    contents = home.store.read()
    export = home.keys.export_groups(["g"], phrase_key.phrase)
    opened = key_export.open_file(export, phrase_key.phrase)
    for shown in (view, made, batch, home.hmk, home.store, home.keys, home.ring, contents.keys, opened):
        watch.text += [repr(shown), str(shown)]
    watch.text.append(made.sheet)

    watch.fails(lambda: home.keys.create_pass_phrase_key("g", "three", weak))
    watch.fails(lambda: check_strength(weak))
    watch.fails(lambda: home.keys.recover(made.key.tag, wrong, group="g", name="x"))
    derived.append(Secret(bytes(range(32))))
    watch.fails(lambda: home.keys.check(made.key.tag, wrong))
    watch.fails(lambda: home.keys.import_export(export, wrong))
    watch.fails(lambda: key_tag.check_key(kms_key, made.key.tag))
    damaged = key_file.encode(home.hmk)[:-1] + b"\0"
    watch.fails(lambda: key_file.decode(damaged, "hmk"))
    watch.fails(lambda: key_file.decode(home.hmk.key.reveal(), "hmk"))
    watch.fails(lambda: keystore.open_file(home.keystore.read_bytes(), home.kpk, home.kpk))
    watch.text += [record.getMessage() for record in caplog.records]
    watch.check()


def test_the_watch_sees_a_secret_that_shows() -> None:
    """The test above would be worthless if it could not fail."""
    watch = Watch()
    watch.secrets.append(Secret(b"0123456789abcdef"))
    watch.text.append(f"the key is {b'0123456789abcdef'.hex()}")
    with pytest.raises(AssertionError):
        watch.check()


def test_keys_are_not_written_out(home: KmsHome, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(home.hmk)
    home.keys.create_group("g")
    key = home.keys.create_key("g", "one", active=True)
    value = home.ring.decrypting_key(key.tag).reveal()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or value not in path.read_bytes()
